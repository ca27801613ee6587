//! Writes replies as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::Value;
use serde_json::{Value as Json, json};

/// How the strings of a reply are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As text. Bytes that are not UTF-8 become U+FFFD.
    Text,
    Base64,
}

/// Writes a reply of RESP2: nil, integers, strings and arrays of them.
pub fn json(value: &Value, encoding: Encoding) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Int(number) => json!(number),
        Value::BulkString(bytes) => string(bytes, encoding),
        Value::SimpleString(text) => string(text.as_bytes(), encoding),
        // The one status that is not encoded in Base64.
        Value::Okay => json!("OK"),
        Value::Array(values) => values.iter().map(|value| json(value, encoding)).collect(),
        Value::ServerError(error) => {
            let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
            string(text.as_bytes(), encoding)
        }
        // RESP2 has no other values.
        another => string(format!("{another:?}").as_bytes(), encoding),
    }
}

fn string(bytes: &[u8], encoding: Encoding) -> Json {
    match encoding {
        Encoding::Text => json!(String::from_utf8_lossy(bytes)),
        Encoding::Base64 => json!(STANDARD.encode(bytes)),
    }
}
