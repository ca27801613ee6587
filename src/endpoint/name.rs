//! The name of an endpoint.

use std::fmt;

use hickory_resolver::proto::rr::Name;

/// The DNS name that is followed, in lower case and absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(pub(super) Name);

impl Endpoint {
    /// Parses a host name as RFC 1123 defines it. The underscore is accepted too, because it is in use.
    /// Returns `None` for any other text, including an address.
    pub fn parse(text: &str) -> Option<Self> {
        let host = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        if !host.split('.').all(is_label) || host.rsplit('.').next().is_some_and(is_numeric) {
            return None;
        }
        let mut name = Name::from_ascii(host).ok()?.to_lowercase();
        name.set_fqdn(true);
        Some(Endpoint(name))
    }
}

/// The name is displayed without its trailing dot.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_ascii().trim_end_matches('.'))
    }
}
