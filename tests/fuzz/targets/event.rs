//! Feeds the function the JSON of an event, as Lambda's runtime hands it over.

use nlb_hostname_target::event::{Cause, Event};
use serde_json::Value;
use serde_json::value::RawValue;

/// Checks section 4, in its order of precedence. If serde_json reads the whole event too, both say the same.
pub fn run(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Box<RawValue>>(input) else {
        return;
    };
    let event = Event::read(&json);
    if let Ok(value) = serde_json::from_str(json.get()) {
        assert_eq!(event.is_dry_run, is_dry_run(&value), "dryRun");
        let cause = match event.cause {
            Cause::Deployment(_) => "a deployment",
            Cause::Diagnose => "a diagnosis",
            Cause::Queue => "the queue",
            Cause::Notification => "a notification",
            Cause::Schedule => "the schedule",
        };
        assert_eq!(cause, expected_cause(&value));
    }
}

/// Returns true if the event asks for a dry run. The case and the underscores of the name do not matter.
fn is_dry_run(event: &Value) -> bool {
    let fields = event.as_object().into_iter().flatten();
    let mut spelled =
        fields.filter(|(name, _)| name.replace('_', "").eq_ignore_ascii_case("dryrun"));
    spelled.any(|(_, value)| !value.is_null() && *value != false)
}

fn is_set(event: &Value, name: &str) -> bool {
    let value = event.get(name);
    value.is_some_and(|value| !value.is_null() && *value != false)
}

fn expected_cause(event: &Value) -> &'static str {
    let is_text = |name| event.get(name).is_some_and(Value::is_string);
    let request_types = ["Create", "Update", "Delete"].map(Value::from);
    let request_type = event.get("RequestType");
    if request_type.is_some_and(|value| request_types.contains(value)) && is_text("ResponseURL") {
        return "a deployment";
    }
    if is_set(event, "diagnose") {
        return "a diagnosis";
    }
    let is_from = |name: &str, source| {
        let found = event.pointer(&format!("/Records/0/{name}"));
        found.is_some_and(|found| found == source)
    };
    let is_of_a_service = is_text("detail-type") && event["detail-type"] != "Scheduled Event";
    match (
        is_from("eventSource", "aws:sqs"),
        is_from("EventSource", "aws:sns"),
    ) {
        (true, _) => "the queue",
        (false, true) => "a notification",
        _ if is_of_a_service || is_text("alarmArn") => "a notification",
        _ => "the schedule",
    }
}
