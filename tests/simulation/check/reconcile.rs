//! What one reconcile of one group may do, by what the far ends answered it and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::elb::{TargetDescription, TargetHealth};
use stand_in::world::PORT;

use super::{Arrival, Broken, DEADLINE, broken};
use crate::history::Call;
use crate::play::{self, kept};
use crate::sequence::Setting;

/// Section 1: how long an answer and a description can be acted on.
pub const ACT: Duration = Duration::from_secs(5);
/// I8: one attempt's time limit.
const EFFECT: Duration = Duration::from_millis(2500);
/// I8: between the end of an answer and the first one that is independent of it.
pub const MARGIN: Duration = ACT
    .saturating_add(EFFECT)
    .saturating_add(Duration::from_secs(1));
/// I8: for how long a doubt can be believed before it begins anew.
const BELIEVABLE: Duration = Duration::from_secs(90);
/// I8: for how long a target counts as initial whose registration was acknowledged.
const INITIAL: Duration = Duration::from_secs(90);
/// A reconcile's first question and its description may leave in either order.
const SAME_MOMENT: Duration = Duration::from_millis(100);

pub type Targets = BTreeSet<SocketAddr>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    Register(SocketAddr),
    Deregister(SocketAddr),
}

/// A group as one sandbox follows it.
#[derive(Debug, Default)]
pub struct Followed {
    reconcile: Option<Reconcile>,
    /// The last one of this invocation.
    description: Option<Description>,
    /// What the reconciles before saw.
    sights: Vec<Sight>,
    /// By the last description.
    current: Targets,
    /// How many independent answers in a row lacked the target, and when the last of them expires.
    misses: BTreeMap<SocketAddr, (u32, Duration)>,
    acknowledged: BTreeMap<SocketAddr, Duration>,
    /// For which a zone was asked.
    refused: Targets,
    is_dry_run: bool,
    /// Nothing was sent about the group since the last description.
    is_described: bool,
    /// The last invocation that ended left it over.
    pub was_left_over: bool,
    is_left_over: bool,
    /// The last reconcile of the invocation failed.
    pub is_failed: bool,
    /// Another group asks the same name, so that it cannot be told whether the last one failed.
    pub is_unsure: bool,
    /// This invocation said that it holds a plan back.
    pub is_told: bool,
    /// The most reconciles that there can have been in this invocation.
    pub most_reconciles: u32,
    /// The fewest and the most that there can have been in this life.
    pub failovers: (u32, u32),
    pub failures: (u32, u32),
    /// What the figures count.
    pub stories: Vec<&'static str>,
}

pub const SLEPT: &str = "doubt that slept too long";
const TWO_ANSWERS: &str = "lenient: a second answer whose TTL ends first";
pub const LEFT_OVER: &str = "group left over at the deadline";
pub const EMPTIED: &str = "draining target back in an empty group";
pub const KEPT: &str = "doubt beside a kept target that is initial";
pub const LONG_STANDING: &str = "doubt about one of a long-standing pair";
pub const SHARED: &str = "lenient: endpoint shared by groups";
pub const OTHER_PORT: &str = "lenient: misses of an address on another port";

/// A reconcile from its first step on; it may start there again.
#[derive(Debug, Default)]
struct Reconcile {
    /// When the first of its questions reached the name server.
    asked: Duration,
    answers: BTreeMap<usize, Vec<Answer>>,
    /// The TTLs of the beginnings of chains.
    chains: Duration,
    registered: Targets,
    deregistered: Targets,
    is_changing: bool,
    is_deregistering: bool,
}

#[derive(Debug, Clone)]
struct Answer {
    addresses: BTreeSet<IpAddr>,
    asked: Duration,
    arrived: Duration,
    ttl: Duration,
}

#[derive(Debug)]
struct Description {
    called: Duration,
    /// At the service.
    arrived: Duration,
    targets: Vec<TargetHealth>,
}

/// What DNS said to a reconcile.
#[derive(Debug)]
struct Resolved {
    asked: Duration,
    /// Later only where it cannot be told whose questions these are.
    asked_at_most: Duration,
    expires: Duration,
    /// `None` where it cannot be told.
    desired: Option<Targets>,
}

#[derive(Debug)]
struct Sight {
    resolved: Resolved,
    described: Option<Vec<TargetHealth>>,
    /// All that it may have doubted.
    doubts: BTreeSet<Doubt>,
}

/// Those of a described group.
pub fn targets(group: &[TargetHealth], is_one: impl Fn(&TargetHealth) -> bool) -> Targets {
    let targets = group.iter().filter(|target| is_one(target));
    targets
        .map(|target| SocketAddr::new(target.address, target.port))
        .collect()
}

pub fn live(group: &[TargetHealth]) -> Targets {
    targets(group, |target| target.state != "draining")
}

/// As a call names it.
fn named(target: &TargetDescription) -> SocketAddr {
    let address = target.id.parse().expect("an address");
    SocketAddr::new(address, target.port.unwrap_or(0))
}

/// A group of the setting.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    pub setting: &'a Setting,
    pub group: usize,
}

impl Of<'_> {
    /// Another group asks for the same name, and nobody can tell whose question it is.
    fn is_shared(&self) -> bool {
        let mut endpoints = self.setting.endpoints_of(self.group);
        endpoints.any(|endpoint| self.setting.is_shared(endpoint))
    }

    fn stale(&self, current: &Targets, desired: &Targets) -> Targets {
        &(current - desired) - &kept(self.setting)
    }
}

impl Followed {
    pub fn begin(&mut self, is_dry_run: bool) {
        (self.reconcile, self.description) = (None, None);
        (self.is_failed, self.is_unsure, self.is_told) = (false, false, false);
        (self.is_dry_run, self.most_reconciles) = (is_dry_run, 0);
        self.is_described = false;
        if !is_dry_run {
            self.was_left_over = std::mem::take(&mut self.is_left_over);
        }
    }

    pub fn was_described(&self) -> bool {
        self.description.is_some() || self.is_left_over || self.is_dry_run
    }

    /// Section 1: a call had no turn before the deadline, which is no error once.
    pub fn left_over(
        &mut self,
        (begun, now): (Duration, Duration),
        of: Of<'_>,
    ) -> Result<(), Broken> {
        (self.is_left_over, self.failures.0) = (true, self.failures.0 + 1);
        self.failures.1 += 1;
        self.stories.push(LEFT_OVER);
        self.finish(now, of);
        if now + SAME_MOMENT < begun + DEADLINE {
            return broken(
                "section 1",
                format!("leaves group {} over too soon", of.group),
            );
        }
        match self.was_left_over {
            true => broken("section 1", format!("leaves group {} over again", of.group)),
            false => Ok(()),
        }
    }

    /// Section 1: a group is settled while its last description has what DNS says; it is not described
    /// again in that invocation. Whatever else there is may be doubtful, or missed too seldom.
    pub fn describing(&mut self, of: Of<'_>) -> Result<(), Broken> {
        let is_described = std::mem::replace(&mut self.is_described, false);
        let (Some(description), Some(reconcile)) = (&self.description, &self.reconcile) else {
            return Ok(());
        };
        let of_earlier = description.called + SAME_MOMENT < reconcile.asked;
        if !is_described || !of_earlier || of.is_shared() || self.is_dry_run {
            return Ok(());
        }
        let has = &live(&description.targets) - &kept(of.setting);
        let said = self
            .sights
            .last()
            .and_then(|sight| sight.resolved.desired.clone());
        let says = reconcile.resolved(of).and_then(|resolved| resolved.desired);
        match said.as_ref() == Some(&has) && says.is_none_or(|says| says == has) {
            true => broken(
                "I12",
                format!("describes group {} though it is settled", of.group),
            ),
            false => Ok(()),
        }
    }

    /// A question about one of the group's endpoints reached the name server.
    pub fn asked(&mut self, endpoint: usize, now: Duration, of: Of<'_>) {
        let lookups = of.setting.lookups as usize;
        let is_answered = |reconcile: &Reconcile| {
            let answers = reconcile.answers.get(&endpoint);
            answers.is_some_and(|answers| answers.len() >= lookups) || reconcile.is_complete(of)
        };
        let goes_on =
            |reconcile: &Reconcile| now < reconcile.asked + ACT && !is_answered(reconcile);
        if self.reconcile.as_ref().is_some_and(goes_on) {
            return;
        }
        let mut next = Reconcile {
            asked: now,
            ..Reconcile::default()
        };
        if let Some(reconcile) = self.reconcile.as_mut().filter(|_| of.is_shared()) {
            // It may be the other group's question, and this reconcile goes on.
            next.registered.clone_from(&reconcile.registered);
            next.is_changing = reconcile.is_changing;
            next.answers.clone_from(&reconcile.answers);
            for answers in next.answers.values_mut() {
                answers.retain(|answer| now <= answer.asked + ACT);
            }
        }
        self.finish(now, of);
        self.is_unsure |= self.is_failed;
        self.is_failed &= of.is_shared();
        self.is_unsure &= of.is_shared();
        self.most_reconciles += 1;
        self.reconcile = Some(next);
    }

    /// Whether the reconcile waits for the answer to a question that was asked then. It does not for one
    /// of an earlier reconcile, nor for a second answer to a question that was sent again: it asks for an
    /// endpoint again only when it has an answer.
    pub fn is_waiting(&self, endpoint: usize, asked: Duration, of: Of<'_>) -> bool {
        let Some(reconcile) = &self.reconcile else {
            return false;
        };
        let answers = reconcile.answers.get(&endpoint);
        let last = answers.and_then(|answers| answers.last());
        // Where groups share a name, another one's question may have hidden where this one began.
        let is_its = of.is_shared() || asked >= reconcile.asked;
        is_its && last.is_none_or(|last| asked >= last.arrived)
    }

    pub fn answered(
        &mut self,
        endpoint: usize,
        addresses: &[IpAddr],
        asked: Duration,
        (arrived, ttl): (Duration, Duration),
    ) {
        let Some(reconcile) = &mut self.reconcile else {
            return;
        };
        // One without addresses is wrong, or the beginning of a chain.
        if addresses.is_empty() {
            reconcile.chains = reconcile.chains.max(ttl);
            return;
        }
        reconcile.answers.entry(endpoint).or_default().push(Answer {
            addresses: addresses.iter().copied().collect(),
            asked,
            arrived,
            ttl,
        });
    }

    /// A question that was sent again had an answer already, and nobody can tell which of the two the
    /// reconcile took: the first may have come to a connection that was given up.
    pub fn answered_again(
        &mut self,
        endpoint: usize,
        addresses: &[IpAddr],
        now: Duration,
        ttl: Duration,
    ) {
        let Some(reconcile) = &mut self.reconcile else {
            return;
        };
        let answers = reconcile.answers.get_mut(&endpoint);
        if let Some(last) = answers.and_then(|answers| answers.last_mut())
            && now <= reconcile.asked + ACT
            && addresses.iter().copied().collect::<BTreeSet<_>>() == last.addresses
        {
            let ttl = now + ttl - last.arrived;
            if ttl < last.ttl && now > last.arrived + SAME_MOMENT {
                self.stories.push(TWO_ANSWERS);
            }
            last.ttl = last.ttl.min(ttl);
        }
    }

    /// A failed reconcile was told.
    pub fn failed(&mut self, now: Duration, of: Of<'_>) {
        if self.reconcile.is_none() || of.is_shared() {
            self.most_reconciles += 1;
        }
        self.is_failed = true;
        // The questions of another group may hide where a later reconcile of this one begins.
        self.is_unsure |= of.is_shared();
        if !self.is_dry_run {
            self.failures.0 += 1;
            self.failures.1 += 1;
        }
        if !of.is_shared() {
            self.finish(now, of);
        }
    }

    pub fn returned(&mut self, call: &Call, called: Duration, arrival: &Arrival, now: Duration) {
        let targets: Vec<_> = call.targets.iter().map(named).collect();
        match (call.action.as_str(), arrival.outcome.as_str()) {
            ("DescribeTargetHealth", "Ok") => {
                self.is_described = true;
                self.description = Some(Description {
                    called,
                    arrived: arrival.at,
                    targets: arrival.group.clone(),
                });
            }
            ("RegisterTargets", "Ok") => {
                let acknowledged = targets.iter().map(|target| (*target, now));
                self.acknowledged.extend(acknowledged);
                let reconcile = self.reconcile.as_mut();
                reconcile
                    .into_iter()
                    .for_each(|reconcile| reconcile.registered.extend(&targets));
            }
            ("RegisterTargets", "ValidationError") => self.refused.extend(targets),
            ("DeregisterTargets", "Ok") => {
                let reconcile = self.reconcile.as_mut();
                reconcile
                    .into_iter()
                    .for_each(|reconcile| reconcile.deregistered.extend(&targets));
            }
            _ => (),
        }
    }

    /// The description that belongs to this reconcile.
    fn described(&self, reconcile: &Reconcile) -> Option<&Description> {
        let description = self.description.as_ref();
        description.filter(|description| description.called + SAME_MOMENT >= reconcile.asked)
    }

    /// The reconcile is over, or starts again.
    pub fn finish(&mut self, now: Duration, of: Of<'_>) {
        let Some(reconcile) = self.reconcile.take() else {
            return;
        };
        if self.is_dry_run {
            return;
        }
        let is_failed = self.is_failed;
        // What a group has is seen also where DNS says nothing.
        let described = self.described(&reconcile).map(|own| own.targets.clone());
        if let Some(described) = &described {
            self.current = live(described);
            self.misses
                .retain(|target, _| self.current.contains(target));
        }
        self.current = &self.current - &reconcile.deregistered;
        let Some(resolved) = reconcile.resolved(of) else {
            return;
        };
        if reconcile.is_deregistering {
            let desired = resolved.desired.as_ref();
            let is_at = |desired: &Targets, target: &SocketAddr| {
                desired.iter().any(|other| other.ip() == target.ip())
            };
            let mut gone = reconcile.deregistered.iter();
            let is_failover =
                desired.map(|desired| gone.any(|target| !is_at(desired, target)) && !is_failed);
            let is_sure = is_failover.is_some() && !reconcile.deregistered.is_empty() && !is_failed;
            self.failovers.0 += u32::from(is_sure && is_failover == Some(true));
            self.failovers.1 += u32::from(!is_sure || is_failover == Some(true));
        }
        // A reconcile that fails before it changes anything had no good answer or no description.
        let is_weak = is_failed && !reconcile.is_changing;
        self.count_misses(&resolved, is_weak, of);
        let doubts = match (&resolved.desired, &described) {
            (Some(desired), Some(described)) => {
                let stale = of.stale(&live(described), desired);
                let certain = self.doubts(desired, described, &stale, (resolved.asked, now), true);
                self.tell(&resolved, described, &certain, of);
                self.doubts(desired, described, &stale, (resolved.asked, now), false)
            }
            _ => BTreeSet::new(),
        };
        let desired = resolved.desired.filter(|_| !is_weak && !of.is_shared());
        let resolved = Resolved {
            desired,
            ..resolved
        };
        self.sights.push(Sight {
            resolved,
            described,
            doubts,
        });
    }

    /// For the figures.
    fn tell(
        &mut self,
        resolved: &Resolved,
        described: &[TargetHealth],
        doubts: &BTreeSet<Doubt>,
        of: Of<'_>,
    ) {
        let kept = kept(of.setting);
        let initial = targets(described, |target| target.state == "initial");
        for doubt in doubts {
            let row = self
                .row(*doubt)
                .filter(|sight| sight.doubts.contains(doubt));
            let latest = row.map(|sight| sight.resolved.expires).max();
            if latest.is_some_and(|latest| resolved.asked > latest + MARGIN + BELIEVABLE) {
                self.stories.push(SLEPT);
            }
        }
        if doubts
            .iter()
            .any(|doubt| matches!(doubt, Doubt::Deregister(_)))
        {
            if !kept.is_disjoint(&initial) {
                self.stories.push(KEPT);
            }
            if initial.is_empty() {
                self.stories.push(LONG_STANDING);
            }
        }
    }

    /// `MISSES_BEFORE_DEREGISTRATION` in I8: independent answers in a row that lack a current target.
    fn count_misses(&mut self, resolved: &Resolved, is_weak: bool, of: Of<'_>) {
        self.misses
            .retain(|target, _| self.current.contains(target));
        let Some(desired) = &resolved.desired else {
            return;
        };
        for target in &self.current.clone() {
            let is_there = desired.iter().any(|other| other.ip() == target.ip());
            match (is_there, is_weak || of.is_shared()) {
                (true, false) => drop(self.misses.remove(target)),
                (true, true) => (),
                (false, _) => {
                    let (count, expires) = self.misses.entry(*target).or_default();
                    let is_independent = *count == 0 || resolved.asked >= *expires + MARGIN;
                    *count += u32::from(is_independent);
                    *expires = match is_independent {
                        true => resolved.expires,
                        false => resolved.expires.min(*expires),
                    };
                }
            }
        }
    }

    /// I8's three kinds, of a plan that deregisters `stale` and was decided on between these times;
    /// those that are certain, or all that there can be.
    fn doubts(
        &self,
        desired: &Targets,
        described: &[TargetHealth],
        stale: &Targets,
        (asked, now): (Duration, Duration),
        is_certain: bool,
    ) -> BTreeSet<Doubt> {
        let current = live(described);
        let initial_at = |time: Duration| {
            let mut initial = targets(described, |target| target.state == "initial");
            let recent = self.acknowledged.iter();
            let recent = recent.filter(|(_, acknowledged)| time < **acknowledged + INITIAL);
            initial.extend(
                recent
                    .map(|(target, _)| target)
                    .filter(|target| current.contains(target)),
            );
            initial
        };
        let (fewest, most) = (initial_at(now), initial_at(asked));
        let (initial, comforting) = match is_certain {
            true => (&fewest, &most),
            false => (&most, &fewest),
        };
        let draining = targets(described, |target| target.state == "draining");
        let registered = desired - &current;
        let returning = registered
            .intersection(&draining)
            .filter(|_| !current.is_empty());
        let is_unfounded = registered.is_empty() && desired.is_disjoint(comforting);
        let removed = stale.iter();
        let removed = removed.filter(|target| is_unfounded || initial.contains(*target));
        let returning = returning.copied().map(Doubt::Register);
        returning
            .chain(removed.copied().map(Doubt::Deregister))
            .collect()
    }

    /// The sights before this one that said the same about that target, without a break.
    fn row(&self, doubt: Doubt) -> impl Iterator<Item = &Sight> {
        let sights = self.sights.iter().rev();
        sights.take_while(move |sight| sight.says(doubt))
    }

    /// I8: an earlier reconcile showed the doubt, the answer of this one is independent of that one's
    /// and not too late for it, and nothing in between said otherwise.
    fn is_believed(&self, doubt: Doubt, resolved: &Resolved) -> bool {
        let mut row = self.row(doubt);
        row.any(|sight| {
            let from = sight.resolved.expires + MARGIN;
            sight.doubts.contains(&doubt)
                && resolved.asked_at_most >= from
                && resolved.asked <= from + BELIEVABLE
        })
    }

    /// Why it is not.
    fn unbelieved(&self, doubt: Doubt, resolved: &Resolved) -> String {
        let row = self
            .row(doubt)
            .filter(|sight| sight.doubts.contains(&doubt));
        match row.map(|sight| sight.resolved.expires + MARGIN).max() {
            None => "for the first time".to_owned(),
            Some(from) if resolved.asked < from => format!("{:?} too early", from - resolved.asked),
            Some(from) => format!(
                "{:?} after it began anew",
                resolved.asked - from - BELIEVABLE
            ),
        }
    }

    /// A call that changes the group is sent, for the first time or again.
    pub fn changing(&mut self, call: &Call, now: Duration, of: Of<'_>) -> Result<(), Broken> {
        // What was left over had its turn.
        (self.is_described, self.was_left_over) = (false, false);
        let name = &call.arn;
        // I1, I7: what is done is derived from an answer of the same reconcile.
        let resolved = self
            .reconcile
            .as_ref()
            .and_then(|reconcile| reconcile.resolved(of));
        let Some((resolved, reconcile)) = resolved.zip(self.reconcile.as_mut()) else {
            if of.is_shared() {
                // It was resolved before; another group has asked the same names since.
                self.stories.push(SHARED);
                return Ok(());
            }
            return broken(
                "I1, I7",
                format!("{name} was not resolved in this reconcile"),
            );
        };
        let is_deregistering = call.action == "DeregisterTargets";
        reconcile.is_changing = true;
        reconcile.is_deregistering |= is_deregistering;
        // Section 1: no call later than ACT after the first lookup of its answer was sent.
        if now > resolved.asked_at_most + ACT {
            let age = now - resolved.asked_at_most;
            return broken(
                "section 1",
                format!("acts on an answer asked for {age:?} ago"),
            );
        }
        let reconcile = self.reconcile.as_ref().expect("it is there");
        // I5: and from a description of the same reconcile, which is no older either (section 1).
        let described = match of.is_shared() {
            true => self.description.as_ref(),
            false => self.described(reconcile),
        };
        let Some(description) = described else {
            return broken("I5", format!("{name} was not described in this reconcile"));
        };
        if now > description.arrived + ACT {
            let age = now - description.arrived;
            return broken("section 1", format!("acts on a description {age:?} old"));
        }
        let Some(desired) = &resolved.desired else {
            self.stories.push(SHARED);
            return Ok(());
        };
        let current = live(&description.targets);
        let named: Targets = call.targets.iter().map(named).collect();
        if is_deregistering {
            self.deregistering(call, (desired, &description.targets), &resolved, of)?;
        } else {
            self.registering(call, desired, &current)?;
        }
        let stale = match (of.setting.misses, is_deregistering) {
            (0, _) => of.stale(&current, desired),
            (_, true) => named.clone(),
            (_, false) => BTreeSet::new(),
        };
        let times = (resolved.asked, now);
        let doubts = self.doubts(desired, &description.targets, &stale, times, true);
        let mut doubts = doubts.into_iter();
        let is_emptied = current.is_empty() && !description.targets.is_empty();
        // I8: a doubtful plan changes nothing.
        if let Some(doubt) = doubts.find(|doubt| !self.is_believed(*doubt, &resolved)) {
            // Whose answers began the doubt cannot be told where groups share the endpoint.
            if !of.is_shared() {
                let why = self.unbelieved(doubt, &resolved);
                return broken(
                    "I8",
                    format!("changes what it has to doubt: {doubt:?}, {why}"),
                );
            }
            self.stories.push(SHARED);
        }
        let is_at = |target: &SocketAddr| desired.iter().any(|other| other.ip() == target.ip());
        let is_elsewhere = named.iter().any(is_at);
        if is_emptied && !is_deregistering {
            self.stories.push(EMPTIED);
        }
        if of.setting.misses > 0 && is_deregistering && is_elsewhere {
            self.stories.push(OTHER_PORT);
        }
        Ok(())
    }

    fn registering(&self, call: &Call, desired: &Targets, current: &Targets) -> Result<(), Broken> {
        for described in &call.targets {
            let (target, zone) = (named(described), described.zone.as_deref());
            // I1: of an answer that says nothing of it.
            if !desired.contains(&target) {
                return broken(
                    "I1",
                    format!("registers {target}, of which DNS says nothing"),
                );
            }
            // I6: it would not be planned again.
            if current.contains(&target) {
                return broken("I6", format!("registers {target}, which is there"));
            }
            // Section 3: without zone, then with `all` only where refused for that reason.
            if zone.is_some() && !self.refused.contains(&target) {
                return broken(
                    "section 3",
                    format!("registers {target} in {zone:?}, unasked"),
                );
            }
        }
        Ok(())
    }

    fn deregistering(
        &self,
        call: &Call,
        (desired, described): (&Targets, &[TargetHealth]),
        resolved: &Resolved,
        of: Of<'_>,
    ) -> Result<(), Broken> {
        let registered = self
            .reconcile
            .as_ref()
            .map(|reconcile| &reconcile.registered);
        let served = &live(described) | registered.expect("a reconcile");
        // I2: register comes first, acknowledged by Elastic Load Balancing.
        if let Some(missing) = desired.difference(&served).next() {
            return broken("I2", format!("deregisters before {missing} is registered"));
        }
        for one in &call.targets {
            let target = named(one);
            is_as_described(one, described)?;
            if desired.contains(&target) {
                return broken("I1", format!("deregisters {target}, where DNS is"));
            }
            // Section 3: targets in `KEEP_CIDRS` are never deregistered.
            if kept(of.setting).contains(&target) {
                return broken("section 3", format!("deregisters {target}, which is kept"));
            }
            // I8: `MISSES_BEFORE_DEREGISTRATION` counts independent answers in a row.
            if !self.is_missed_enough(&target, desired, resolved, of) {
                return broken(
                    "I8, misses",
                    format!("deregisters {target}, missed too seldom"),
                );
            }
        }
        Ok(())
    }

    fn is_missed_enough(
        &self,
        target: &SocketAddr,
        desired: &Targets,
        resolved: &Resolved,
        of: Of<'_>,
    ) -> bool {
        let is_there = desired.iter().any(|other| other.ip() == target.ip());
        let (count, expires) = self.misses.get(target).copied().unwrap_or_default();
        let is_independent = count == 0 || resolved.asked_at_most >= expires + MARGIN;
        let misses = of.setting.misses;
        misses == 0 || is_there || of.is_shared() || count + u32::from(is_independent) > misses
    }

    /// Section 2: the plan that an invocation leaves behind, and from when on it could be believed at
    /// the latest. `None` also where it cannot be told.
    pub fn held_back(&self, begun: Duration, now: Duration, of: Of<'_>) -> Option<Duration> {
        let reconcile = self
            .reconcile
            .as_ref()
            .filter(|reconcile| !reconcile.is_changing)?;
        let resolved = reconcile.resolved(of).filter(|_| !of.is_shared())?;
        let desired = resolved.desired.as_ref()?;
        let earlier = || {
            let mut sights = self.sights.iter().rev();
            let last = sights.find(|sight| sight.described.is_some())?;
            let is_same =
                last.resolved.asked >= begun && last.resolved.desired.as_ref() == Some(desired);
            // A reconcile whose lookup failed has left no sight, and may have described.
            let newest = self.description.as_ref().map(|newest| &newest.targets);
            let described = last.described.as_ref();
            described
                .filter(|described| is_same && newest == Some(*described))
                .map(Vec::as_slice)
        };
        let own = self.described(reconcile).map(|own| &own.targets[..]);
        let described = own.or_else(earlier)?;
        // A target that may be missed too seldom is in no plan.
        let stale = match of.setting.misses {
            0 => of.stale(&live(described), desired),
            _ => BTreeSet::new(),
        };
        let doubts = self.doubts(desired, described, &stale, (resolved.asked, now), true);
        let mut doubts = doubts.into_iter();
        let doubt = doubts.find(|doubt| !self.is_believed(*doubt, &resolved))?;
        let row = self.row(doubt).map(|sight| sight.resolved.expires);
        Some(row.fold(resolved.expires, Duration::max) + MARGIN)
    }

    /// I8: nothing is doubtful where nobody serves.
    pub fn is_empty(&self) -> bool {
        let description = self.description.as_ref();
        description.is_some_and(|description| live(&description.targets).is_empty())
    }
}

impl Reconcile {
    fn is_complete(&self, of: Of<'_>) -> bool {
        let is_answered = |endpoint: usize| {
            let answers = self.answers.get(&endpoint).map_or(0, Vec::len);
            answers >= of.setting.lookups as usize
        };
        of.setting.endpoints_of(of.group).all(is_answered)
    }

    /// What DNS said, once all endpoints have answered.
    fn resolved(&self, of: Of<'_>) -> Option<Resolved> {
        let lookups = of.setting.lookups as usize;
        let answers = || self.answers.values().flatten();
        let is_same = |answers: &Vec<Answer>| {
            answers
                .iter()
                .all(|answer| answer.addresses == answers[0].addresses)
        };
        let is_known = !of.is_shared() || self.answers.values().all(is_same);
        let used = self
            .answers
            .values()
            .flat_map(|answers| match of.is_shared() {
                true => &answers[..],
                false => &answers[..answers.len().min(lookups)],
            });
        let addresses = used.flat_map(|answer| &answer.addresses);
        let desired = addresses
            .map(|address| SocketAddr::new(*address, PORT))
            .collect();
        // Of answers that may be another group's, the earliest is this one's at the latest.
        let of_endpoint = |answers: &Vec<Answer>, time: fn(&Answer) -> Duration| {
            let times = answers.iter().map(time);
            match of.is_shared() {
                true => times.min(),
                false => times.take(lookups).max(),
            }
        };
        let latest_of = |time: fn(&Answer) -> Duration| {
            let endpoints = self.answers.values();
            endpoints
                .filter_map(|answers| of_endpoint(answers, time))
                .max()
        };
        let last = latest_of(|answer| answer.arrived)?;
        let ttl = latest_of(|answer| answer.ttl)?.max(self.chains);
        let (first, latest) = (
            answers().map(|answer| answer.asked).min()?,
            answers().map(|answer| answer.asked).max()?,
        );
        self.is_complete(of).then_some(Resolved {
            asked: if of.is_shared() { first } else { self.asked },
            asked_at_most: if of.is_shared() { latest } else { self.asked },
            expires: last + ttl,
            desired: is_known.then_some(desired),
        })
    }
}

impl Sight {
    fn says(&self, doubt: Doubt) -> bool {
        let Some(desired) = &self.resolved.desired else {
            return true;
        };
        let is_current = |target: &SocketAddr| {
            self.described
                .as_deref()
                .map(|group| live(group).contains(target))
        };
        match doubt {
            Doubt::Register(target) => {
                desired.contains(&target) && is_current(&target) != Some(true)
            }
            Doubt::Deregister(target) => {
                !desired.contains(&target) && is_current(&target) != Some(false)
            }
        }
    }
}

/// I4, I3: what is deregistered is passed back as it was described, and does not drain.
fn is_as_described(target: &TargetDescription, described: &[TargetHealth]) -> Result<(), Broken> {
    let same = described.iter().find(|described| {
        (Some(described.port), Some(&described.zone), &described.id)
            == (target.port, target.zone.as_ref(), &target.id)
    });
    match same {
        None => broken(
            "I4",
            format!("deregisters {target:?}, which was not described"),
        ),
        Some(described) if described.state == "draining" => {
            broken("I3", format!("deregisters {}, which drains", target.id))
        }
        Some(_) => Ok(()),
    }
}

/// The groups that this name feeds, with the endpoint that it belongs to, and whether it is the
/// endpoint itself rather than the end of its chain.
pub fn fed<'a>(
    setting: &'a Setting,
    name: &str,
) -> Option<(usize, bool, impl Iterator<Item = usize> + use<'a>)> {
    let number = name.split_once('-')?.1.split('.').next()?;
    let index: usize = number.parse().ok()?;
    if index >= setting.endpoints()
        || ![play::endpoint(index), play::node(index)]
            .iter()
            .any(|of| of == name)
    {
        return None;
    }
    let feeds = setting.feeds.iter().filter(move |feed| feed.0 == index);
    Some((
        index,
        play::endpoint(index) == name,
        feeds.map(|feed| feed.1),
    ))
}
