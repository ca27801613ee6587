//! Reads the outcome of an invocation, in the words of the tests.

use std::time::Duration;

use nlb_hostname_target::error::Errors;
use nlb_hostname_target::plan::Target;
use nlb_hostname_target::report::{Report, TargetGroupReport};
use serde_json::Value;
use stand_in::aws::{Call, Fault};
use stand_in::lambda::{Answer, Sandbox};
use stand_in::world::World;

pub const DENIED: Fault =
    Fault::Error(403, "AccessDenied", "not authorized to perform this action");
pub const THROTTLED: Fault = Fault::Error(400, "Throttling", "Rate exceeded");
pub const UNAVAILABLE: Fault = Fault::Error(503, "ServiceUnavailable", "try later");

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns the error's type and message.
pub fn error(answer: &Answer) -> (String, String) {
    let error = answer
        .outcome
        .as_ref()
        .expect_err("an invocation that failed");
    let text = |name: &str| error[name].as_str().expect("a text");
    (
        text("errorType").to_owned(),
        what_failed(text("errorMessage")),
    )
}

/// Returns an error's message without the parentheses behind each failure, which say what the failure means for the
/// clients and what comes next.
///
/// # Panics
/// Panics if a failure does not say that, unless it is about the configuration.
pub fn what_failed(message: &str) -> String {
    let failure = |failure: &str| {
        let (what, meaning) = failure.rsplit_once(" (").unwrap_or((failure, ""));
        let says = |word| meaning.contains(word) && meaning.ends_with(')');
        if ["clients", "targets", "invocation", "deployment"]
            .into_iter()
            .any(says)
        {
            return what.to_owned();
        }
        let is_of_configuration = failure.contains("expected") || failure.starts_with("and ");
        assert!(is_of_configuration, "what does it mean? {failure:?}");
        failure.to_owned()
    };
    // A meaning may have a semicolon of its own, so a failure ends with its parenthesis.
    let failures = message.split_inclusive("); ");
    let failures = failures.map(|one| failure(one.strip_suffix("; ").unwrap_or(one)));
    failures.collect::<Vec<_>>().join("; ")
}

/// Returns the result of the first group.
pub fn result(answer: &Answer) -> &Value {
    &answer
        .outcome
        .as_ref()
        .expect("an invocation that succeeded")["targetGroups"][0]
}

/// Reads the log. Each line is JSON.
pub fn log(sandbox: &Sandbox) -> Vec<Value> {
    let lines = sandbox.log().into_iter();
    let read = |line: String| serde_json::from_str(&line).expect("a line of JSON");
    lines.map(read).collect()
}

/// Returns the lines of the log whose message begins with this text.
pub fn lines(sandbox: &Sandbox, message: &str) -> Vec<Value> {
    let mut lines = log(sandbox);
    lines.retain(|line| {
        let text = line["message"].as_str();
        text.is_some_and(|text| text.starts_with(message))
    });
    lines
}

/// Returns the cells of a table of the page. The table's first line begins with this text.
pub fn table<'a>(page: &'a str, begin: &str) -> Vec<Vec<&'a str>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(begin));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &'a str| row.trim_matches('|').split('|').map(str::trim).collect();
    rows.map(cells).collect()
}

/// Returns the report of the first group of an invocation that succeeded.
pub fn first(outcome: Result<Report, Errors>) -> TargetGroupReport {
    outcome.expect("success").target_groups.swap_remove(0)
}

pub fn targets<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Vec<String> {
    targets.into_iter().map(Target::to_string).collect()
}

/// Returns all that ELB acknowledged, with one text for each call.
pub fn changes(calls: &[Call]) -> Vec<String> {
    let changes = calls
        .iter()
        .filter(|call| call.outcome == "Ok" && !call.targets.is_empty());
    let change = |call: &Call| {
        let ids: Vec<_> = call
            .targets
            .iter()
            .map(|target| target.id.as_str())
            .collect();
        let verb = if call.action == "RegisterTargets" {
            '+'
        } else {
            '-'
        };
        format!("{verb}{}", ids.join(","))
    };
    changes.map(change).collect()
}

/// Returns every single value of a metric of the function, in order of arrival.
pub fn samples(world: &World, metric: &str) -> Vec<f64> {
    let data = world.aws.take_data();
    let of_function = data
        .iter()
        .filter(|datum| datum.metric == metric && datum.dimensions[0].0 == "FunctionName");
    of_function
        .flat_map(|datum| datum.samples.clone())
        .collect()
}
