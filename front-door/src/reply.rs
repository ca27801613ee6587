//! Writes replies as JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::Value;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Error;

/// The largest integer up to which every program that reads JSON tells all integers apart.
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// How strings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Encoding {
    /// As text. Bytes that are not UTF-8 become U+FFFD.
    Text,
    Base64,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Integers are numbers, and the status OK is never in Base64.
    Rest,
    /// An integer that is not exact everywhere is a string.
    GraphQl,
}

/// A reply of RESP2: nil, integers, strings and arrays of them.
pub struct Written<'a>(pub &'a Value, pub Encoding, pub Face);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Written(value, encoding, face) = *self;
        let bytes = match value {
            Value::Nil => return serializer.serialize_unit(),
            Value::Int(number)
                if face == Face::GraphQl && number.unsigned_abs() > LARGEST_EXACT =>
            {
                return serializer.collect_str(number);
            }
            Value::Int(number) => return serializer.serialize_i64(*number),
            Value::BulkString(bytes) => Cow::Borrowed(bytes.as_slice()),
            Value::SimpleString(text) => Cow::Borrowed(text.as_bytes()),
            Value::Okay if face == Face::Rest => return serializer.serialize_str("OK"),
            Value::Okay => Cow::Borrowed(b"OK".as_slice()),
            Value::Array(values) => {
                let values = values.iter().map(|value| Written(value, encoding, face));
                return serializer.collect_seq(values);
            }
            Value::ServerError(error) => {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                Cow::Owned(text.into_bytes())
            }
            // RESP2 has no other values.
            another => Cow::Owned(format!("{another:?}").into_bytes()),
        };
        match encoding {
            Encoding::Text => serializer.serialize_str(&String::from_utf8_lossy(&bytes)),
            Encoding::Base64 => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

/// True if a string of the reply is not UTF-8, so that its text is not what the cache has.
pub fn is_lossy(value: &Value) -> bool {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).is_err(),
        Value::Array(values) => values.iter().any(is_lossy),
        _ => false,
    }
}

/// Writes JSON.
pub fn text_of(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("strings, numbers, and arrays and structures of them")
}

/// Returns the answer if it has at most this many bytes of JSON.
///
/// # Errors
/// [`Error::TooBig`] if it has more.
pub fn admit<T: Serialize>(answer: T, limit: usize) -> Result<T, Error> {
    match text_of(&answer).len() {
        bytes if bytes > limit => Err(Error::TooBig(format!(
            "the answer has {bytes} bytes: at most {limit} are allowed; the commands were sent, and may have been \
             executed"
        ))),
        _ => Ok(answer),
    }
}
