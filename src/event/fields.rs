//! Reads one level of JSON.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of an object.
pub struct Fields<'a>(HashMap<FieldName<'a>, &'a RawValue>);

/// The name of a field in bytes. JSON may escape half a surrogate pair, which is not a string, and a name
/// that nobody reads must not hide the names next to it.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl<'a> Fields<'a> {
    /// Reads the fields of an object. Other JSON has no fields. If a name stands twice, the last one counts,
    /// as everywhere in JSON.
    pub fn of(json: &'a RawValue) -> Self {
        Fields(serde_json::from_str(json.get()).unwrap_or_default())
    }

    /// True if a field whose name `is_it` is there and neither `false` nor `null`.
    pub fn is_set(&self, is_it: impl Fn(&[u8]) -> bool) -> bool {
        let mut fields = self.0.iter();
        fields.any(|(name, value)| is_it(&name.0) && !matches!(value.get(), "false" | "null"))
    }

    /// Returns `None` if the field is missing or has another type.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let value = self.0.get(&FieldName(Cow::Borrowed(name.as_bytes())))?;
        serde_json::from_str(value.get()).ok()
    }
}
