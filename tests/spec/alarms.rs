//! Each alarm goes to ALARM for what it is about, once, and back; on every schedule, and however CloudWatch sees it.

mod evaluator;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_yaml_ng::Value;

use crate::stack::Stack;
use evaluator::{MissingData, Rule, State};

const README: &str = include_str!("../../README.md");
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alarms";

/// What a invocation of the schedule comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invocation {
    Good,
    Failover,
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
            "ReconcileFailure" => matches!(self, Invocation::Failed | Invocation::HeldBack),
            _ => panic!("nobody publishes {metric}"),
        };
        let is_seen = match metric {
            "Invocations" | "Errors" => self != Invocation::Absent,
            _ => is_published,
        };
        is_seen.then_some(f64::from(u8::from(value)))
    }
}

/// So many good invocations fill the evaluation range of every alarm.
const LEAD: usize = 14;

const SERIES: [&str; 8] = [
    "quiet",
    "a failover",
    "a failed reconcile",
    "an outage",
    "a bad setting",
    "stopped",
    "a dry run",
    "a new stack",
];

/// What happens, and after how many invocations the alarms begin to be evaluated.
fn series(name: &str) -> (Vec<Invocation>, usize) {
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
        "a failover" => then(&[(Invocation::Failover, 1)]),
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
        let (invocations, lead) = series(name);
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

/// As the README's table says it.
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

/// The stack on a schedule with so many minutes between two invocations, with the parameters that the README tells for it.
fn stack_on(interval: usize) -> Stack {
    let topic = ("AlarmTopicArn", TOPIC);
    if interval == 1 {
        return Stack::new(&[topic]);
    }
    let [failing, not_running] =
        [interval * 3 + 2, interval * 3].map(|minutes| minutes.to_string());
    Stack::new(&[
        topic,
        ("FailingMinutes", &failing),
        ("NotRunningMinutes", &not_running),
    ])
}

/// The README's table: for each alarm the course in each series.
fn table() -> BTreeMap<String, Vec<(String, String)>> {
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = README
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
fn on_every_schedule_each_alarm_takes_the_course_that_the_readme_tells() {
    let table = table();
    for interval in [1, 2, 5, 15, 60] {
        let stack = stack_on(interval);
        let alarms = alarms(&stack);
        assert_eq!(
            alarms.keys().copied().collect::<Vec<_>>(),
            table.keys().collect::<Vec<_>>()
        );
        for (name, alarm) in alarms {
            let columns = table[name].iter().map(|(series, _)| series.as_str());
            assert_eq!(columns.collect::<Vec<_>>(), SERIES);
            for (series, expected) in &table[name] {
                for circumstances in all_circumstances(interval) {
                    let course = course(alarm.states(series, circumstances));
                    assert_eq!(&course, expected, "{name}, {series}, {circumstances:?}");
                }
            }
        }
    }
}

#[test]
fn an_outage_is_told_at_the_third_failed_reconcile_and_its_end_soon_after_the_first_good_one() {
    for interval in [1, 2, 5, 15, 60] {
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
        let course = |name: &str| {
            let series = "a change that never comes";
            course(alarms(&stack)[name].states(series, circumstances))
        };
        assert_eq!(course("ReconcileFailing"), "OK, ALARM, OK");
        assert_eq!(course("FunctionErroring"), "OK");
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
fn a_schedule_of_more_than_a_minute_needs_other_parameters_and_a_rule_asks_for_them() {
    let slow = ("ScheduleExpression", "rate(15 minutes)");
    let email = ("AlarmEmail", "operator@example.com");
    let careless = Stack::new(&[slow, email]);
    let [circumstances, ..] = all_circumstances(15)[..] else {
        panic!("there are circumstances")
    };
    let course = |name, series| course(alarms(&careless)[name].states(series, circumstances));
    assert_eq!(course("ReconcileFailing", "an outage"), "OK", "not noticed");
    assert!(course("FunctionNotRunning", "quiet").starts_with("OK, ALARM, OK, ALARM"));

    let minutes = ("NotRunningMinutes", "45");
    let failing = ("FailingMinutes", "47");
    for (given, is_refused) in [
        (&[slow][..], false),
        (&[email], false),
        (&[("ScheduleExpression", "cron(* * * * ? *)"), email], false),
        (&[slow, email], true),
        (&[slow, email, minutes], true),
        (&[slow, email, failing], true),
        (&[slow, email, failing, minutes], false),
    ] {
        let expected = BTreeSet::from_iter(is_refused.then_some("AlarmsFollowTheSchedule"));
        assert_eq!(Stack::new(given).refusals(), expected, "{given:?}");
    }
}

#[test]
fn alarms_exist_only_with_somebody_to_tell_and_then_tell_them() {
    let email = ("AlarmEmail", "operator@example.com");
    let topic = ("AlarmTopicArn", TOPIC);
    for (given, count, destination, own_topics, subscriptions) in [
        (&[][..], 0, "", 0, 0),
        (&[email], 4, "AlarmTopic", 1, 1),
        (&[topic], 4, TOPIC, 0, 0),
        (&[email, topic], 4, TOPIC, 0, 1),
    ] {
        let stack = Stack::new(given);
        let alarms = stack.resources("AWS::CloudWatch::Alarm");
        assert_eq!(alarms.len(), count, "{given:?}");
        for (name, alarm) in alarms {
            let told = |actions: &str| match alarm[actions].as_sequence() {
                Some(actions) => actions.iter().map(|action| stack.text(action)).collect(),
                None => vec![],
            };
            assert_eq!(told("AlarmActions"), [destination], "{name}");
            let is_event = name == "FailoverHappened";
            let of_the_end = if is_event { vec![] } else { vec![destination] };
            assert_eq!(told("OKActions"), of_the_end, "{name}");
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
fn each_alarm_watches_the_samples_of_this_function_and_says_what_to_do() {
    let stack = Stack::new(&[("AlarmTopicArn", TOPIC), ("MetricNamespace", "Redis")]);
    for (name, alarm) in stack.resources("AWS::CloudWatch::Alarm") {
        let (namespace, statistic) = match stack.text(&alarm["MetricName"]).as_str() {
            "Failover" | "ReconcileFailure" => ("Redis", "Maximum"),
            _ => ("AWS/Lambda", "Sum"),
        };
        assert_eq!(stack.text(&alarm["Namespace"]), namespace, "{name}");
        assert_eq!(stack.text(&alarm["Statistic"]), statistic, "{name}");
        let [dimension] = &alarm["Dimensions"].as_sequence().unwrap()[..] else {
            panic!("{name} has one dimension")
        };
        assert_eq!(dimension["Name"], "FunctionName", "{name}");
        assert_eq!(stack.text(&dimension["Value"]), "Function", "{name}");
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
}
