//! What is read from the event that caused the invocation. An event says *when*, never *what*: any
//! JSON causes a reconcile, and a field of another type than expected is ignored.

mod fields;
mod request;

use serde_json::value::RawValue;

use fields::Fields;

pub use request::{Request, RequestType};

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Plan and report only. `dryRun` is present and neither `false` nor `null`.
    pub is_dry_run: bool,
    pub cause: Cause,
}

/// Who sent it, the first that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// CloudFormation, about the template's custom resource: `RequestType` and `ResponseURL`.
    Deployment(Request),
    /// Somebody who wants to know what is wrong: `diagnose` is present and neither `false` nor `null`.
    Diagnose,
    /// The queue that a topic's notifications come through: `eventSource` of the first of `Records` is
    /// `aws:sqs`.
    Queue,
    /// A topic that calls the function itself: `EventSource` of the first of `Records` is `aws:sns`.
    Notification,
    /// The schedule, or anybody else.
    Schedule,
}

impl Cause {
    /// The word for it in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Cause::Deployment(_) => "CloudFormation",
            Cause::Diagnose => "diagnose",
            Cause::Queue => "queue",
            Cause::Notification => "notification",
            Cause::Schedule => "schedule",
        }
    }
}

impl Event {
    /// Reads the fields without looking into the rest, however deep it is nested.
    pub fn read(json: &RawValue) -> Event {
        let fields = Fields::of(json);
        let is_set = |name| {
            let value: Option<&RawValue> = fields.get(name);
            value.is_some_and(|value| !matches!(value.get(), "false" | "null"))
        };
        let records: Option<Vec<&RawValue>> = fields.get("Records");
        let first = records.and_then(|records| Some(Fields::of(records.first()?)));
        let is_from = |name, source| {
            let first = first.as_ref();
            first.is_some_and(|first| first.get::<String>(name).as_deref() == Some(source))
        };
        Event {
            is_dry_run: is_set("dryRun"),
            cause: match Request::read(&fields) {
                Some(request) => Cause::Deployment(request),
                None if is_set("diagnose") => Cause::Diagnose,
                None if is_from("eventSource", "aws:sqs") => Cause::Queue,
                None if is_from("EventSource", "aws:sns") => Cause::Notification,
                None => Cause::Schedule,
            },
        }
    }
}
