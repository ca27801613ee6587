//! Writes replies as JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::Value;
use serde::{Deserialize, Serialize, Serializer};

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

/// How a reply is written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub encoding: Encoding,
    pub face: Face,
}

/// A reply of RESP2: nil, integers, strings and arrays of them.
pub struct Written<'a>(pub &'a Value, pub Style);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Written(value, style) = *self;
        let bytes = match value {
            Value::Nil => return serializer.serialize_unit(),
            Value::Int(number)
                if style.face == Face::GraphQl && number.unsigned_abs() > LARGEST_EXACT =>
            {
                return serializer.collect_str(number);
            }
            Value::Int(number) => return serializer.serialize_i64(*number),
            Value::BulkString(bytes) => Cow::Borrowed(bytes.as_slice()),
            Value::SimpleString(text) => Cow::Borrowed(text.as_bytes()),
            Value::Okay if style.face == Face::Rest => return serializer.serialize_str("OK"),
            Value::Okay => Cow::Borrowed(b"OK".as_slice()),
            Value::Array(values) => {
                return serializer.collect_seq(values.iter().map(|value| Written(value, style)));
            }
            Value::ServerError(error) => {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                Cow::Owned(text.into_bytes())
            }
            // RESP2 has no other values.
            another => Cow::Owned(format!("{another:?}").into_bytes()),
        };
        match style.encoding {
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
