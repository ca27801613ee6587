//! What is read from the event that caused the invocation. An event says *when*, never *what*: any
//! JSON causes a reconcile, and a field of another type than expected is ignored.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::deployment::Request;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Plan and report only. `dryRun` is present and neither `false` nor `null`.
    pub is_dry_run: bool,
    pub cause: Cause,
}

/// Who sent it, the first that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// CloudFormation, about the template's custom resource: `RequestType` and `ResponseURL`.
    Deployment(Request),
    /// A topic, such as a cluster's: `EventSource` of the first of `Records` is `aws:sns`.
    Notification,
    /// The schedule, or anybody else.
    Schedule,
}

/// The name of a field in bytes, because JSON may escape half a surrogate pair, which is no string:
/// a name nobody reads must not hide the ones next to it.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl Event {
    /// Reads the fields without looking into the rest, however deep it is nested.
    pub fn read(json: &RawValue) -> Event {
        let dry_run = field(json, "dryRun");
        let request = serde_json::from_str(json.get());
        let records = field(json, "Records")
            .and_then(|records| serde_json::from_str::<Vec<&RawValue>>(records.get()).ok());
        let source = records
            .and_then(|records| field(records.first()?, "EventSource"))
            .and_then(|source| serde_json::from_str::<String>(source.get()).ok());
        Event {
            is_dry_run: dry_run.is_some_and(|value| !matches!(value.get(), "false" | "null")),
            cause: match (request, source.as_deref()) {
                (Ok(request), _) => Cause::Deployment(request),
                (Err(_), Some("aws:sns")) => Cause::Notification,
                _ => Cause::Schedule,
            },
        }
    }
}

/// The value of a field of an object, and of the last one where its name stands twice, as everywhere
/// in JSON.
fn field<'a>(json: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let fields: HashMap<FieldName, &RawValue> = serde_json::from_str(json.get()).ok()?;
    fields
        .get(&FieldName(Cow::Borrowed(name.as_bytes())))
        .copied()
}
