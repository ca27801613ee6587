//! The scenarios that run as a process are those of the table in `docs/testing.md`. The table has all that wait on the
//! real clock and no others. It has at least one for each `errorType`, kind of event and invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::reading::table;

const PAGE: &str = include_str!("../../docs/testing.md");
/// The calls that start a process.
const STARTS: [&str; 6] = [
    ".sandbox()",
    ".warm_sandbox()",
    ".run()",
    ".process()",
    "Process::start(",
    "Command::new(binary())",
];

/// Returns the scenarios of each row, by what the row is about.
fn scenarios_by_subject() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = table(PAGE, "| What | Scenarios |").into_iter();
    let scenarios = |cell: &'static str| cell.split(", ").map(|name| name.trim_matches('`'));
    rows.map(|row| (row[0], scenarios(row[1]).collect()))
        .collect()
}

/// Returns the text of each scenario that waits on the real clock or starts the binary itself, by its name.
fn scenarios() -> BTreeMap<String, String> {
    let mut scenarios = BTreeMap::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec");
    for file in fs::read_dir(directory).unwrap() {
        let file = file.unwrap().path();
        let theme = file.file_stem().unwrap().to_str().unwrap();
        if file.is_dir() || theme == "processes" {
            continue;
        }
        for item in fs::read_to_string(&file).unwrap().split("\n}\n") {
            let is_on_the_real_clock = item.contains("#[tokio::test]\n");
            let is_other_test = item.contains("#[test]\n") && item.contains("binary()");
            if is_on_the_real_clock || is_other_test {
                let (_, test) = item.rsplit_once("test]\n").unwrap();
                let (_, name) = test.split_once("fn ").unwrap();
                let (name, body) = name.split_once("()").unwrap();
                scenarios.insert(format!("{theme}::{name}"), body.to_owned());
            }
        }
    }
    scenarios
}

#[test]
fn every_scenario_on_the_real_clock_is_in_the_table_and_has_a_process() {
    let scenarios = scenarios();
    let listed: BTreeSet<_> = scenarios_by_subject().into_values().flatten().collect();
    let found: BTreeSet<_> = scenarios.keys().map(String::as_str).collect();
    assert_eq!(listed, found);
    for (name, body) in &scenarios {
        let is_started = STARTS.iter().any(|start| body.contains(start));
        assert!(is_started, "{name} starts no process");
    }
}

#[test]
fn each_error_event_and_invariant_has_a_scenario_with_a_process() {
    let (table, scenarios) = (scenarios_by_subject(), scenarios());
    let is_shown = |what: &str, text: &str| {
        let names = table.get(what).unwrap_or_else(|| panic!("no row {what}"));
        let mut bodies = names.iter().map(|name| &scenarios[*name]);
        assert!(bodies.any(|body| body.contains(text)), "{what}: no {text}");
    };
    let (_, types) = include_str!("../../src/error.rs")
        .split_once("fn error_type(&self)")
        .unwrap();
    let (types, _) = types.split_once("\n    }\n").unwrap();
    let types: Vec<_> = types.split('"').skip(1).step_by(2).collect();
    assert!(types.len() >= 10, "{types:?}");
    for error_type in types {
        is_shown(&format!("`{error_type}`"), &format!("\"{error_type}"));
    }
    for (what, event) in [
        ("Event of the schedule", "SCHEDULE"),
        ("Event of the queue (SQS)", "QUEUE"),
        ("Event of the topic (SNS)", "NOTIFICATION"),
        ("Event of a service (EventBridge)", "events/rds.json"),
        ("Event of an alarm", "events/alarm.json"),
        ("Event with `dryRun`", "events/dry-run.json"),
        ("Event with `diagnose`", "DIAGNOSE"),
        ("Event of CloudFormation", "event(\"Create\")"),
        ("Event that is any other JSON", "\"null\""),
    ] {
        is_shown(what, event);
    }
    for number in 1..=12 {
        let begin = format!("I{number}: ");
        let rows = table.keys().filter(|what| what.starts_with(&begin));
        assert_eq!(rows.count(), 1, "{begin}");
    }
}
