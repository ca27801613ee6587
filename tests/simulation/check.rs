//! The invariants, checked on what happened, entry by entry. It knows the contract and nothing of the
//! code: what DNS and Elastic Load Balancing answered, and when, says what the function may do next.

mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::cloudwatch::Datum;
use stand_in::elb::TargetHealth;
use stand_in::world::PORT;

use crate::history::{Call, Entry, Life, Line, What};
use crate::play::{self, endpoint, kept};
use crate::sequence::{Event, Setting};
use reconcile::{ACT, Followed, MARGIN, Of, Targets, fed};

pub use reconcile::{EMPTIED, KEPT, LEFT_OVER, LONG_STANDING, SLEPT, live};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub text: String,
    pub at: Duration,
}

type Broken = (&'static str, String);

fn broken(promise: &'static str, text: impl Into<String>) -> Result<(), Broken> {
    Err((promise, text.into()))
}

/// How often the checker met what the figures are to tell, its own leniency included.
pub type Stories = BTreeMap<&'static str, u64>;

pub const BOTH_SLEPT: &str = "two sandboxes whose doubts slept too long";
pub const HELD_BACK: &str = "plan held back at the end";
const TO_AND_FRO: &str = "lenient: emptied within I8's limit";
const UNSURE: &str = "lenient: failure of a shared endpoint";

/// A change of somebody else's that no run under way has seen.
const UNSEEN: Duration = Duration::from_secs(15);
/// Section 1: so many reads and registrations at first, and so many a second from then on.
const READS: (f64, f64) = (20.0, 5.0);
const REGISTRATIONS: (f64, f64) = (16.0, 3.0);
/// Before Lambda's own timeout.
const LATEST_ANSWER: Duration = Duration::from_millis(74_500);
/// Section 3: 75 s, of which 8 s are kept for the last calls and publishing.
const DEADLINE: Duration = Duration::from_secs(67);
/// I10: what waits for publishing longer than this may be dropped, after 3 hours.
const KEPT_DATA: Duration = Duration::from_secs(10_000);

/// What came to the service.
#[derive(Debug)]
struct Arrival {
    at: Duration,
    outcome: String,
    group: Vec<TargetHealth>,
    data: Vec<Datum>,
}

/// What CloudWatch acknowledged, under one dimension.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    reconciles: u32,
    failovers: u32,
    failures: u32,
}

/// A sandbox, and the invocation that runs in it.
#[derive(Debug, Default)]
struct Running {
    begun: Duration,
    event: Option<Event>,
    groups: BTreeMap<usize, Followed>,
    /// When each that waits for its answer was asked.
    questions: BTreeMap<(String, u16), Vec<Duration>>,
    /// The beginnings of chains whose ends are still asked for.
    chains: BTreeMap<usize, Duration>,
    is_publishing_failed: bool,
    /// The fewest and the most that there were.
    reconciles: (u32, u32),
    /// Under `FunctionName` and `TargetGroup`.
    published: [Sums; 2],
    /// The sandbox was lost, or kept its data for too long.
    is_lost: bool,
    /// The oldest data that may be unpublished.
    waiting_since: Option<Duration>,
    was_dry_run: bool,
    /// Calls of the invocation.
    reads: u32,
    registrations: u32,
}

#[derive(Debug, Default)]
struct Group {
    live: Targets,
    meddled: Option<Duration>,
}

pub struct Checker<'a> {
    setting: &'a Setting,
    now: Duration,
    lives: BTreeMap<Life, Running>,
    groups: BTreeMap<String, Group>,
    calls: BTreeMap<u64, (Call, Duration, Option<Arrival>)>,
    at: BTreeMap<String, Vec<IpAddr>>,
    moves: BTreeMap<String, Vec<Duration>>,
    stories: Stories,
    is_healed: bool,
    is_settled: bool,
}

/// The first promise that was broken, or the first of the promise or with the text `only`; and what was met on the way.
pub fn check(
    setting: &Setting,
    history: &[Entry],
    only: Option<&str>,
) -> (Result<(), Violation>, Stories) {
    let mut checker = Checker {
        setting,
        now: Duration::ZERO,
        lives: BTreeMap::new(),
        groups: BTreeMap::new(),
        calls: BTreeMap::new(),
        at: BTreeMap::new(),
        moves: BTreeMap::new(),
        stories: Stories::new(),
        is_healed: false,
        is_settled: false,
    };
    let is_wanted = |violation: &Violation| {
        only.is_none_or(|only| violation.promise == only || violation.text.contains(only))
    };
    let mut outcome = Ok(());
    for entry in history {
        checker.now = entry.at;
        let seen = checker.see(&entry.what);
        outcome = seen.map_err(|broken| checker.violation(broken));
        if outcome.as_ref().is_err_and(is_wanted) {
            break;
        }
        outcome = Ok(());
    }
    if outcome.is_ok() {
        let finished = checker.finish();
        outcome = finished.map_err(|broken| checker.violation(broken));
        outcome = outcome.or_else(|violation| match is_wanted(&violation) {
            true => Err(violation),
            false => Ok(()),
        });
    }
    for followed in checker
        .lives
        .values()
        .flat_map(|running| running.groups.values())
    {
        for story in &followed.stories {
            *checker.stories.entry(story).or_default() += 1;
        }
    }
    let has_slept = |running: &Running| {
        let mut groups = running.groups.values();
        groups.any(|followed| followed.stories.contains(&SLEPT))
    };
    let slept = checker
        .lives
        .iter()
        .filter(|(_, running)| has_slept(running));
    let slept: BTreeSet<_> = slept.map(|(life, _)| life.sandbox).collect();
    *checker.stories.entry(BOTH_SLEPT).or_default() += u64::from(slept.len() == 2);
    (outcome, checker.stories)
}

impl Checker<'_> {
    fn violation(&self, (promise, text): Broken) -> Violation {
        let at = self.now;
        Violation { promise, text, at }
    }

    fn see(&mut self, what: &What) -> Result<(), Broken> {
        match what {
            What::Moved { endpoint, to, .. } => {
                self.at.insert(endpoint.clone(), to.clone());
                self.moves
                    .entry(endpoint.clone())
                    .or_default()
                    .push(self.now);
            }
            What::Meddled { arn, group, .. } => {
                let known = self.groups.entry(arn.clone()).or_default();
                known.meddled = Some(self.now);
                known.live = live(group);
            }
            What::Begun { life, event } => self.begin(*life, *event),
            What::Disturbed { .. } | What::Others { .. } => (),
            What::Asked { life, id, name } => self.asked(*life, *id, name),
            What::Answered {
                life,
                id,
                name,
                addresses,
                ttl,
            } => self.answered(*life, (*id, name), addresses, *ttl),
            What::Called(call) => return self.called(call),
            What::Arrived {
                call,
                outcome,
                group,
                data,
                ..
            } => {
                return self.arrived(*call, outcome, group, data);
            }
            What::Returned { call } => self.returned(*call),
            What::Logged { life, line } => return self.logged(*life, line),
            What::Ended {
                life,
                error,
                is_error,
                reconciles,
            } => {
                self.is_answered(*life, error.is_some(), *is_error)?;
                return self.ended(*life, error.as_deref(), *reconciles);
            }
            What::Lost { life } => {
                let (now, setting) = (self.now, self.setting);
                let running = self.running(*life);
                for (group, followed) in &mut running.groups {
                    let group = *group;
                    followed.finish(now, Of { setting, group });
                    // What it held back may be published and not yet told.
                    followed.failures.1 += 1;
                }
                running.count(None);
                (running.is_lost, running.event) = (true, None);
            }
            What::TimedOut { life } => {
                return broken("I11", format!("{life}: Lambda had to end the invocation"));
            }
            What::Healed => self.is_healed = true,
            What::Settled { groups } => {
                self.is_settled = true;
                return groups
                    .iter()
                    .try_for_each(|(arn, group)| self.settled(arn, group));
            }
        }
        Ok(())
    }

    fn running(&mut self, life: Life) -> &mut Running {
        self.lives.entry(life).or_default()
    }

    fn of(&self, group: usize) -> Of<'_> {
        let setting = self.setting;
        Of { setting, group }
    }

    fn begin(&mut self, life: Life, event: Event) {
        let (now, groups) = (self.now, self.setting.groups());
        let running = self.running(life);
        // I10: what could not be published may be dropped meanwhile. A dry run publishes nothing.
        if running.is_publishing_failed {
            running.waiting_since.get_or_insert(running.begun);
        } else if !running.was_dry_run {
            running.waiting_since = None;
        }
        let is_old = |since: Duration| now > since + KEPT_DATA;
        running.is_lost |= running.waiting_since.is_some_and(is_old);
        running.was_dry_run = event == Event::DryRun;
        (running.begun, running.event) = (now, Some(event));
        running.is_publishing_failed = false;
        (running.reads, running.registrations) = (0, 0);
        // Nobody waits for the answers of the last one, whose numbers may be drawn again.
        running.questions.clear();
        for group in 0..groups {
            let followed = running.groups.entry(group).or_default();
            followed.begin(event == Event::DryRun);
        }
    }

    fn asked(&mut self, life: Life, id: u16, name: &str) {
        let (setting, now) = (self.setting, self.now);
        let running = self.running(life);
        let question = (name.to_owned(), id);
        // A question that is sent again, because its answer is late or was truncated, is the same question.
        // The resolver draws the number of each question by itself, so two questions may have the same
        // number: two of the same moment, or one that nobody answered and one that was asked long after it.
        let asked = running.questions.entry(question).or_default();
        asked.retain(|asked| now < *asked + ACT);
        if asked.iter().any(|asked| now > *asked) {
            return;
        }
        asked.push(now);
        let Some((endpoint, true, groups)) = fed(setting, name) else {
            return;
        };
        for group in groups {
            let followed = running.groups.entry(group).or_default();
            followed.asked(endpoint, now, Of { setting, group });
        }
    }

    fn answered(
        &mut self,
        life: Life,
        (id, name): (u16, &str),
        addresses: &[IpAddr],
        ttl: Duration,
    ) {
        let (setting, now) = (self.setting, self.now);
        let running = self.running(life);
        let waiting = running.questions.get_mut(&(name.to_owned(), id));
        let Some(asked) = waiting.and_then(Vec::pop) else {
            return;
        };
        let Some((endpoint, is_beginning, groups)) = fed(setting, name) else {
            return;
        };
        let asked = match is_beginning {
            true => *running.chains.entry(endpoint).insert_entry(asked).get(),
            false => running.chains.get(&endpoint).copied().unwrap_or(asked),
        };
        for group in groups {
            let followed = running.groups.entry(group).or_default();
            if setting.is_shared(endpoint)
                || followed.is_waiting(endpoint, asked, Of { setting, group })
            {
                followed.answered(endpoint, addresses, asked, (now, ttl));
            } else {
                followed.answered_again(endpoint, addresses, now, ttl);
            }
        }
    }

    fn called(&mut self, call: &Call) -> Result<(), Broken> {
        let (setting, now, is_settled) = (self.setting, self.now, self.is_settled);
        self.calls.insert(call.id, (call.clone(), now, None));
        let Call { life, action, .. } = call;
        let running = self.running(*life);
        let is_change = matches!(action.as_str(), "RegisterTargets" | "DeregisterTargets");
        running.is_publishing_failed |= action == "PutMetricData";
        // I6: deciding again after applying, with the same answer, plans nothing.
        if is_change && is_settled {
            return broken("I6", format!("{life} changes what is as DNS says"));
        }
        // Section 4: a dry run registers, deregisters and publishes nothing.
        if running.event == Some(Event::DryRun) && (is_change || action == "PutMetricData") {
            return broken("section 4", format!("{life} calls {action} in a dry run"));
        }
        running.is_paced(action, now)?;
        if !is_change && action != "DescribeTargetHealth" {
            return Ok(());
        }
        let group = group_of(setting, &call.arn);
        let followed = running.groups.entry(group).or_default();
        match is_change {
            true => followed.changing(call, now, Of { setting, group }),
            false => followed.describing(Of { setting, group }),
        }
    }

    fn arrived(
        &mut self,
        call: u64,
        outcome: &str,
        group: &[TargetHealth],
        data: &[Datum],
    ) -> Result<(), Broken> {
        let now = self.now;
        let (call, _, arrival) = self.calls.get_mut(&call).expect("a call");
        let call = call.clone();
        *arrival = Some(Arrival {
            at: now,
            outcome: outcome.to_owned(),
            group: group.to_vec(),
            data: data.to_vec(),
        });
        if ["PutMetricData", "DescribeTargetGroups"].contains(&call.action.as_str()) {
            return Ok(());
        }
        // I2: at no moment does an action leave the group without a live target, within I8's limit.
        let is_within_limit = self.is_to_and_fro(group_of(self.setting, &call.arn));
        let known = self.groups.entry(call.arn.clone()).or_default();
        let is_meddled = known.meddled.is_some_and(|meddled| now < meddled + UNSEEN);
        let had = std::mem::replace(&mut known.live, live(group));
        if !known.live.is_empty() || had.is_empty() || is_meddled {
            return Ok(());
        }
        if is_within_limit {
            *self.stories.entry(TO_AND_FRO).or_default() += 1;
            return Ok(());
        }
        let text = format!("{}: {} leaves nobody who serves", call.life, call.action);
        broken("I2", text)
    }

    /// I8's limit: a name that moves to and fro within TTL plus margin can defeat it; one that answers
    /// in part does so all the time.
    fn is_to_and_fro(&self, group: usize) -> bool {
        let setting = self.setting;
        let old = Duration::from_secs(setting.ttl.max(setting.chain_ttl).into()) + MARGIN;
        let mut endpoints = setting.endpoints_of(group).map(endpoint);
        let is_moving = |moves: &[Duration]| {
            let is_near =
                |pair: &[Duration]| pair[1] - pair[0] <= old && pair[1] + 2 * old >= self.now;
            moves.windows(2).any(is_near)
        };
        setting.is_rotating
            || endpoints.any(|name| self.moves.get(&name).is_some_and(|moves| is_moving(moves)))
    }

    /// The answer is known to the one who called.
    fn returned(&mut self, call: u64) {
        let (now, setting) = (self.now, self.setting);
        let (call, called, arrival) = self.calls.remove(&call).expect("a call");
        let arrival = arrival.expect("it came to the service before");
        let running = self.running(call.life);
        match call.action.as_str() {
            // I2: only what CloudWatch itself acknowledged is published.
            "PutMetricData" if arrival.outcome == "Ok" => {
                running.is_publishing_failed = false;
                running.published[0].add(&arrival.data, "FunctionName");
                running.published[1].add(&arrival.data, "TargetGroup");
            }
            "PutMetricData" | "DescribeTargetGroups" => (),
            _ => {
                let group = group_of(setting, &call.arn);
                let followed = running.groups.entry(group).or_default();
                followed.returned(&call, called, &arrival, now);
            }
        }
    }

    fn logged(&mut self, life: Life, line: &Line) -> Result<(), Broken> {
        let (setting, now) = (self.setting, self.now);
        let running = self.running(life);
        let begun = running.begun;
        let is_held_back = line.is_warning && line.message.contains("held back");
        let is_left_over = line.is_warning && line.message.contains("left over");
        for (index, followed) in &mut running.groups {
            let is_its = play::arn(*index) == line.target_group_arn;
            if is_its && line.is_error {
                let group = *index;
                followed.failed(now, Of { setting, group });
            }
            if is_left_over && is_its {
                let group = *index;
                followed.left_over((begun, now), Of { setting, group })?;
            }
            if is_held_back && (is_its || line.target_group_arn.is_empty()) {
                followed.is_told = true;
                // There was no call to make.
                followed.was_left_over = false;
            }
            // I8: doubtful is only what changes a group in which another target is current.
            if is_held_back && is_its && followed.is_empty() {
                return broken("I8", format!("{life} holds back though nobody serves"));
            }
        }
        Ok(())
    }

    /// Section 1: an invocation that the queue caused returns its report with the errors in it, not an
    /// error, which every other invocation does.
    fn is_answered(&mut self, life: Life, is_failed: bool, is_error: bool) -> Result<(), Broken> {
        let is_queue_result = self.running(life).event == Some(Event::Queue);
        match is_error == (is_failed && !is_queue_result) {
            true => Ok(()),
            false => broken(
                "section 1",
                format!(
                    "{life} answers an error: {is_error}, the queue caused it: {is_queue_result}"
                ),
            ),
        }
    }

    fn ended(
        &mut self,
        life: Life,
        error: Option<&str>,
        reconciles: Option<u64>,
    ) -> Result<(), Broken> {
        let (now, is_healed) = (self.now, self.is_healed);
        let took = now - self.running(life).begun;
        let held_back = self.held_back(life);
        let setting = self.setting;
        let running = self.running(life);
        for (group, followed) in &mut running.groups {
            let group = *group;
            followed.finish(now, Of { setting, group });
        }
        let most = running.count(reconciles);
        running.event = None;
        // I11: the invocation ends by itself before Lambda's own timeout.
        if took > LATEST_ANSWER {
            return broken("I11", format!("{life} answers after {took:?}"));
        }
        held_back?;
        // Section 1: a settled group is described in the first reconcile of an invocation.
        let undescribed = running
            .groups
            .iter()
            .find(|(_, followed)| !followed.was_described());
        if let (None, Some((group, _))) = (error, undescribed) {
            return broken("section 1", format!("{life} never described group {group}"));
        }
        let is_failed = running.groups.values().any(|followed| followed.is_failed);
        let is_unsure = running.groups.values().any(|followed| followed.is_unsure);
        let is_expected = is_failed || running.is_publishing_failed;
        // Section 5: one that starts again is the same reconcile, and counts once.
        if reconciles.is_some_and(|reconciles| reconciles > most.into()) {
            let text =
                format!("{life} counts {reconciles:?} reconciles, there were at most {most}");
            return broken("section 5", text);
        }
        // I9: an error when the last reconcile of any group failed or publishing did, and else none.
        if is_unsure {
            *self.stories.entry(UNSURE).or_default() += 1;
        } else if error.is_some() != is_expected {
            let text = format!("{life} answers {error:?}, but by what happened it should not");
            return broken("I9", text);
        }
        match error {
            // I9: where nothing goes wrong, nothing fails.
            Some(error) if is_healed => broken("I9", format!("{life} still fails: {error}")),
            _ => Ok(()),
        }
    }

    /// Section 2: a plan that is held back at the end is told and counted, and waited for if that helps.
    fn held_back(&mut self, life: Life) -> Result<(), Broken> {
        let (now, setting) = (self.now, self.setting);
        let running = self.running(life);
        if running.event == Some(Event::DryRun) {
            return Ok(());
        }
        let (begun, mut count, mut outcome) = (running.begun, 0, Ok(()));
        for (index, followed) in &mut running.groups {
            let group = *index;
            followed.failures.1 += u32::from(followed.is_told);
            let Some(believed) = followed.held_back(begun, now, Of { setting, group }) else {
                continue;
            };
            count += 1;
            if !followed.is_told {
                let text =
                    format!("{life} holds a plan for group {group} back and does not say so");
                outcome = broken("section 2", text);
                continue;
            }
            followed.failures.0 += 1;
            if believed + ACT < begun + DEADLINE {
                let text = format!("{life} does not wait for group {group} until {believed:?}");
                outcome = broken("section 2", text);
            }
        }
        *self.stories.entry(HELD_BACK).or_default() += count;
        outcome
    }

    /// Section 1: the group is what the name says, and what others have in `KEEP_CIDRS`.
    fn settled(&self, arn: &str, group: &[TargetHealth]) -> Result<(), Broken> {
        let setting = self.setting;
        let of = self.of(group_of(setting, arn));
        let endpoints = setting.endpoints_of(of.group).map(endpoint);
        let desired = endpoints.flat_map(|endpoint| self.at[&endpoint].clone());
        let mut expected: Targets = desired
            .map(|address| SocketAddr::new(address, PORT))
            .collect();
        expected.extend(kept(setting));
        let mut current = live(group);
        if setting.misses > 0 {
            // Of an address that DNS has, no answer is a miss, whatever the port.
            let is_at =
                |target: &SocketAddr| expected.iter().any(|other| other.ip() == target.ip());
            current.retain(|target| expected.contains(target) || !is_at(target));
        }
        match current == expected {
            true => Ok(()),
            false => broken(
                "section 1",
                format!("{arn} has {current:?}, not {expected:?}"),
            ),
        }
    }

    fn finish(&self) -> Result<(), Broken> {
        for (life, running) in &self.lives {
            if running.event.is_some() {
                return broken("I11", format!("{life} never ended"));
            }
            running
                .is_published()
                .map_err(|(promise, text)| (promise, format!("{life}: {text}")))?;
        }
        Ok(())
    }
}

impl Running {
    /// I12: no invocation asks Elastic Load Balancing faster than section 1 says, retries included.
    fn is_paced(&mut self, action: &str, now: Duration) -> Result<(), Broken> {
        let (count, (burst, per_second)) = match action {
            "RegisterTargets" | "DeregisterTargets" => (&mut self.registrations, REGISTRATIONS),
            "DescribeTargetGroups" | "DescribeTargetHealth" => (&mut self.reads, READS),
            _ => return Ok(()),
        };
        *count += 1;
        let most = burst + per_second * (now - self.begun).as_secs_f64();
        match f64::from(*count) > most + 0.01 {
            true => broken(
                "I12",
                format!("{action} is call {count} of at most {most:.1}"),
            ),
            false => Ok(()),
        }
    }

    /// The reconciles of the invocation that ends, by its result where it has one; the most that there
    /// can have been.
    fn count(&mut self, reconciles: Option<u64>) -> u32 {
        let (fewest, most) = self
            .groups
            .values()
            .fold((0, 0), |(fewest, most), followed| {
                (fewest + 1, most + followed.most_reconciles.max(1))
            });
        if self.event.is_some_and(|event| event != Event::DryRun) {
            let counted = reconciles.and_then(|reconciles| reconciles.try_into().ok());
            self.reconciles.0 += counted.unwrap_or(fewest);
            self.reconciles.1 += counted.unwrap_or(most);
        }
        most
    }

    /// Section 6: CloudWatch acknowledged one sample for each reconcile, with what happened in it; all
    /// of them, unless the sandbox was lost.
    fn is_published(&self) -> Result<(), Broken> {
        let sum = |of: fn(&Followed) -> (u32, u32)| {
            let sums = self.groups.values().map(of);
            sums.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
        };
        let [function, groups] = self.published;
        for (what, published, (fewest, most)) in [
            ("reconciles", function.reconciles, self.reconciles),
            (
                "failovers",
                function.failovers,
                sum(|followed| followed.failovers),
            ),
            (
                "failures",
                function.failures,
                sum(|followed| followed.failures),
            ),
        ] {
            if (!self.is_lost && published < fewest) || published > most {
                let text = format!("{published} {what} were published of {fewest} to {most}");
                return broken("section 6", text);
            }
        }
        let is_same =
            (groups.failovers, groups.failures) == (function.failovers, function.failures);
        match is_same && groups.reconciles <= function.reconciles {
            true => Ok(()),
            false => broken(
                "section 6",
                format!("{groups:?} of the groups, {function:?} of all"),
            ),
        }
    }
}

impl Sums {
    fn add(&mut self, data: &[Datum], dimension: &str) {
        let samples = |metric: &'static str| {
            let is_its = move |datum: &&Datum| {
                datum.metric == metric && datum.dimensions.iter().any(|(name, _)| name == dimension)
            };
            data.iter().filter(is_its).flat_map(|datum| &datum.samples)
        };
        self.reconciles += samples("Failover").count() as u32;
        self.failovers += samples("Failover").sum::<f64>() as u32;
        self.failures += samples("ReconcileFailure").sum::<f64>() as u32;
    }
}

fn group_of(setting: &Setting, arn: &str) -> usize {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let index = usize::from_str_radix(id, 16).expect("a group's number");
    assert!(index < setting.groups() && play::arn(index) == arn, "{arn}");
    index
}
