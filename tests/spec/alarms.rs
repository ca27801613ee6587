//! Checks that each alarm fires in time for what it is about, recovers, and fires for nothing else. The checks cover a
//! week, every mode, and every way in which CloudWatch may see the data.

mod composite;
mod evaluator;
mod week;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_yaml_ng::Value;

use crate::reading::table;
use crate::stack::Stack;
use evaluator::{MissingData, Rule, State};
use week::{
    EPISODE, EVENT, MODES, Mode, Record, SCHEDULES, Schedule, Story, TROUBLE_LENGTH, WEEK, record,
};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alarms";

/// The alarms that send a message.
const NOTIFYING: [&str; 3] = ["FailoverHappened", "Incident", "NoHealthyTarget"];

/// The troubles as the page names them, each with the alarm that reports it.
const TROUBLES: [(&str, Story, Option<&str>); 9] = [
    (
        "No target that the name resolves to is healthy",
        Story::Unhealthy,
        Some("NoHealthyTarget"),
    ),
    ("DNS does not answer", Story::DnsOutage, Some("Incident")),
    ("A change is held back", Story::HeldBack, Some("Incident")),
    ("A setting is invalid", Story::BadSetting, Some("Incident")),
    (
        "CloudWatch does not take the metrics",
        Story::CloudWatchOutage,
        Some("Incident"),
    ),
    (
        "Nothing invokes the function",
        Story::Stopped,
        Some("Incident"),
    ),
    (
        "Somebody deregisters the target every two minutes",
        Story::Fought,
        None,
    ),
    ("A new target stays `initial`", Story::InitialForEver, None),
    ("`DryRun=true`", Story::DryRun, None),
];

/// The circumstances over which the alarms have no control.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    /// The number of data points that CloudWatch retrieves beyond the evaluation periods. Its documentation's example
    /// has two.
    extra: usize,
    /// The number of minutes until a datum is seen.
    lateness: usize,
}

fn all_circumstances() -> Vec<Circumstances> {
    let extras = [2, 3, 5].into_iter();
    let all = extras.flat_map(|extra| [0, 1].map(|lateness| Circumstances { extra, lateness }));
    all.collect()
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

    /// Returns the state at the end of each of these minutes. The first of them is the alarm's first minute.
    fn states(
        &self,
        record: &Record,
        minutes: impl Iterator<Item = usize>,
        circumstances: Circumstances,
    ) -> Vec<State> {
        let length = self.rule.evaluation_periods + circumstances.extra;
        let newest_seen = length - 1 - circumstances.lateness;
        let mut range = VecDeque::from(vec![None; length]);
        let mut state = State::InsufficientData;
        let values = &record[self.metric.as_str()];
        minutes
            .map(|minute| {
                range.pop_front();
                range.push_back(None);
                range[newest_seen] = self.is_breaching(&values[minute]);
                state = self.rule.evaluate(range.make_contiguous(), state);
                state
            })
            .collect()
    }
}

fn alarms(stack: &Stack) -> BTreeMap<&str, Alarm> {
    let definitions = stack.resources("AWS::CloudWatch::Alarm").into_iter();
    definitions
        .map(|(name, properties)| (name, Alarm::read(stack, properties)))
        .collect()
}

fn stack_of(schedule: Schedule) -> Stack {
    Stack::new(&[
        ("AlarmTopicArn", TOPIC),
        ("ScheduleExpression", schedule.expression),
        ("AlarmMinutes", schedule.alarm_minutes),
        ("SchedulePauses", schedule.pauses),
    ])
}

/// Returns the minutes in which each alarm is in ALARM, including the composite one.
fn in_alarm<'a>(
    stack: &'a Stack,
    record: &Record,
    minutes: std::ops::Range<usize>,
    circumstances: Circumstances,
) -> BTreeMap<&'a str, Vec<usize>> {
    let alarms = alarms(stack);
    let states = alarms.iter().map(|(name, alarm)| {
        let states = alarm.states(record, minutes.clone(), circumstances);
        (*name, states)
    });
    let states: BTreeMap<_, _> = states.collect();
    let composite = &stack.resources("AWS::CloudWatch::CompositeAlarm")["Incident"];
    let rule = stack.text(&composite["AlarmRule"]);
    let which = |is_so: &dyn Fn(usize) -> bool| {
        let indices = (0..minutes.len()).filter(|index| is_so(*index));
        indices.map(|index| minutes.start + index).collect()
    };
    let fired = |states: &[State]| which(&|index| states[index] == State::Alarm);
    let mut all: BTreeMap<_, Vec<_>> = states
        .iter()
        .map(|(name, states)| (*name, fired(states)))
        .collect();
    let incident = which(&|index| composite::holds(&rule, |name| states[name][index]));
    all.insert("Incident", incident);
    all
}

/// Returns the alarms that send a message, with the minutes in which they are in ALARM. The first minute is two hours
/// before the hours that are played.
async fn told(schedule: Schedule, mode: Mode, story: Story) -> Vec<BTreeMap<String, Vec<usize>>> {
    let stack = stack_of(schedule);
    let mut all = Vec::new();
    for is_jittery in [false, true] {
        let record = record(schedule, mode, story, is_jittery).await;
        for circumstances in all_circumstances() {
            let minutes = EPISODE - 120..EVENT + 3 * 60;
            let mut fired = in_alarm(&stack, &record, minutes, circumstances);
            fired.retain(|name, minutes| NOTIFYING.contains(name) && !minutes.is_empty());
            let fired = fired.into_iter();
            all.push(
                fired
                    .map(|(name, minutes)| (name.to_owned(), minutes))
                    .collect(),
            );
        }
    }
    all
}

/// The week includes its nights and the weekend.
#[tokio::test(start_paused = true)]
async fn in_a_quiet_week_no_alarm_fires() {
    for schedule in SCHEDULES {
        let stack = stack_of(schedule);
        for (mode, is_jittery) in MODES
            .into_iter()
            .flat_map(|mode| [(mode, false), (mode, true)])
        {
            let record = record(schedule, mode, Story::Quiet, is_jittery).await;
            for circumstances in all_circumstances() {
                let mut fired = in_alarm(&stack, &record, 0..WEEK, circumstances);
                // The week begins with a stack that has never run.
                if let Some(minutes) = fired.get_mut("FunctionNotRunning") {
                    minutes.retain(|minute| *minute > 2);
                }
                fired.retain(|_, minutes| !minutes.is_empty());
                assert_eq!(fired, BTreeMap::new(), "{schedule:?} {circumstances:?}");
            }
        }
    }
}

/// The load balancer takes 1.5 to 5 minutes until the new target serves.
#[tokio::test(start_paused = true)]
async fn a_failover_is_told_as_a_failover_in_every_mode_and_as_nothing_else() {
    let stories = [
        Story::Failover(90),
        Story::Failover(180),
        Story::Failover(300),
        Story::StaggeredFailovers,
    ];
    for schedule in SCHEDULES {
        for (mode, story) in MODES
            .into_iter()
            .flat_map(|mode| stories.map(|story| (mode, story)))
        {
            for told in told(schedule, mode, story).await {
                let names: Vec<_> = told.keys().map(String::as_str).collect();
                assert_eq!(
                    names,
                    ["FailoverHappened"],
                    "{schedule:?} {mode:?} {story:?}"
                );
                let minutes = &told["FailoverHappened"];
                assert!(minutes[0] <= EVENT + 8, "{schedule:?} {mode:?} {story:?}");
                assert!(minutes.len() <= 20, "it is over: {minutes:?}");
            }
        }
    }
}

/// The alarms of a new stack exist before its first invocation and have no data. That does not count as an incident.
#[tokio::test(start_paused = true)]
async fn one_failed_reconcile_is_told_to_nobody_and_a_new_stack_is_no_incident() {
    for story in [Story::FailedReconcile, Story::NewStack] {
        for schedule in SCHEDULES {
            for told in told(schedule, Mode::Scheduled, story).await {
                assert_eq!(told, BTreeMap::new(), "{schedule:?} {story:?}");
            }
        }
    }
}

/// Returns the longest time in minutes until an alarm reports the trouble, or `-` if no alarm reports it.
async fn most_minutes(schedule: Schedule, story: Story, alarm: Option<&str>) -> String {
    let mut most = None;
    for mut told in told(schedule, Mode::Scheduled, story).await {
        if story == Story::InitialForEver {
            told.remove("FailoverHappened")
                .expect("the name has moved, which is no trouble");
        }
        let names: BTreeSet<_> = told.keys().map(String::as_str).collect();
        let is_expected = names.is_empty() || names == BTreeSet::from_iter(alarm);
        assert!(is_expected, "{schedule:?} {story:?}: {told:?}");
        if let Some(minutes) = alarm.and_then(|alarm| told.get(alarm)) {
            let end = EVENT + TROUBLE_LENGTH;
            let is_whole = minutes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            assert!(is_whole, "one message: {schedule:?} {story:?} {minutes:?}");
            assert!(
                minutes[minutes.len() - 1] < end + 30,
                "its end is told, too"
            );
            most = most.max(Some(minutes[0] + 1 - EVENT));
        }
    }
    most.map_or("-".to_owned(), |minutes: usize| minutes.to_string())
}

#[tokio::test(start_paused = true)]
async fn each_trouble_is_told_by_the_alarm_and_in_the_minutes_that_the_page_says() {
    let mut expected = Vec::new();
    for (name, story, alarm) in TROUBLES {
        let mut row = vec![name.to_owned()];
        row.push(alarm.map_or("none".to_owned(), |alarm| format!("`{alarm}`")));
        for schedule in SCHEDULES {
            row.push(most_minutes(schedule, story, alarm).await);
        }
        expected.push(row);
    }
    let as_text = |rows: &[Vec<String>]| {
        let lines = rows.iter().map(|row| format!("| {} |", row.join(" | ")));
        lines.collect::<Vec<_>>().join("\n")
    };
    let shown = table(OPERATIONS, "| What happens | Told by | `rate(1 minute)`");
    let shown = shown.iter().map(|row| row.iter().map(ToString::to_string));
    let shown: Vec<Vec<_>> = shown.map(Iterator::collect).collect();
    assert_eq!(as_text(&shown), as_text(&expected));
}

/// This is why there is a least AlarmMinutes for each schedule: three failures never fit into less.
#[tokio::test(start_paused = true)]
async fn alarms_that_look_at_too_short_a_time_are_blind() {
    let schedule = Schedule {
        alarm_minutes: "5",
        ..SCHEDULES[1]
    };
    let stack = stack_of(schedule);
    let outage = record(schedule, Mode::Scheduled, Story::DnsOutage, false).await;
    for circumstances in all_circumstances() {
        let fired = in_alarm(&stack, &outage, EPISODE..EVENT + 60, circumstances);
        for name in ["ReconcileFailing", "FunctionErroring"] {
            assert_eq!(fired[name], [0; 0], "{name} {circumstances:?}");
        }
    }
}

#[test]
fn a_stopped_function_is_told_only_where_the_schedule_does_not_pause() {
    for (pauses, is_watched) in [("false", true), ("true", false)] {
        let stack = Stack::new(&[("AlarmTopicArn", TOPIC), ("SchedulePauses", pauses)]);
        let alarms = stack.resources("AWS::CloudWatch::Alarm");
        assert_eq!(alarms.contains_key("FunctionNotRunning"), is_watched);
        assert_eq!(alarms.contains_key("FunctionHasRun"), is_watched);
    }
}

#[test]
fn a_failover_that_is_published_minutes_late_is_told() {
    let stack = stack_of(SCHEDULES[0]);
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
            // One incident causes one message, however many alarms see it. A failover is another matter, and so are
            // clients that are affected now: if an incident had begun before, nobody would be told about them.
            let expected = match name {
                name if NOTIFYING.contains(&name) => vec![destination],
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

/// The description must fit into CloudWatch's limit. FunctionHasRun needs nothing else, because it notifies nobody and
/// causes nothing.
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
