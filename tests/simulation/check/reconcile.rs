//! What one reconcile of one group may do, by what it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::elb::{TargetDescription, TargetHealth};

use super::{Arrival, Broken, broken};
use crate::history::{Call, Line};
use crate::play::{self, PORT, kept};
use crate::sequence::{Event, Setting};

/// A miss that is older says nothing.
const MISS_FORGOTTEN_AFTER: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Register(SocketAddr),
    Deregister(SocketAddr),
}

/// A group as one sandbox follows it.
#[derive(Debug, Default)]
pub struct Followed {
    reconcile: Reconcile,
    /// What would have been done at the doubtful reconciles without a break before this one, and from
    /// when on it can be believed.
    doubts: BTreeMap<Doubt, Duration>,
    misses: BTreeMap<SocketAddr, (u32, Duration)>,
    /// It cannot be told any more what is remembered.
    is_unsure: bool,
    /// The last reconcile of the invocation.
    pub is_failed: bool,
}

type Answer = (BTreeSet<IpAddr>, Duration);
type Desired = (BTreeSet<SocketAddr>, Duration);

/// What a decision is made of.
struct Known<'a> {
    desired: BTreeSet<SocketAddr>,
    /// When the TTL has passed.
    expires: Duration,
    described: &'a [TargetHealth],
    current: BTreeSet<SocketAddr>,
}

#[derive(Debug, Default)]
struct Reconcile {
    start: Duration,
    /// Of each endpoint, with the end of its TTL.
    answers: BTreeMap<usize, Vec<Answer>>,
    described: Option<Vec<TargetHealth>>,
    registered: BTreeSet<SocketAddr>,
    deregistered: BTreeSet<SocketAddr>,
    /// For which a zone was asked.
    refused: BTreeSet<SocketAddr>,
}

/// Those of a described group.
pub fn targets(
    group: &[TargetHealth],
    is_one: impl Fn(&TargetHealth) -> bool,
) -> BTreeSet<SocketAddr> {
    let targets = group.iter().filter(|target| is_one(target));
    targets
        .map(|target| SocketAddr::new(target.address, target.port))
        .collect()
}

/// As a call names it.
fn named(target: &TargetDescription) -> SocketAddr {
    let address = target.id.parse().expect("an address");
    SocketAddr::new(address, target.port.unwrap_or(0))
}

impl Followed {
    pub fn begin(&mut self, now: Duration) {
        self.reconcile = Reconcile {
            start: now,
            ..Reconcile::default()
        };
    }

    /// What comes now belongs to none.
    pub fn end(&mut self) {
        self.reconcile = Reconcile::default();
    }

    pub fn answered(&mut self, endpoint: usize, addresses: &[IpAddr], expires: Duration) {
        // One without addresses is wrong, or the beginning of a chain.
        if !addresses.is_empty() {
            let answers = self.reconcile.answers.entry(endpoint).or_default();
            answers.push((addresses.iter().copied().collect(), expires));
        }
    }

    pub fn returned(&mut self, call: &Call, arrival: &Arrival) {
        let reconcile = &mut self.reconcile;
        let targets = call.targets.iter().map(named);
        match (call.action.as_str(), arrival.outcome.as_str()) {
            ("DescribeTargetHealth", "Ok") => reconcile.described = Some(arrival.group.clone()),
            ("RegisterTargets", "Ok") => reconcile.registered.extend(targets),
            ("RegisterTargets", "ValidationError") => reconcile.refused.extend(targets),
            ("DeregisterTargets", "Ok") => reconcile.deregistered.extend(targets),
            _ => (),
        }
    }

    /// This reconcile's own answers. Where another group follows the same endpoint they cannot be told
    /// from its answers; `None` if that matters.
    fn used(&self, endpoint: usize, setting: &Setting) -> Result<Option<&[Answer]>, Broken> {
        let lookups = setting.lookups as usize;
        let answers = self.reconcile.answers.get(&endpoint);
        let answers = answers.map_or(&[][..], Vec::as_slice);
        if answers.len() < lookups {
            let name = play::endpoint(endpoint);
            broken("I1, I7", format!("{name} was not asked in this reconcile"))?;
        }
        let is_same = answers.iter().all(|answer| answer.0 == answers[0].0);
        Ok(match setting.is_shared(endpoint) {
            true => Some(&answers[..1]).filter(|_| is_same),
            false => Some(&answers[..lookups]),
        })
    }

    /// What DNS says by them, and when their TTL has passed.
    fn desired(&self, group: &str, setting: &Setting) -> Result<Option<Desired>, Broken> {
        let index = (0..setting.groups()).find(|index| play::arn(*index) == group);
        let mut desired = (BTreeSet::new(), Duration::ZERO);
        for endpoint in setting.endpoints_of(index.expect("a group")) {
            let Some(answers) = self.used(endpoint, setting)? else {
                return Ok(None);
            };
            for (addresses, expires) in answers {
                let targets = addresses
                    .iter()
                    .map(|address| SocketAddr::new(*address, PORT));
                desired.0.extend(targets);
                desired.1 = desired.1.max(*expires);
            }
        }
        Ok(Some(desired))
    }

    /// By what this reconcile decides; `None` if that cannot be told.
    fn known(&self, group: &str, setting: &Setting) -> Result<Option<Known<'_>>, Broken> {
        let desired = self.desired(group, setting)?;
        let Some(described) = &self.reconcile.described else {
            broken("I5", format!("{group} was not described in this reconcile"))?;
            return Ok(None);
        };
        Ok(desired.map(|(desired, expires)| Known {
            desired,
            expires,
            described,
            current: targets(described, |target| target.state != "draining"),
        }))
    }

    pub fn registering(&self, call: &Call, setting: &Setting) -> Result<(), Broken> {
        let Some(known) = self.known(&call.arn, setting)? else {
            return Ok(());
        };
        for described in &call.targets {
            let (target, zone) = (named(described), described.zone.as_deref());
            if !known.desired.contains(&target) {
                broken(
                    "I1",
                    format!("registers {target}, of which DNS says nothing"),
                )?;
            }
            if known.current.contains(&target) {
                broken("I6", format!("registers {target}, which is there"))?;
            }
            let is_draining = known.described.iter().any(|other| {
                other.state == "draining" && SocketAddr::new(other.address, other.port) == target
            });
            if is_draining && !self.is_believed(Doubt::Register(target)) {
                broken("I8", format!("brings back {target}, which drains"))?;
            }
            if zone.is_some() && !self.reconcile.refused.contains(&target) {
                broken(
                    "section 3",
                    format!("registers {target} in {zone:?}, unasked"),
                )?;
            }
        }
        Ok(())
    }

    pub fn deregistering(
        &self,
        call: &Call,
        setting: &Setting,
        is_counting: bool,
    ) -> Result<(), Broken> {
        let Some(known) = self.known(&call.arn, setting)? else {
            return Ok(());
        };
        let served = &known.current | &self.reconcile.registered;
        if let Some(missing) = known.desired.difference(&served).next() {
            broken("I2", format!("deregisters before {missing} is registered"))?;
        }
        for described in &call.targets {
            let target = named(described);
            known.is_as_described(described)?;
            if known.desired.contains(&target) {
                broken("I1", format!("deregisters {target}, where DNS is"))?;
            }
            if kept(setting).contains(&target) {
                broken("section 3", format!("deregisters {target}, which is kept"))?;
            }
            if !self.is_missed_enough(&target, setting, is_counting) {
                broken(
                    "section 3",
                    format!("deregisters {target}, missed too seldom"),
                )?;
            }
        }
        self.deregistering_in_doubt(call, &known)
    }

    fn deregistering_in_doubt(&self, call: &Call, known: &Known<'_>) -> Result<(), Broken> {
        let stale: BTreeSet<_> = call.targets.iter().map(named).collect();
        let initial = targets(known.described, |target| target.state == "initial");
        let is_safe = !self.reconcile.registered.is_empty() || !initial.is_subset(&stale);
        for target in stale {
            let is_doubtful = !is_safe || initial.contains(&target);
            if is_doubtful && !self.is_believed(Doubt::Deregister(target)) {
                broken("I8", format!("deregisters {target}, which is doubtful"))?;
            }
        }
        Ok(())
    }

    fn is_believed(&self, doubt: Doubt) -> bool {
        let since = self.doubts.get(&doubt);
        self.is_unsure || since.is_some_and(|since| *since <= self.reconcile.start)
    }

    fn is_missed_enough(&self, target: &SocketAddr, setting: &Setting, is_counting: bool) -> bool {
        let missed = self.missed_before(target);
        self.is_unsure || setting.misses == 0 || (is_counting && missed + 1 > setting.misses)
    }

    fn missed_before(&self, target: &SocketAddr) -> u32 {
        let missed = self.misses.get(target).copied();
        let start = self.reconcile.start;
        let recent = missed.filter(|(_, last)| start - *last < MISS_FORGOTTEN_AFTER);
        recent.map_or(0, |(count, _)| count)
    }

    /// Whether the plan would register what drains, or deregister what is new: such a reconcile counts
    /// no misses.
    fn undoes_a_change(
        &self,
        known: &Known<'_>,
        missing: &BTreeSet<SocketAddr>,
        setting: &Setting,
    ) -> bool {
        let in_state = |state| targets(known.described, |target| target.state == state);
        let initial = in_state("initial");
        let is_removed =
            |target| initial.contains(target) && self.missed_before(target) + 1 > setting.misses;
        !known.desired.is_disjoint(&in_state("draining")) || missing.iter().any(is_removed)
    }

    /// Whether it was a failover; `None` if that cannot be told.
    pub fn reconciled(
        &mut self,
        line: &Line,
        setting: &Setting,
        event: Event,
    ) -> Result<Option<bool>, Broken> {
        let Some(known) = self.known(&line.target_group_arn, setting)? else {
            self.is_unsure = true;
            return Ok(None);
        };
        if event == Event::DryRun {
            return Ok(Some(false));
        }
        let is_at = |address| known.desired.iter().any(|target| target.ip() == address);
        let mut deregistered = self.reconcile.deregistered.iter();
        let is_failover = deregistered.any(|target| !is_at(target.ip()));
        let missing = &(&known.current - &known.desired) - &kept(setting);
        let undoes_a_change = self.undoes_a_change(&known, &missing, setting);
        if line.is_doubtful {
            let absent = (&known.desired - &known.current)
                .into_iter()
                .map(Doubt::Register);
            let doubts = absent.chain(missing.iter().copied().map(Doubt::Deregister));
            let first = |doubt| self.doubts.get(&doubt).copied();
            let since = |doubt| (doubt, first(doubt).unwrap_or(known.expires));
            self.doubts = doubts.map(since).collect();
        } else {
            self.doubts.clear();
            self.is_unsure &= setting.misses > 0;
        }
        if event == Event::Schedule && !(line.is_doubtful && undoes_a_change) {
            let missed = |target| (self.missed_before(&target) + 1, self.reconcile.start);
            let misses = missing.into_iter().map(|target| (target, missed(target)));
            self.misses = misses.collect();
        }
        Ok(Some(is_failover))
    }
}

impl Known<'_> {
    /// What is deregistered is passed back as it was described.
    fn is_as_described(&self, target: &TargetDescription) -> Result<(), Broken> {
        let same = self.described.iter().find(|described| {
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
}
