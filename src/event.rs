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
}

/// The name of a field in bytes, because JSON may escape half a surrogate pair, which is no string:
/// a name nobody reads must not hide the ones next to it.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl Event {
    /// Reads the fields at the top without looking into the rest, however deep it is nested. Where
    /// a name stands twice the last one counts, as everywhere in JSON.
    pub fn read(json: &RawValue) -> Event {
        let fields: HashMap<FieldName, &RawValue> =
            serde_json::from_str(json.get()).unwrap_or_default();
        let dry_run = fields.get(&FieldName(Cow::Borrowed(b"dryRun")));
        Event {
            is_dry_run: dry_run.is_some_and(|value| !matches!(value.get(), "false" | "null")),
        }
    }
}
