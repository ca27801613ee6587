//! Writes replies as JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::Value;
use serde::{Serialize, Serializer};

/// How the strings of a reply are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As text. Bytes that are not UTF-8 become U+FFFD.
    Text,
    Base64,
}

/// A reply of RESP2: nil, integers, strings and arrays of them.
pub struct Written<'a>(pub &'a Value, pub Encoding);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Written(value, encoding) = *self;
        let bytes = match value {
            Value::Nil => return serializer.serialize_unit(),
            Value::Int(number) => return serializer.serialize_i64(*number),
            Value::BulkString(bytes) => Cow::Borrowed(bytes.as_slice()),
            Value::SimpleString(text) => Cow::Borrowed(text.as_bytes()),
            // The one status that is not encoded in Base64.
            Value::Okay => return serializer.serialize_str("OK"),
            Value::Array(values) => {
                return serializer.collect_seq(values.iter().map(|value| Written(value, encoding)));
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
