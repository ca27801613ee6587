//! Parses the text of one variable.

use std::ops::RangeInclusive;

use tokio_rustls::rustls::pki_types::ServerName;

use super::Digest;
use crate::error::Error;

/// A variable as the environment has it. It is unset if it has no value.
pub struct Variable {
    name: &'static str,
    value: Option<String>,
    is_secret: bool,
}

impl Variable {
    /// An empty value counts as unset, since templates pass empty strings.
    pub fn look_up(name: &'static str, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = lookup(name).filter(|value| !value.is_empty());
        Variable {
            name,
            value,
            is_secret: false,
        }
    }

    /// Keeps the value out of errors, which strangers read. Somebody may have put a token in the place of its digest.
    pub fn secret(self) -> Self {
        Variable {
            is_secret: true,
            ..self
        }
    }

    /// Takes the default if the variable is unset.
    pub fn or(self, default: &str) -> Self {
        let value = self.value.or_else(|| Some(default.to_owned()));
        Variable { value, ..self }
    }

    /// Parses the value. Returns `None` if the variable is unset.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the value cannot be parsed.
    pub fn optional<T>(
        self,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = &self.value else {
            return Ok(None);
        };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => {
                let value = match self.is_secret {
                    true => "malformed".to_owned(),
                    false => format!("{value:?}"),
                };
                Err(Error::InvalidConfig(format!(
                    "{} is {value}: expected {expected}",
                    self.name
                )))
            }
        }
    }

    /// Parses the value of a variable that must be set.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the variable is unset or its value cannot be parsed.
    pub fn required<T>(
        self,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let unset = Error::InvalidConfig(format!("{} is not set: expected {expected}", self.name));
        self.optional(expected, parse)?.ok_or(unset)
    }

    /// Parses a number of this unit within the range.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the variable is unset, or if its value is not a decimal number or is out of range.
    pub fn number(self, unit: &str, range: RangeInclusive<usize>) -> Result<usize, Error> {
        let expected = format!("{unit} from {} to {}", range.start(), range.end());
        let parse = |text: &str| decimal(text).filter(|number| range.contains(number));
        self.required(&expected, parse)
    }
}

/// Parses a comma-separated list. Its elements are trimmed, and an empty element is malformed.
pub fn list<T>(element: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Vec<T>> {
    move |value| value.split(',').map(|text| element(text.trim())).collect()
}

/// Only decimal digits are accepted: [`str::parse`] would accept a sign too.
fn decimal(text: &str) -> Option<usize> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

pub fn port_number(text: &str) -> Option<u16> {
    decimal(text)?.try_into().ok().filter(|port| *port > 0)
}

pub fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Accepts what a certificate can be for: a DNS name or an address.
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

pub fn arn(text: &str) -> Option<String> {
    let is_arn = text.starts_with("arn:") && text.split(':').count() >= 6;
    is_arn.then(|| text.to_owned())
}

/// The ID of a replication group or of a user: letters, digits and hyphens, and a letter first.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateUser.html>. A group's ID has at most 40:
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateReplicationGroup.html>
pub fn id(text: &str) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_id = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 40
        && text.bytes().all(is_part);
    is_id.then(|| text.to_owned())
}

/// The hex digits of a SHA-256 sum, in either case.
pub fn sha256(text: &str) -> Option<Digest> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut digest = Digest::default();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = u8::try_from(value(*high)? * 16 + value(*low)?).ok()?;
    }
    Some(digest)
}
