//! One level of JSON.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of an object.
pub struct Fields<'a>(HashMap<FieldName<'a>, &'a RawValue>);

/// The name of a field in bytes, because JSON may escape half a surrogate pair, which is no string:
/// a name nobody reads must not hide the ones next to it.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl<'a> Fields<'a> {
    /// None of what is no object. Where a name stands twice the last one counts, as everywhere in
    /// JSON.
    pub fn of(json: &'a RawValue) -> Self {
        Fields(serde_json::from_str(json.get()).unwrap_or_default())
    }

    /// `None` also for a field of another type.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let value = self.0.get(&FieldName(Cow::Borrowed(name.as_bytes())))?;
        serde_json::from_str(value.get()).ok()
    }
}
