//! Counts what the sequences went through, so that nobody takes silence for proof.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::check::{
    BAD_TAG, CAME_BACK, DELETED, DOUBTED, EMPTIED, FLAWLESS, HELD_BACK, IN_PART, KEPT, RENAMED,
    SWEPT, Stories, UNSENT, WAITED,
};
use crate::fault::{CallFault, DnsFault};
use crate::history::{Call, Entry, Life, What};
use crate::sequence::{ABROAD, ACTIONS, Event, LONG_TTL, MOST_GROUPS, Setting};

/// The least number of times that each thing that can go wrong has to occur in a full run.
const OF_EACH_FAULT: u64 = 100;
const OF_EACH_STORY: u64 = 1000;
const OF_LARGE_FLEETS: u64 = 5;
/// The number of sequences in a full run.
pub const FULL_RUN: u64 = 10_000;

#[derive(Debug, Default)]
pub struct Figures {
    pub sequences: u64,
    with_two_sandboxes: u64,
    steps: u64,
    reconciles: u64,
    fewest_reconciles: Option<u64>,
    invocations: BTreeMap<Event, u64>,
    overlapping: u64,
    calls: u64,
    call_faults: BTreeMap<(String, CallFault), u64>,
    dns_faults: BTreeMap<DnsFault, u64>,
    losses: BTreeMap<String, u64>,
    stories: BTreeMap<&'static str, u64>,
}

const FAIL_BACK: &str = "fail-back while draining";
const LOST_ANSWER: &str = "change whose answer was lost";
const REPEATED: &str = "failover published, its answer lost";
const UNPUBLISHED: &str = "failover lost with its sandbox";
const MEDDLING: &str = "change by somebody else";
const SLOW: &str = "invocation after 3 minutes or more";
const HOURS: &str = "invocation after an hour or more";
const PAIR: &str = "sequence with a long-standing pair";
const LONG: &str = "sequence with a TTL of a minute or more";
const ZERO: &str = "sequence with TTL 0";
const ROUND_ROBIN: &str = "round robin name of six addresses";
const REFUSED: &str = "call refused by an empty bucket";
const OTHERS: &str = "others who take a part of the calls";
const MANY: &str = "sequence with more than five groups";
const FLEET: &str = "sequence with a fleet";
const LARGE: &str = "sequence with a fleet of up to 500 groups";
const LEFT: &str = "group that leaves the fleet";
const COUNTING: &str = "sequence that counts misses";
const SEVERAL_CACHES: &str = "sequence with several caches behind a resolver";
const STEP: &str = "step of the wall clock";
const OUTAGE: &str = "outage of a name";

/// The current state of one sandbox.
#[derive(Debug, Default)]
struct Doing {
    is_running: bool,
    calls: BTreeMap<u64, String>,
    is_failover_pending: bool,
    ended: Option<Duration>,
}

impl Figures {
    /// Adds one more sequence.
    pub fn add(&mut self, setting: &Setting, history: &[Entry], stories: Stories) {
        let before = self.reconciles;
        let mut lives: BTreeMap<Life, Doing> = BTreeMap::new();
        let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
        for entry in history {
            self.see(setting, entry, &mut lives, &mut calls);
        }
        let is_large = setting.groups() > MOST_GROUPS;
        // One large fleet has more of them than a thousand other sequences. They would hide what those lack.
        for (story, count) in stories {
            if is_large && story != SWEPT {
                continue;
            }
            *self.stories.entry(story).or_default() += count;
        }
        for (story, is_there) in [
            (PAIR, setting.is_pair),
            (LONG, setting.ttl >= LONG_TTL),
            (ZERO, setting.ttl == 0),
            (COUNTING, setting.misses > 0),
            (SEVERAL_CACHES, setting.caches > 1),
            (MANY, setting.groups() > 5),
            (FLEET, setting.is_fleet),
            (LARGE, is_large),
        ] {
            *self.stories.entry(story).or_default() += u64::from(is_there);
        }
        let reconciles = self.reconciles - before;
        let fewest = self.fewest_reconciles.unwrap_or(reconciles);
        self.fewest_reconciles = Some(fewest.min(reconciles));
        self.sequences += 1;
        self.with_two_sandboxes += u64::from(setting.sandboxes == 2);
        self.steps += history.len() as u64;
    }

    fn see(
        &mut self,
        setting: &Setting,
        Entry { at, what }: &Entry,
        lives: &mut BTreeMap<Life, Doing>,
        calls: &mut BTreeMap<u64, Call>,
    ) {
        match what {
            What::Moved { to, .. } if setting.is_rotating && to.len() == ABROAD => {
                self.tell(ROUND_ROBIN);
            }
            What::Moved {
                is_failback: true, ..
            } => self.tell(FAIL_BACK),
            What::Meddled { .. } => self.tell(MEDDLING),
            What::Stepped { .. } => self.tell(STEP),
            What::Tagged { tags, .. } if tags.is_empty() => self.tell(LEFT),
            What::Out { is_over: false, .. } => self.tell(OUTAGE),
            What::Begun { life, event } => {
                *self.invocations.entry(*event).or_default() += 1;
                self.overlapping += u64::from(lives.values().any(|doing| doing.is_running));
                let doing = lives.entry(*life).or_default();
                doing.is_running = true;
                let pause = doing.ended.map_or(Duration::ZERO, |ended| *at - ended);
                if pause >= Duration::from_secs(3600) {
                    self.tell(HOURS);
                } else if pause >= Duration::from_secs(179) {
                    self.tell(SLOW);
                }
            }
            What::Others { share } if *share > 0.0 => self.tell(OTHERS),
            What::Arrived {
                fault: None,
                outcome,
                ..
            } if outcome == "Throttling" => self.tell(REFUSED),
            What::Disturbed { fault, .. } => *self.dns_faults.entry(*fault).or_default() += 1,
            What::Called(call) => {
                self.calls += 1;
                let doing = lives.entry(call.life).or_default();
                // A call that is tried again no longer waits for its earlier attempt.
                doing.calls.retain(|_, action| *action != call.action);
                doing.calls.insert(call.id, call.action.clone());
                calls.insert(call.id, call.clone());
            }
            What::Arrived {
                call,
                fault: Some(fault),
                outcome,
                data,
                ..
            } => {
                let action = &calls[call].action;
                *self
                    .call_faults
                    .entry((action.clone(), *fault))
                    .or_default() += 1;
                let is_lost = fault.is_lost_answer() && outcome.starts_with("Ok");
                let mut failovers = data.iter().filter(|datum| datum.metric == "Failover");
                match action.as_str() {
                    "RegisterTargets" | "DeregisterTargets" if is_lost => self.tell(LOST_ANSWER),
                    _ if is_lost && failovers.any(|datum| datum.samples.contains(&1.0)) => {
                        self.tell(REPEATED);
                    }
                    _ => (),
                }
            }
            What::Returned { call } => {
                let call = &calls[call];
                let doing = lives.entry(call.life).or_default();
                doing.calls.remove(&call.id);
                match call.action.as_str() {
                    "DeregisterTargets" => doing.is_failover_pending = true,
                    "PutMetricData" => doing.is_failover_pending = false,
                    _ => (),
                }
            }
            What::Ended {
                life, reconciles, ..
            } => {
                self.reconciles += reconciles.unwrap_or(1);
                let doing = lives.entry(*life).or_default();
                (doing.is_running, doing.ended) = (false, Some(*at));
                doing.calls.clear();
            }
            What::Lost { life } => {
                let doing = lives.remove(life).unwrap_or_default();
                // The last call counts, because an earlier one may never have been answered.
                let during = doing.calls.into_values().next_back();
                let during = during.unwrap_or_else(|| "no call".to_owned());
                *self.losses.entry(during).or_default() += 1;
                if doing.is_failover_pending {
                    self.tell(UNPUBLISHED);
                }
            }
            _ => (),
        }
    }

    fn tell(&mut self, story: &'static str) {
        *self.stories.entry(story).or_default() += 1;
    }

    /// Adds the figures of another thread.
    pub fn merge(&mut self, other: Figures) {
        fn add<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        self.sequences += other.sequences;
        self.with_two_sandboxes += other.with_two_sandboxes;
        self.steps += other.steps;
        self.reconciles += other.reconciles;
        let fewest = [self.fewest_reconciles, other.fewest_reconciles];
        self.fewest_reconciles = fewest.into_iter().flatten().min();
        add(&mut self.invocations, other.invocations);
        self.overlapping += other.overlapping;
        self.calls += other.calls;
        add(&mut self.call_faults, other.call_faults);
        add(&mut self.dns_faults, other.dns_faults);
        add(&mut self.losses, other.losses);
        add(&mut self.stories, other.stories);
    }

    /// Returns what a full run must go through and this one has not gone through often enough.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |name: String, count: Option<&u64>, least: u64| {
            let count = count.copied().unwrap_or(0);
            if count < least {
                missing.push(format!("{name}: {count}, not {least}"));
            }
        };
        for action in ACTIONS {
            for fault in CallFault::all() {
                let count = self.call_faults.get(&(action.to_owned(), fault));
                need(format!("{fault:?} of {action}"), count, OF_EACH_FAULT);
            }
            let name = format!("sandboxes lost during {action}");
            need(name, self.losses.get(action), OF_EACH_FAULT);
        }
        for fault in DnsFault::all() {
            need(
                format!("{fault:?} of DNS"),
                self.dns_faults.get(&fault),
                OF_EACH_FAULT,
            );
        }
        need(
            "overlapping invocations".to_owned(),
            Some(&self.overlapping),
            OF_EACH_STORY,
        );
        for event in [
            Event::Schedule,
            Event::Notification,
            Event::Queue,
            Event::DryRun,
        ] {
            let count = self.invocations.get(&event);
            need(format!("{event:?}"), count, OF_EACH_STORY);
        }
        for story in [
            FAIL_BACK,
            LOST_ANSWER,
            MEDDLING,
            HELD_BACK,
            CAME_BACK,
            DOUBTED,
            WAITED,
            FLAWLESS,
            STEP,
            OUTAGE,
            SEVERAL_CACHES,
            SLOW,
            HOURS,
            PAIR,
            LONG,
            COUNTING,
            REFUSED,
            OTHERS,
            FLEET,
            LEFT,
            RENAMED,
            BAD_TAG,
            DELETED,
            SWEPT,
        ] {
            need(story.to_owned(), self.stories.get(story), OF_EACH_STORY);
        }
        for story in [
            REPEATED,
            UNPUBLISHED,
            ZERO,
            EMPTIED,
            KEPT,
            ROUND_ROBIN,
            UNSENT,
            MANY,
            IN_PART,
        ] {
            need(story.to_owned(), self.stories.get(story), OF_EACH_FAULT);
        }
        need(LARGE.to_owned(), self.stories.get(LARGE), OF_LARGE_FLEETS);
        missing
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            sequences,
            with_two_sandboxes,
            steps,
            reconciles,
            ..
        } = self;
        let fewest = self.fewest_reconciles.unwrap_or(0);
        let faults = |faults: u64, of: &str| format!("{faults} {of}");
        let call_faults = self.call_faults.values().sum();
        let dns_faults = self.dns_faults.values().sum();
        writeln!(
            f,
            "sequences    {sequences}, {with_two_sandboxes} of them with two sandboxes"
        )?;
        writeln!(
            f,
            "steps        {steps}, {} calls to AWS among them",
            self.calls
        )?;
        writeln!(f, "reconciles   {reconciles}, at least {fewest} a sequence")?;
        write!(f, "invocations  {} that overlap", self.overlapping)?;
        for (event, count) in &self.invocations {
            write!(f, ", {count} {event:?}")?;
        }
        let total = [
            faults(call_faults, "of calls"),
            faults(dns_faults, "of DNS"),
        ]
        .join(", ");
        writeln!(f, "\nfaults       {total}")?;
        for fault in CallFault::all() {
            write!(f, "  {:12}", format!("{fault:?}"))?;
            for action in ACTIONS {
                let count = self
                    .call_faults
                    .get(&(action.to_owned(), fault))
                    .unwrap_or(&0);
                write!(f, " {count} {action}")?;
            }
            writeln!(f)?;
        }
        let dns = self
            .dns_faults
            .iter()
            .map(|(fault, count)| format!("{count} {fault:?}"));
        writeln!(f, "  DNS          {}", dns.collect::<Vec<_>>().join(" "))?;
        let losses = self
            .losses
            .iter()
            .map(|(during, count)| format!("{count} {during}"));
        writeln!(f, "lost during  {}", losses.collect::<Vec<_>>().join(", "))?;
        let stories = self
            .stories
            .iter()
            .map(|(story, count)| format!("{count} {story}"));
        write!(f, "stories      {}", stories.collect::<Vec<_>>().join(", "))
    }
}
