//! An input that replaces answers of AWS. Each is a line with the call and the status, headers, an
//! empty line and the body; the next one begins behind a line `----`. The last one to a call is given
//! for ever, and a call without any is answered truthfully.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use stand_in::aws::{Aws, Fault};

/// One answer.
pub struct Answer<'a> {
    pub action: &'a str,
    pub status: StatusCode,
    headers: HeaderMap,
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// All that are in the input.
    pub fn read_all(input: &'a [u8]) -> Vec<Self> {
        let texts = Parts {
            rest: Some(input),
            separator: b"\n----\n",
        };
        texts.filter_map(Answer::read).collect()
    }

    /// `None` for what names no call and no status.
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut parts = Parts {
            rest: Some(text),
            separator: b"\n\n",
        };
        let mut lines = str::from_utf8(parts.next()?).ok()?.lines();
        let (action, status) = lines.next()?.split_once(' ')?;
        Some(Answer {
            action,
            status: status.parse().ok()?,
            headers: lines.filter_map(header).collect(),
            body: parts.rest.unwrap_or_default(),
        })
    }

    /// Gives these answers to the calls.
    pub fn inject_all(answers: &[Self], aws: &Aws) {
        for (index, answer) in answers.iter().enumerate() {
            let mut later = answers[index + 1..].iter();
            let is_last = !later.any(|later| later.action == answer.action);
            let times = if is_last { None } else { Some(1) };
            let body = answer.body.to_vec().into();
            let fault = Fault::Raw(answer.status, answer.headers.clone(), body);
            aws.inject_where(answer.action, None, fault, times);
        }
    }
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(": ")?;
    Some((name.parse().ok()?, value.parse().ok()?))
}

/// What stands between separators.
struct Parts<'a> {
    rest: Option<&'a [u8]>,
    separator: &'static [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut windows = rest.windows(self.separator.len());
        let end = windows.position(|window| window == self.separator);
        self.rest = end.map(|end| &rest[end + self.separator.len()..]);
        Some(&rest[..end.unwrap_or(rest.len())])
    }
}
