//! Reads an input that replaces answers of AWS. Each answer has a line with the call and the status, the headers, an
//! empty line and the body. The next one begins after a line `----`. The last answer to a call is given forever, and a
//! call without an answer is answered truthfully.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use stand_in::aws::{Aws, Call, Fault};

/// One answer.
pub struct Answer<'a> {
    pub action: &'a str,
    pub status: StatusCode,
    headers: HeaderMap,
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads all answers in the input.
    pub fn read_all(input: &'a [u8]) -> Vec<Self> {
        let texts = Parts {
            rest: Some(input),
            separator: b"\n----\n",
        };
        texts.filter_map(Answer::read).collect()
    }

    /// Returns `None` if the text does not name a call and a status.
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

    /// Returns the answer that one of the calls was given, or `None` if the call was answered truthfully.
    pub fn given<'b>(answers: &'b [Self], calls: &[Call], index: usize) -> Option<&'b Self> {
        let action = &calls[index].action;
        let earlier = calls[..index].iter().filter(|call| call.action == *action);
        let mut its = answers.iter().filter(|answer| answer.action == action);
        let last = its.clone().next_back();
        its.nth(earlier.count()).or(last)
    }

    /// Returns true if Elastic Load Balancing answers like this to a call that succeeded, by its own protocol: the body
    /// is one document, whose root element is named after the call.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RegisterTargets.html>
    pub fn is_from_load_balancing(&self) -> bool {
        let name = format!("{}Response", self.action);
        let text = str::from_utf8(self.body);
        self.status.is_success() && text.is_ok_and(|text| is_document(text, &name))
    }

    /// Returns true if CloudWatch answers like this to a `PutMetricData` that succeeded: with a header of AWS's, and
    /// with no body or an empty map.
    /// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
    pub fn is_from_cloudwatch(&self) -> bool {
        let protocol = self.headers.get("smithy-protocol");
        let is_from_aws = protocol.is_some_and(|protocol| protocol == "rpc-v2-cbor")
            || self.headers.contains_key("x-amzn-requestid");
        self.status.is_success() && is_from_aws && (self.body.is_empty() || is_empty_map(self.body))
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

/// Returns true if the text has nothing but one element of that name, closed by its own name.
fn is_document(text: &str, name: &str) -> bool {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut is_root_read) = (0, false);
    loop {
        let is_in_root = depth > 0;
        let may_open = |start: &BytesStart| {
            is_in_root || (!is_root_read && start.local_name().as_ref() == name)
        };
        match reader.read_event() {
            Ok(Event::Eof) => return is_root_read && !is_in_root,
            Ok(Event::Start(start)) if may_open(&start) => {
                (depth, is_root_read) = (depth + 1, true)
            }
            Ok(Event::Empty(start)) if may_open(&start) => is_root_read = true,
            Ok(Event::End(_)) => depth -= 1,
            Ok(Event::Decl(_) | Event::Comment(_) | Event::PI(_)) => (),
            Ok(Event::Text(text)) if text.trim_ascii().is_empty() => (),
            Ok(_) if is_in_root => (),
            _ => return false,
        }
    }
}

fn is_empty_map(body: &[u8]) -> bool {
    let mut rest = body;
    let value: Result<ciborium::Value, _> = ciborium::from_reader(&mut rest);
    value.is_ok_and(|value| value == ciborium::Value::Map(Vec::new())) && rest.is_empty()
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(": ")?;
    Some((name.parse().ok()?, value.parse().ok()?))
}

/// The parts of a text between separators.
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
