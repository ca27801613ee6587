//! Parses the text of one variable.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::error::Error;

/// A variable as the environment has it. It is unset if it has no value.
pub struct Variable {
    name: &'static str,
    value: Option<String>,
}

impl Variable {
    /// An empty value counts as unset, since templates pass empty strings.
    pub fn look_up(name: &'static str, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = lookup(name).filter(|value| !value.is_empty());
        Variable { name, value }
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
            None => Err(Error::InvalidConfig(format!("{self}: expected {expected}"))),
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
        let unset = Error::InvalidConfig(format!("{self}: expected {expected}"));
        self.optional(expected, parse)?.ok_or(unset)
    }

    /// Parses the value of a variable that must be set, unless something else takes its place.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] as [`Variable::required`], or only if the value cannot be parsed.
    pub fn required_unless<T>(
        self,
        is_replaced: bool,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match is_replaced {
            true => self.optional(expected, parse),
            false => self.required(expected, parse).map(Some),
        }
    }

    /// Parses a number of this unit within the range.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the variable is unset, or if its value is not a decimal number or is out of range.
    pub fn number(self, unit: &str, range: RangeInclusive<u32>) -> Result<u32, Error> {
        let expected = format!("{unit} from {} to {}", range.start(), range.end());
        let parse = |text: &str| decimal(text).filter(|number| range.contains(number));
        self.required(&expected, parse)
    }
}

impl std::fmt::Display for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is {value:?}", self.name),
            None => write!(f, "{} is not set", self.name),
        }
    }
}

/// Parses a comma-separated list. Its elements are trimmed, and an empty element is malformed.
pub fn list<T>(element: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Vec<T>> {
    move |value| value.split(',').map(|text| element(text.trim())).collect()
}

/// Only decimal digits are accepted: [`str::parse`] would accept a sign too.
fn decimal(text: &str) -> Option<u32> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

pub fn port(text: &str) -> Option<u16> {
    decimal(text)?.try_into().ok().filter(|port| *port > 0)
}

pub fn dns_server(text: &str) -> Option<SocketAddr> {
    const DNS_PORT: u16 = 53;
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, DNS_PORT));
    address
        .or_else(|_| text.parse())
        .ok()
        .filter(|server| server.port() > 0)
}

/// A CIDR may have no bit set behind its prefix: `10.0.0.1/8` is a slip of somebody who meant one address.
pub fn cidr(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .filter(|cidr: &IpNet| cidr.trunc() == *cidr)
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Namespace>
pub fn namespace(text: &str) -> Option<String> {
    let is_valid = (1..=255).contains(&text.len())
        && !text.starts_with("AWS/")
        && !text.starts_with(':')
        && !text.trim().is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_/#: ".contains(&byte));
    is_valid.then(|| text.to_owned())
}

/// The domain is parsed into lower case, without its trailing dot. It must contain a dot, because anybody can
/// have a name under a top-level domain.
pub fn domain(text: &str) -> Option<String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_letter);
    (domain.contains('.') && domain.split('.').all(is_label)).then_some(domain)
}

/// The value of the tag of a fleet.
pub fn fleet(text: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (text.len() <= 64 && text.bytes().all(is_letter)).then(|| text.to_owned())
}

pub fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

pub fn minutes(text: &str) -> Option<Duration> {
    let seconds = decimal(text)?.checked_mul(60)?;
    Some(Duration::from_secs(seconds.into()))
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html#eb-rate-expressions>
pub fn rate(text: &str) -> Option<Duration> {
    let (value, unit) = text
        .strip_prefix("rate(")?
        .strip_suffix(')')?
        .split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        _ => return None,
    };
    let seconds = decimal(value)?.checked_mul(seconds)?;
    Some(Duration::from_secs(seconds.into()))
}
