//! This module reads the event that caused the invocation. An event says *when*, never *what*: any JSON
//! causes a reconcile, and a field of another type than expected is ignored.

mod fields;
mod request;

use serde_json::value::RawValue;

use fields::Fields;

pub use request::{Request, RequestType};

/// What is read from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The invocation only plans and reports. `dryRun` is present and neither `false` nor `null`.
    pub is_dry_run: bool,
    pub cause: Cause,
}

/// What caused the invocation. The first variant that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// CloudFormation asks about the template's custom resource: `RequestType` and `ResponseURL` are present.
    Deployment(Request),
    /// Somebody wants to know what is wrong: `diagnose` is present and neither `false` nor `null`.
    Diagnose,
    /// A topic's notification came through the queue: `eventSource` of the first of `Records` is `aws:sqs`.
    Queue,
    /// A topic called the function itself: `EventSource` of the first of `Records` is `aws:sns`.
    Notification,
    /// The schedule or anybody else called the function.
    Schedule,
}

impl Cause {
    /// The word for the cause in the log.
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
