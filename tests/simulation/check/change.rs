//! Checks a call that changes a group against what its sandbox was told and where the names are.

use std::net::SocketAddr;
use std::time::Duration;

use stand_in::elb::{TargetDescription, TargetHealth};

use super::heard::Answer;
use super::view::{Description, View};
use super::{ACT, BELIEVABLE, Broken, MARGIN, Targets, must, targets};
use crate::history::Call;
use crate::play::kept;

pub const DOUBTED: &str = "doubtful change";
pub const WAITED: &str = "doubtful change in the invocation that doubted it";
pub const KEPT: &str = "doubtful change beside a kept target that is initial";
pub const EMPTIED: &str = "draining target back in an empty group";
const SHARED: &str = "lenient: doubtful change of a group that shares its endpoint";

/// The time within which a lookup and the description may leave in either order.
const SAME_MOMENT: Duration = Duration::from_millis(100);
/// The longest time that a cache may take, after it asked, to learn where an endpoint is.
const LATE: Duration = Duration::from_secs(5);
/// Somebody who asks every second has asked in any period of this length.
const EVERY_SECOND: Duration = Duration::from_secs(2);

/// Returns the target that the call names.
pub fn named(target: &TargetDescription) -> SocketAddr {
    let address = target.id.parse().expect("an address");
    SocketAddr::new(address, target.port.unwrap_or(0))
}

/// A call and the description that it is derived from.
pub struct Change<'a> {
    pub view: View<'a>,
    pub call: &'a Call,
    pub description: &'a Description,
    pub is_removal: bool,
}

impl Change<'_> {
    pub fn is_promised(&self) -> Result<(), Broken> {
        // Section 1: no change is based on old knowledge.
        let is_new = self.view.now <= self.description.arrived + ACT;
        must(is_new, "section 1", "it was described too long ago")?;
        if self.is_removal {
            self.is_registered_first()?;
        }
        for one in &self.call.targets {
            let target = named(one);
            match self.is_removal {
                true => self.deregisters(one, target)?,
                false => self.registers(one, target)?,
            }
            self.is_true(target)?;
            if self.is_doubtful(target) {
                self.is_believed(target)?;
            } else if self.description.is(target, "draining") {
                self.view.checker.tell(EMPTIED);
            }
        }
        Ok(())
    }

    /// Section 1: returns the answers that can be acted on now, the last to arrive first. Of two groups that share an
    /// endpoint, the one that asked later may have been answered earlier. No later reconcile than that of the
    /// description can have asked for them (I5). So only the first of the answers that were asked for after it count.
    fn usable(&self, endpoint: usize) -> Vec<&Answer> {
        let answers = self.view.answers(endpoint).iter().rev();
        let latest = self.description.called + SAME_MOMENT;
        let later = answers.clone().take_while(|answer| answer.asked > latest);
        let spare = later
            .count()
            .saturating_sub(self.view.setting.lookups as usize);
        let answers = answers.skip(if self.view.is_shared() { 0 } else { spare });
        let usable = answers.filter(|answer| self.view.now <= answer.asked + ACT);
        usable.collect()
    }

    fn all_usable(&self) -> impl Iterator<Item = &Answer> {
        self.view
            .endpoints()
            .flat_map(|endpoint| self.usable(endpoint))
    }

    /// I2: targets are registered first, and Elastic Load Balancing has acknowledged that. I1: a target that an answer
    /// names is not deregistered, and nothing is deregistered while one of the endpoints has no answer.
    fn is_registered_first(&self) -> Result<(), Broken> {
        // If a question had to be asked again, the answer may be the one to the first question.
        let is_sure = self.view.running.is_clean && !self.view.is_shared();
        let is_whole = self.view.said().1 || !is_sure;
        must(is_whole, "I1", "an endpoint did not answer")?;
        let registered = self.view.followed.registered.iter();
        let since = registered.filter(|(_, at)| *at >= self.description.called);
        let mut served = self.description.live();
        served.extend(since.map(|(target, _)| *target));
        // A desired target that drains may be held back.
        let mut seen = targets(&self.description.group, |one| one.state == "draining");
        seen.extend(&served);
        let removed: Targets = self.call.targets.iter().map(named).collect();
        for endpoint in self.view.endpoints() {
            let usable = self.usable(endpoint);
            let lookups = usable.windows(self.view.setting.lookups as usize);
            let united =
                lookups.map(|answers| answers.iter().flat_map(|one| &one.targets).copied());
            let united = united.map(Iterator::collect::<Targets>);
            let desired: Vec<_> = united.filter(|one| one.is_disjoint(&removed)).collect();
            must(
                !desired.is_empty(),
                "I1",
                "DNS names it, or did not answer in time",
            )?;
            let is_seen = desired.iter().any(|desired| desired.is_subset(&seen));
            must(is_seen, "I2", "what DNS names is not registered yet")?;
        }
        let mut answers = self.all_usable();
        let is_kept = answers.any(|answer| !answer.targets.is_disjoint(&served));
        must(is_kept, "I8, floor", "no target stays that DNS names")
    }

    fn registers(&self, one: &TargetDescription, target: SocketAddr) -> Result<(), Broken> {
        let is_named = self
            .all_usable()
            .any(|answer| answer.targets.contains(&target));
        must(is_named, "I1", "no answer names it, or none in time")?;
        // I6: deciding again would not register it again.
        must(
            !self.description.live().contains(&target),
            "I6",
            "it is there",
        )?;
        // Section 3: a target is registered without a zone at first. `all` is given only after a refusal for that
        // reason.
        let is_asked = one.zone.is_none() || self.view.followed.refused.contains(&target);
        must(is_asked, "section 3", "a zone was not asked for")
    }

    fn deregisters(&self, one: &TargetDescription, target: SocketAddr) -> Result<(), Broken> {
        let is_same = |same: &TargetHealth| {
            (Some(same.port), Some(&same.zone), &same.id) == (one.port, one.zone.as_ref(), &one.id)
        };
        let is_described = self.description.group.iter().any(is_same);
        must(is_described, "I4", "it was not described like this")?;
        must(!self.description.is(target, "draining"), "I3", "it drains")?;
        must(
            !kept(self.view.setting).contains(&target),
            "section 3",
            "it is kept",
        )?;
        must(
            self.is_missed(target),
            "I8, misses",
            "it was missed too seldom",
        )
    }

    /// True if `MISSES_BEFORE_DEREGISTRATION` independent answers in a row lacked the address before. If groups share
    /// an endpoint, nobody can tell whose answers those are, so it is true.
    fn is_missed(&self, target: SocketAddr) -> bool {
        let misses = self.view.misses();
        let is_often = |endpoint| {
            let mut row = self.row(endpoint, false, |answer| !answer.is_at(target.ip()));
            // Taking the answers that expire first finds the most that are independent of each other.
            row.sort_by_key(|answer| answer.expires);
            let (mut count, mut from) = (0, Duration::ZERO);
            for answer in row {
                if answer.asked >= from {
                    (count, from) = (count + 1, answer.expires + MARGIN);
                }
            }
            count > misses
        };
        let is_at = self.all_usable().any(|answer| answer.is_at(target.ip()));
        misses == 0 || is_at || self.view.is_shared() || self.view.endpoints().all(is_often)
    }

    /// Returns the answers that say so, from the last back to one that does not. A weak answer does not end the row,
    /// and nothing ends a torn row. If groups share an endpoint, nobody can tell whose answers the row has, so it is
    /// torn.
    fn row(
        &self,
        endpoint: usize,
        is_torn: bool,
        says_so: impl Fn(&Answer) -> bool,
    ) -> Vec<&Answer> {
        let is_torn = is_torn || self.view.is_shared();
        let row = self.view.answers(endpoint).iter().rev();
        let row = row.take_while(|answer| says_so(answer) || answer.is_weak || is_torn);
        row.filter(|answer| says_so(answer)).collect()
    }

    /// Checks that no change moves away from where the names are, once every cache knows it.
    fn is_true(&self, target: SocketAddr) -> Result<(), Broken> {
        let (setting, mut is_still, mut is_there) = (self.view.setting, true, false);
        let known = setting.staleness() + MARGIN + LATE;
        for name in self
            .view
            .endpoints()
            .map(|endpoint| &self.view.checker.names[endpoint])
        {
            is_still &= self.view.now >= name.still_since() + known;
            is_there |= name.targets().contains(&target);
        }
        let is_in_part = self.is_removal && setting.is_rotating;
        let is_true = !is_still || is_there != self.is_removal || is_in_part;
        must(is_true, "truth", "DNS has long said otherwise")
    }

    /// I8: true if a stale answer, or another invocation's answer, would make this change.
    fn is_doubtful(&self, target: SocketAddr) -> bool {
        let (description, begun) = (self.description, self.view.running.begun);
        if !self.is_removal {
            return description.is(target, "draining") && !description.live().is_empty();
        }
        let mut registered = self.view.followed.registered.iter();
        let is_new = registered.any(|(one, at)| {
            *at >= begun && self.all_usable().any(|answer| answer.targets.contains(one))
        });
        description.is(target, "initial") || !is_new
    }

    /// I8: a doubtful change needs two answers that no cache can both have given. It is not made if anybody who asks
    /// every second would have been told otherwise in between.
    fn is_believed(&self, target: SocketAddr) -> Result<(), Broken> {
        let (view, is_removal) = (&self.view, self.is_removal);
        let (setting, description) = (view.setting, self.description);
        view.checker.tell(DOUBTED);
        let initial = targets(&description.group, |target| target.state == "initial");
        if !initial.is_disjoint(&kept(setting)) {
            view.checker.tell(KEPT);
        }
        if view.is_shared() {
            view.checker.tell(SHARED);
            if setting.caches > 1 {
                // The groups get answers that differ in their TTLs.
                return Ok(());
            }
        }
        // Any one of the united answers may name it, and not always the same one.
        let is_united = setting.lookups > 1 || view.endpoints().count() > 1;
        let asked = self.all_usable().map(|answer| answer.asked).max();
        let asked = asked.unwrap_or_default();
        // Of several endpoints, another one's answer may have expired later, and the answer of the group with it.
        let later = match is_united {
            true => setting.staleness(),
            false => Duration::ZERO,
        };
        let is_too_late = |from| asked > from + later + BELIEVABLE + ACT;
        let independent = |endpoint| {
            let says_so = |answer: &Answer| answer.targets.contains(&target) != is_removal;
            let row = self
                .row(endpoint, !is_removal && is_united, says_so)
                .into_iter();
            let froms = row.map(|answer| (answer.expires + MARGIN, answer.arrived));
            let froms: Vec<_> = froms.filter(|(from, _)| *from <= asked).collect();
            // A doubt begins with the first answer, which may expire after later ones.
            let in_time = froms.iter().find(|(from, _)| !is_too_late(*from));
            in_time.or(froms.first()).copied()
        };
        let earlier: Vec<_> = view.endpoints().map(independent).collect();
        let from = earlier.iter().flatten().map(|(from, _)| *from).max();
        let latest = earlier.iter().flatten().map(|(_, arrived)| *arrived).max();
        let is_independent =
            from.is_some_and(|from| !is_too_late(from)) && !(is_removal && earlier.contains(&None));
        let is_initial = description.is(target, "initial") || !is_removal;
        let promise = if is_initial { "I8" } else { "I8, nothing new" };
        must(is_independent, promise, "no earlier answer is independent")?;
        let since = latest.unwrap_or_default().max(view.running.begun);
        if latest >= Some(view.running.begun) {
            view.checker.tell(WAITED);
        }
        let otherwise = view.endpoints().map(|endpoint| {
            let is_it = |to: &Targets| to.contains(&target) == is_removal;
            view.checker.names[endpoint].longest((since, view.now.max(since)), is_it)
        });
        let is_long = otherwise.max() > Some(setting.staleness() + EVERY_SECOND);
        let is_sure = view.running.is_clean && (is_removal || !is_united) && !setting.is_rotating;
        must(
            !(is_long && is_sure),
            "I8, every second",
            "DNS said otherwise meanwhile",
        )
    }
}
