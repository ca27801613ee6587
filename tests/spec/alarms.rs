//! Each alarm goes to ALARM for what it is about, once, and back; on every schedule, and however CloudWatch sees it.

mod composite;
mod evaluator;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_yaml_ng::Value;

use crate::stack::Stack;
use evaluator::{MissingData, Rule, State};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alarms";

/// What an invocation of the schedule comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invocation {
    Good,
    /// The new target is not healthy yet.
    Failover,
    /// No target is healthy.
    Unhealthy,
    /// A reconcile fails, and so does the invocation.
    Failed,
    /// A plan is held back, which is no error of the invocation.
    HeldBack,
    /// The invocation ends in error, and nothing is published.
    Broken,
    /// Nothing is published.
    DryRun,
    /// There is no invocation.
    Absent,
}

impl Invocation {
    fn value(self, metric: &str) -> Option<f64> {
        let is_error = matches!(self, Invocation::Failed | Invocation::Broken);
        let is_published = !matches!(
            self,
            Invocation::Broken | Invocation::DryRun | Invocation::Absent
        );
        let value = match metric {
            "Invocations" => true,
            "Errors" => is_error,
            "Failover" => self == Invocation::Failover,
            "NoHealthyTarget" => matches!(self, Invocation::Failover | Invocation::Unhealthy),
            "ReconcileFailure" => matches!(self, Invocation::Failed | Invocation::HeldBack),
            _ => panic!("nobody publishes {metric}"),
        };
        let is_seen = match metric {
            "Invocations" | "Errors" => self != Invocation::Absent,
            // It takes a good answer and a description.
            "NoHealthyTarget" => is_published && self != Invocation::Failed,
            _ => is_published,
        };
        is_seen.then_some(f64::from(u8::from(value)))
    }
}

/// So many good invocations fill the evaluation range of every alarm.
const LEAD: usize = 14;

/// For so many minutes a new target is initial at most, by what users of the load balancer report.
const INITIAL: usize = 5;

const SERIES: [&str; 9] = [
    "quiet",
    "a failover",
    "no healthy target",
    "a failed reconcile",
    "an outage",
    "a bad setting",
    "stopped",
    "a dry run",
    "a new stack",
];

/// What happens, and after how many invocations the alarms begin to be evaluated.
fn series(name: &str, interval: usize) -> (Vec<Invocation>, usize) {
    let then = |event: &[(Invocation, usize)]| {
        let parts = [
            &[(Invocation::Good, LEAD + 2)],
            event,
            &[(Invocation::Good, LEAD)],
        ];
        let repeat = |(invocation, count): &(Invocation, usize)| vec![*invocation; *count];
        (parts.concat().iter().flat_map(repeat).collect(), LEAD)
    };
    match name {
        "quiet" => then(&[]),
        "a failover" => {
            let initial = (Invocation::Unhealthy, INITIAL / interval);
            then(&[(Invocation::Failover, 1), initial])
        }
        "no healthy target" => then(&[(Invocation::Unhealthy, 10)]),
        "a failed reconcile" => then(&[(Invocation::Failed, 1)]),
        "an outage" => then(&[(Invocation::Failed, 10)]),
        "a change that never comes" => then(&[(Invocation::HeldBack, 10)]),
        "a bad setting" => then(&[(Invocation::Broken, 10)]),
        "stopped" => then(&[(Invocation::Absent, 16)]),
        "a dry run" => then(&[(Invocation::DryRun, 16)]),
        "a new stack" => (
            [&[Invocation::Absent][..], &[Invocation::Good; LEAD]].concat(),
            0,
        ),
        _ => panic!("{name} is unknown"),
    }
}

/// What the alarms do not decide.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    /// Minutes between two invocations.
    interval: usize,
    /// How many data points CloudWatch retrieves beyond the evaluation periods: two, in its documentation's example.
    extra: usize,
    /// Minutes until a datum is seen.
    lateness: usize,
    /// Some invocations come a minute late, so that one minute may have none and another one two.
    is_jittery: bool,
}

fn all_circumstances(interval: usize) -> Vec<Circumstances> {
    let mut all = Vec::new();
    for extra in [2, 3, 5] {
        for lateness in [0, 1] {
            for is_jittery in [false, true] {
                all.push(Circumstances {
                    interval,
                    extra,
                    lateness,
                    is_jittery,
                });
            }
        }
    }
    all
}

struct Alarm {
    metric: String,
    statistic: String,
    comparison: String,
    threshold: f64,
    rule: Rule,
}

impl Alarm {
    fn read(stack: &Stack, properties: &Value) -> Self {
        let text = |name: &str| stack.text(&properties[name]);
        let number = |name: &str| stack.number::<usize>(&properties[name]);
        assert_eq!(number("Period"), 60, "a data point is a minute");
        Self {
            metric: text("MetricName"),
            statistic: text("Statistic"),
            comparison: text("ComparisonOperator"),
            threshold: stack.number(&properties["Threshold"]),
            rule: Rule {
                evaluation_periods: number("EvaluationPeriods"),
                datapoints_to_alarm: number("DatapointsToAlarm"),
                missing_data: match text("TreatMissingData").as_str() {
                    "missing" => MissingData::Missing,
                    "ignore" => MissingData::Ignore,
                    "breaching" => MissingData::Breaching,
                    "notBreaching" => MissingData::NotBreaching,
                    other => panic!("{other} is no treatment of missing data"),
                },
            },
        }
    }

    fn is_breaching(&self, values: &[f64]) -> Option<bool> {
        let value = match self.statistic.as_str() {
            _ if values.is_empty() => return None,
            "Sum" => values.iter().sum(),
            "Maximum" => values.iter().copied().fold(f64::MIN, f64::max),
            other => panic!("{other} is unknown"),
        };
        Some(match self.comparison.as_str() {
            "GreaterThanOrEqualToThreshold" => value >= self.threshold,
            "LessThanThreshold" => value < self.threshold,
            other => panic!("{other} is unknown"),
        })
    }

    /// The state at the end of each minute.
    fn states(&self, name: &str, circumstances: Circumstances) -> Vec<State> {
        let (invocations, lead) = series(name, circumstances.interval);
        let minutes = record(&invocations, &self.metric, circumstances);
        let length = self.rule.evaluation_periods + circumstances.extra;
        let newest_seen = length - 1 - circumstances.lateness;
        let mut range = VecDeque::from(vec![None; length]);
        let mut state = State::InsufficientData;
        let mut evaluate = |values: &Vec<f64>| {
            range.pop_front();
            range.push_back(None);
            range[newest_seen] = self.is_breaching(values);
            state = self.rule.evaluate(range.make_contiguous(), state);
            state
        };
        let states: Vec<_> = minutes.iter().map(&mut evaluate).collect();
        states[lead * circumstances.interval..].to_vec()
    }
}

/// The values of each minute.
fn record(invocations: &[Invocation], metric: &str, circumstances: Circumstances) -> Vec<Vec<f64>> {
    let mut minutes = vec![Vec::new(); invocations.len() * circumstances.interval + 1];
    for (index, invocation) in invocations.iter().enumerate() {
        let delay = usize::from(circumstances.is_jittery && index % 4 == 1);
        minutes[index * circumstances.interval + delay].extend(invocation.value(metric));
    }
    minutes
}

/// As the page's table says it.
fn course(mut states: Vec<State>) -> String {
    states.dedup();
    let names = states.iter().map(|state| match state {
        State::Ok => "OK",
        State::Alarm => "ALARM",
        State::InsufficientData => "INSUFFICIENT_DATA",
    });
    names.collect::<Vec<_>>().join(", ")
}

fn alarms(stack: &Stack) -> BTreeMap<&str, Alarm> {
    let definitions = stack.resources("AWS::CloudWatch::Alarm").into_iter();
    definitions
        .map(|(name, properties)| (name, Alarm::read(stack, properties)))
        .collect()
}

/// The one that notifies of everything but failovers, by what the others are at the end of each minute.
fn incident(stack: &Stack, series: &str, circumstances: Circumstances) -> Vec<State> {
    let alarms = alarms(stack);
    let states = alarms
        .iter()
        .map(|(name, alarm)| (*name, alarm.states(series, circumstances)));
    let states: BTreeMap<_, _> = states.collect();
    let rule =
        stack.text(&stack.resources("AWS::CloudWatch::CompositeAlarm")["Incident"]["AlarmRule"]);
    let minutes = 0..states["FailoverHappened"].len();
    let holds = |minute: usize| composite::holds(&rule, |name| states[name][minute]);
    minutes
        .map(|minute| {
            if holds(minute) {
                State::Alarm
            } else {
                State::Ok
            }
        })
        .collect()
}

fn courses(stack: &Stack, name: &str, series: &str, circumstances: Circumstances) -> String {
    course(match name {
        "Incident" => incident(stack, series, circumstances),
        _ => alarms(stack)[name].states(series, circumstances),
    })
}

fn stack_on(interval: usize) -> Stack {
    let interval = interval.to_string();
    Stack::new(&[("AlarmTopicArn", TOPIC), ("ScheduleMinutes", &interval)])
}

/// All that ScheduleMinutes may be.
const INTERVALS: [usize; 8] = [1, 2, 3, 5, 10, 15, 30, 60];

/// The page's table: for each alarm the course in each series.
fn table() -> BTreeMap<String, Vec<(String, String)>> {
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = OPERATIONS
        .lines()
        .skip_while(|line| !line.starts_with("| Alarm | quiet |"));
    let names = cells(lines.next().expect("the table of the alarms"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells = cells(line);
        let courses = names.iter().cloned().zip(cells.iter().cloned()).skip(1);
        (cells[0].clone(), courses.collect())
    };
    rows.map(row).collect()
}

#[test]
fn on_every_schedule_each_alarm_takes_the_course_that_the_page_tells() {
    let table = table();
    for interval in INTERVALS {
        let stack = stack_on(interval);
        let mut names: BTreeSet<_> = stack
            .resources("AWS::CloudWatch::Alarm")
            .into_keys()
            .collect();
        names.extend(
            stack
                .resources("AWS::CloudWatch::CompositeAlarm")
                .into_keys(),
        );
        assert_eq!(names, table.keys().map(String::as_str).collect());
        for name in names {
            let columns = table[name].iter().map(|(series, _)| series.as_str());
            assert_eq!(columns.collect::<Vec<_>>(), SERIES);
            for (series, expected) in &table[name] {
                for circumstances in all_circumstances(interval) {
                    let course = courses(&stack, name, series, circumstances);
                    assert_eq!(&course, expected, "{name}, {series}, {circumstances:?}");
                }
            }
        }
    }
}

#[test]
fn a_schedule_is_of_as_many_minutes_as_are_asked_for() {
    let expression = |interval: usize| match interval {
        1 => "rate(1 minute)".to_owned(),
        60 => "rate(1 hour)".to_owned(),
        _ => format!("rate({interval} minutes)"),
    };
    for interval in INTERVALS {
        let stack = stack_on(interval);
        let functions = stack.resources("AWS::Serverless::Function");
        let schedule = &functions["Function"]["Events"]["Schedule"]["Properties"]["Schedule"];
        assert_eq!(stack.text(schedule), expression(interval));
    }
}

#[test]
fn an_outage_is_told_at_the_third_failed_reconcile_and_its_end_soon_after_the_first_good_one() {
    for interval in INTERVALS {
        let stack = stack_on(interval);
        for circumstances in all_circumstances(interval) {
            if circumstances.is_jittery || circumstances.lateness > 0 {
                continue;
            }
            for name in ["ReconcileFailing", "FunctionErroring"] {
                let states = alarms(&stack)[name].states("an outage", circumstances);
                let is_alarm = |state: &State| *state == State::Alarm;
                let begin = states.iter().position(is_alarm).unwrap();
                let end = states.iter().rposition(is_alarm).unwrap() + 1;
                assert_eq!(begin, (2 + 2) * interval, "{name}, {circumstances:?}");
                let good = (2 + 10) * interval;
                let late = if interval == 1 {
                    0
                } else {
                    2 + circumstances.extra
                };
                assert_eq!(end, good + late, "{name}, {circumstances:?}");
            }
        }
    }
}

#[test]
fn a_change_that_is_held_back_for_long_is_an_alarm_without_an_error() {
    let stack = stack_on(1);
    for circumstances in all_circumstances(1) {
        let course = |name: &str| courses(&stack, name, "a change that never comes", circumstances);
        assert_eq!(course("ReconcileFailing"), "OK, ALARM, OK");
        assert_eq!(course("FunctionErroring"), "OK");
        assert_eq!(course("Incident"), "OK, ALARM, OK");
    }
    let definitions = stack.resources("AWS::CloudWatch::Alarm");
    let description = stack.text(&definitions["ReconcileFailing"]["AlarmDescription"]);
    assert!(
        description.contains("fails or is held back"),
        "{description}"
    );
}

#[test]
fn a_failover_that_is_published_minutes_late_is_told() {
    let stack = stack_on(1);
    let rule = &alarms(&stack)["FailoverHappened"].rule;
    for late in 0..5 {
        let mut range = vec![Some(false); 7];
        range[6 - late] = Some(true);
        assert_eq!(rule.evaluate(&range, State::Ok), State::Alarm, "{late}");
    }
}

#[test]
fn alarms_exist_only_with_somebody_to_tell() {
    let email = ("AlarmEmail", "operator@example.com");
    let topic = ("AlarmTopicArn", TOPIC);
    for (given, count, destination, own_topics, subscriptions) in [
        (&[][..], 0, "", 0, 0),
        (&[email], 7, "AlarmTopic", 1, 1),
        (&[topic], 7, TOPIC, 0, 0),
        (&[email, topic], 7, TOPIC, 0, 1),
    ] {
        let stack = Stack::new(given);
        let mut alarms = stack.resources("AWS::CloudWatch::Alarm");
        alarms.extend(stack.resources("AWS::CloudWatch::CompositeAlarm"));
        assert_eq!(alarms.len(), count, "{given:?}");
        for (name, alarm) in alarms {
            let told = |actions: &str| match alarm[actions].as_sequence() {
                Some(actions) => actions.iter().map(|action| stack.text(action)).collect(),
                None => vec![],
            };
            // One incident is one message, whatever of it is seen; and a failover is another matter.
            let expected = match name {
                "Incident" | "FailoverHappened" => vec![destination],
                _ => vec![],
            };
            assert_eq!(told("AlarmActions"), expected, "{name}");
            assert_eq!(told("OKActions"), expected, "{name}");
        }
        assert_eq!(stack.resources("AWS::SNS::Topic").len(), own_topics);
        let mailed = stack.resources("AWS::SNS::Subscription");
        assert_eq!(mailed.len(), subscriptions, "{given:?}");
        for subscription in mailed.values() {
            assert_eq!(stack.text(&subscription["TopicArn"]), destination);
        }
    }
}

#[test]
fn the_topic_of_the_cluster_is_not_the_one_of_the_alarms() {
    let other = "arn:aws:sns:eu-west-1:123456789012:redis-events";
    for (alarms, failovers, is_refused) in [
        ("", "", false),
        (TOPIC, "", false),
        ("", TOPIC, false),
        (TOPIC, other, false),
        (TOPIC, TOPIC, true),
    ] {
        let stack = Stack::new(&[("AlarmTopicArn", alarms), ("FailoverTopicArn", failovers)]);
        let expected = BTreeSet::from_iter(is_refused.then_some("AlarmsHaveATopicOfTheirOwn"));
        assert_eq!(stack.refusals(), expected, "{alarms} and {failovers}");
    }
}

#[test]
fn each_alarm_watches_the_samples_of_this_function() {
    let stack = Stack::new(&[("AlarmTopicArn", TOPIC), ("MetricNamespace", "Redis")]);
    for (name, alarm) in stack.resources("AWS::CloudWatch::Alarm") {
        let (namespace, statistic) = match stack.text(&alarm["MetricName"]).as_str() {
            "Failover" | "ReconcileFailure" | "NoHealthyTarget" => ("Redis", "Maximum"),
            _ => ("AWS/Lambda", "Sum"),
        };
        assert_eq!(stack.text(&alarm["Namespace"]), namespace, "{name}");
        assert_eq!(stack.text(&alarm["Statistic"]), statistic, "{name}");
        let [dimension] = &alarm["Dimensions"].as_sequence().unwrap()[..] else {
            panic!("{name} has one dimension")
        };
        assert_eq!(dimension["Name"], "FunctionName", "{name}");
        assert_eq!(stack.text(&dimension["Value"]), "Function", "{name}");
    }
}

/// In CloudWatch's limit. FunctionHasRun notifies nobody, and is no cause of anything.
#[test]
fn each_alarm_says_what_it_means_for_the_clients_and_names_its_place_in_the_runbook() {
    let stack = Stack::new(&[("AlarmTopicArn", TOPIC)]);
    let mut alarms = stack.resources("AWS::CloudWatch::Alarm");
    alarms.extend(stack.resources("AWS::CloudWatch::CompositeAlarm"));
    for (name, alarm) in alarms {
        let description = stack.text(&alarm["AlarmDescription"]);
        assert!(description.len() <= 1024, "{name}");
        if name == "FunctionHasRun" {
            continue;
        }
        assert!(
            description.to_lowercase().contains("clients"),
            "{description}"
        );
        let place = format!("docs/operations.md#{}", name.to_lowercase());
        assert!(description.ends_with(&place), "{description}");
        assert!(OPERATIONS.contains(&format!("\n### {name}\n")), "{name}");
    }
}
