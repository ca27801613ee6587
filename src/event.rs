//! Reads the event that caused the invocation. An event says *when*, never *what*: any JSON
//! causes a reconcile, and a field of another type than expected is ignored.

mod fields;
mod request;

use serde_json::value::RawValue;

use fields::Fields;

pub use request::{Request, RequestType};

/// The `detail-type` that both an EventBridge rule with a schedule and EventBridge Scheduler send.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html>
const SCHEDULED_EVENT: &str = "Scheduled Event";

/// What is read from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The invocation only plans and reports. `dryRun` is present and neither `false` nor `null`. The parameter is
    /// spelled `DryRun` and the variable `DRY_RUN`, so every spelling of the word counts.
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
    /// Something happened that may move an endpoint. A topic called the function itself (`EventSource` of the first
    /// of `Records` is `aws:sns`), an EventBridge rule matched an event of a service such as RDS (`detail-type` is
    /// not the schedule's), or an alarm of CloudWatch called the function (`alarmArn`).
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-cloudwatch-events.sample.html>
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html>
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
        let records: Option<Vec<&RawValue>> = fields.get("Records");
        let first = records.and_then(|records| Some(Fields::of(records.first()?)));
        let is_from = |name, source| {
            let first = first.as_ref();
            first.is_some_and(|first| first.get::<String>(name).as_deref() == Some(source))
        };
        let is_scheduled = |kind: &String| kind == SCHEDULED_EVENT;
        let is_event_of_a_service = fields
            .get("detail-type")
            .is_some_and(|kind| !is_scheduled(&kind));
        Event {
            is_dry_run: fields.is_set(is_dry_run),
            cause: match Request::read(&fields) {
                Some(request) => Cause::Deployment(request),
                None if fields.is_set(|name| name == b"diagnose") => Cause::Diagnose,
                None if is_from("eventSource", "aws:sqs") => Cause::Queue,
                None if is_from("EventSource", "aws:sns") => Cause::Notification,
                None if is_event_of_a_service => Cause::Notification,
                None if fields.get::<String>("alarmArn").is_some() => Cause::Notification,
                None => Cause::Schedule,
            },
        }
    }
}

/// True for `dryRun`, in any case and with or without underscores.
fn is_dry_run(name: &[u8]) -> bool {
    let letters = name.iter().filter(|byte| **byte != b'_');
    letters.map(u8::to_ascii_lowercase).eq(*b"dryrun")
}
