//! What is read from the event that caused the invocation. An event says *when*, never *what*: any
//! JSON causes a reconcile, and a field of another type than expected is ignored.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event {
    /// Plan and report only. `dryRun` is present and neither `false` nor `null`.
    pub is_dry_run: bool,
    /// A topic's record, such as a cluster's notification: `EventSource` of the first of `Records` is
    /// `aws:sns`.
    pub is_notification: bool,
}

/// The name of a field in bytes, because JSON may escape half a surrogate pair, which is no string:
/// a name nobody reads must not hide the ones next to it.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl Event {
    /// Reads the fields without looking into the rest, however deep it is nested.
    pub fn read(json: &RawValue) -> Event {
        let dry_run = field(json, "dryRun");
        let records = field(json, "Records")
            .and_then(|records| serde_json::from_str::<Vec<&RawValue>>(records.get()).ok());
        let source = records
            .and_then(|records| field(records.first()?, "EventSource"))
            .and_then(|source| serde_json::from_str::<String>(source.get()).ok());
        Event {
            is_dry_run: dry_run.is_some_and(|value| !matches!(value.get(), "false" | "null")),
            is_notification: source.is_some_and(|source| source == "aws:sns"),
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
