//! What a call has to be like that changes a group, by what its sandbox was told and by where the names are.

use std::net::SocketAddr;
use std::time::Duration;

use stand_in::elb::{TargetDescription, TargetHealth};
use stand_in::world::PORT;

use super::heard::{Answer, Answers, Description};
use super::names::Names;
use super::{ACT, BELIEVABLE, Broken, Followed, MARGIN, Stories, broken};
use crate::history::Call;
use crate::play::{endpoint, kept};
use crate::sequence::Setting;

pub const DOUBTED: &str = "doubtful change";
pub const WAITED: &str = "doubtful change in the invocation that doubted it";
pub const KEPT: &str = "doubtful change beside a kept target that is initial";
pub const EMPTIED: &str = "draining target back in an empty group";
const SHARED: &str = "lenient: doubtful change of a group that shares its endpoint";

/// A lookup and the description may leave in either order.
const SAME_MOMENT: Duration = Duration::from_millis(100);
/// The latest that a cache learns where an endpoint is, after it asked.
const LATE: Duration = Duration::from_secs(5);
/// Longer than it takes to ask every second.
const OFTEN: Duration = Duration::from_secs(2);

pub struct Change<'a> {
    pub setting: &'a Setting,
    pub names: &'a Names,
    pub answers: &'a Answers,
    pub followed: &'a Followed,
    pub group: usize,
    pub call: &'a Call,
    pub now: Duration,
    /// When the invocation began, and whether nothing has gone wrong in it.
    pub begun: Duration,
    pub is_clean: bool,
}

/// As a call names it.
pub fn named(target: &TargetDescription) -> SocketAddr {
    let address = target.id.parse().expect("an address");
    SocketAddr::new(address, target.port.unwrap_or(0))
}

impl Change<'_> {
    pub fn is_promised(&self, stories: &mut Stories) -> Result<(), Broken> {
        // I5: what is done is derived from a description too, and section 1: from none that is old.
        let Some(description) = &self.followed.description else {
            return broken("I5", "changes a group that it has not described");
        };
        if self.now > description.arrived + ACT {
            let age = self.now - description.arrived;
            return broken("section 1", format!("acts on a description {age:?} old"));
        }
        if self.is_deregistering() {
            self.is_registered_first(description)?;
        }
        for one in &self.call.targets {
            let target = named(one);
            match self.is_deregistering() {
                true => self.deregisters(one, description)?,
                false => self.registers(one, description)?,
            }
            self.is_true(target)?;
            if self.is_doubtful(target, description) {
                self.is_believed(target, description, stories)?;
            } else if description.is(target, "draining") {
                *stories.entry(EMPTIED).or_default() += 1;
            }
        }
        Ok(())
    }

    fn is_deregistering(&self) -> bool {
        self.call.action == "DeregisterTargets"
    }

    fn endpoints(&self) -> impl Iterator<Item = usize> {
        self.setting.endpoints_of(self.group)
    }

    fn answers(&self, endpoint: usize) -> &[Answer] {
        self.answers.of.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    /// Section 1: the answers that can be acted on now. No later reconcile than the description's (I5) can have asked
    /// for them: if they were asked for after it, they are the first.
    fn usable(&self, endpoint: usize) -> Vec<&Answer> {
        let lookups = self.setting.lookups as usize;
        let description = self.followed.description.as_ref();
        let called = description.map_or(Duration::MAX, |one| one.called);
        let is_shared = self.setting.is_shared(endpoint);
        let (mut usable, mut later) = (Vec::new(), 0);
        for answer in self.answers(endpoint) {
            let is_later = answer.asked > called + SAME_MOMENT;
            later += usize::from(is_later);
            if self.now <= answer.asked + ACT && (is_shared || !is_later || later <= lookups) {
                usable.push(answer);
            }
        }
        usable
    }

    fn is_named(&self, target: SocketAddr) -> bool {
        let mut usable = self.endpoints().flat_map(|index| self.usable(index));
        usable.any(|answer| answer.names(target))
    }

    /// I2: register comes first, acknowledged by Elastic Load Balancing. I1: nothing is deregistered that an
    /// answer names, nor while one of the endpoints has no answer.
    fn is_registered_first(&self, description: &Description) -> Result<(), Broken> {
        let since = self
            .followed
            .registered
            .iter()
            .filter(|(_, at)| *at >= description.called);
        let mut served = description.live();
        served.extend(since.map(|(target, _)| *target));
        let targets: Vec<_> = self.call.targets.iter().map(named).collect();
        for index in self.endpoints() {
            let usable = self.usable(index);
            let mut unions = usable.windows(self.setting.lookups as usize).peekable();
            if unions.peek().is_none() {
                let (name, ago) = (endpoint(index), self.age(index));
                let text = format!("deregisters without an answer for {name}, asked {ago} ago");
                return broken("I1", text);
            }
            let is_free = |answers: &&[&Answer]| {
                let mut named = targets.iter().flat_map(|target| {
                    let answers = answers.iter();
                    answers.filter(|answer| answer.names(*target))
                });
                named.next().is_none()
            };
            let mut unions = unions.filter(is_free).peekable();
            if unions.peek().is_none() {
                return broken(
                    "I1",
                    format!("deregisters one of {targets:?}, where DNS is"),
                );
            }
            let is_served = |answers: &[&Answer]| {
                let mut addresses = answers.iter().flat_map(|answer| &answer.addresses);
                addresses.all(|address| served.contains(&SocketAddr::new(*address, PORT)))
            };
            if !unions.any(is_served) {
                return broken("I2", "deregisters before all that DNS names is registered");
            }
        }
        Ok(())
    }

    /// How long ago the last answer was asked for.
    fn age(&self, endpoint: usize) -> String {
        let last = self.answers(endpoint).last();
        last.map_or("never".to_owned(), |last| {
            format!("{:?}", self.now - last.asked)
        })
    }

    fn registers(&self, one: &TargetDescription, description: &Description) -> Result<(), Broken> {
        let (target, zone) = (named(one), one.zone.as_deref());
        if !self.is_named(target) {
            let ages: Vec<_> = self.endpoints().map(|index| self.age(index)).collect();
            let text =
                format!("registers {target} without an answer that names it, asked {ages:?} ago");
            return broken("I1", text);
        }
        // I6: it would not be decided again.
        if description.live().contains(&target) {
            return broken("I6", format!("registers {target}, which is there"));
        }
        // Section 3: without zone, then with `all` only where refused for that reason.
        if zone.is_some() && !self.followed.refused.contains(&target) {
            return broken(
                "section 3",
                format!("registers {target} in {zone:?}, unasked"),
            );
        }
        Ok(())
    }

    fn deregisters(
        &self,
        one: &TargetDescription,
        description: &Description,
    ) -> Result<(), Broken> {
        let target = named(one);
        // I4, I3: it is passed back as it was described, and does not drain.
        let mut described = description.targets.iter();
        let same = described.find(|same| {
            (Some(same.port), Some(&same.zone), &same.id) == (one.port, one.zone.as_ref(), &one.id)
        });
        match same {
            None => {
                return broken(
                    "I4",
                    format!("deregisters {one:?}, which was not described"),
                );
            }
            Some(same) if same.state == "draining" => {
                return broken("I3", format!("deregisters {target}, which drains"));
            }
            Some(_) => (),
        }
        if kept(self.setting).contains(&target) {
            return broken("section 3", format!("deregisters {target}, which is kept"));
        }
        // `MISSES_BEFORE_DEREGISTRATION`: so many independent answers in a row lacked it before.
        let is_there = |answer: &&Answer| answer.addresses.contains(&target.ip());
        let mut endpoints = self.endpoints();
        let is_seldom = |index| {
            let (mut count, mut from) = (0, Duration::ZERO);
            let row: Vec<_> = self
                .row(index, false, |answer| !is_there(&answer))
                .collect();
            for answer in row.into_iter().rev() {
                if answer.asked >= from {
                    (count, from) = (count + 1, answer.expires + MARGIN);
                }
            }
            count <= self.setting.misses
        };
        let is_elsewhere = self
            .endpoints()
            .any(|index| self.usable(index).iter().any(is_there));
        if self.setting.misses > 0 && !is_elsewhere && endpoints.any(is_seldom) {
            return broken(
                "I8, misses",
                format!("deregisters {target}, missed too seldom"),
            );
        }
        Ok(())
    }

    /// The answers that say so, back from the last, up to one that does not, unless that is torn. Where groups share
    /// an endpoint, it cannot be told whose answer that is.
    fn row(
        &self,
        endpoint: usize,
        is_torn: bool,
        says_so: impl Fn(&Answer) -> bool,
    ) -> impl Iterator<Item = &Answer> {
        let is_torn = is_torn || self.setting.is_shared(endpoint);
        let answers = self.answers(endpoint).iter().rev();
        let row = answers.map(move |answer| (answer, says_so(answer)));
        let row = row.take_while(move |(answer, says_so)| *says_so || answer.is_weak || is_torn);
        row.filter(|(_, says_so)| *says_so)
            .map(|(answer, _)| answer)
    }

    /// Once every cache has where the names are, no change moves away from it.
    fn is_true(&self, target: SocketAddr) -> Result<(), Broken> {
        let still = self.names.still_since(self.setting, self.group);
        if self.now < still + self.setting.staleness() + MARGIN + LATE {
            return Ok(());
        }
        let is_there = self
            .names
            .desired(self.setting, self.group)
            .contains(&target);
        match (is_there, self.is_deregistering()) {
            (true, true) if !self.setting.is_rotating => broken(
                "truth",
                format!("deregisters {target}, where DNS has been for long"),
            ),
            (false, false) => broken(
                "truth",
                format!("registers {target}, where DNS has not been for long"),
            ),
            _ => Ok(()),
        }
    }

    /// I8: what a stale answer or another invocation's answer would do.
    fn is_doubtful(&self, target: SocketAddr, description: &Description) -> bool {
        if !self.is_deregistering() {
            return description.is(target, "draining") && !description.live().is_empty();
        }
        let mut registered = self.followed.registered.iter();
        let is_new = |(one, at): &(SocketAddr, Duration)| *at >= self.begun && self.is_named(*one);
        description.is(target, "initial") || !registered.any(is_new)
    }

    /// I8: what is doubtful is done by two answers, of which no cache can have given both, and not against what
    /// anybody who asks every second would have been told in between.
    fn is_believed(
        &self,
        target: SocketAddr,
        description: &Description,
        stories: &mut Stories,
    ) -> Result<(), Broken> {
        let setting = self.setting;
        *stories.entry(DOUBTED).or_default() += 1;
        if kept(setting)
            .iter()
            .any(|kept| description.is(*kept, "initial"))
        {
            *stories.entry(KEPT).or_default() += 1;
        }
        let mut endpoints = self.endpoints();
        if endpoints.any(|index| setting.is_shared(index)) {
            *stories.entry(SHARED).or_default() += 1;
        }
        let is_removal = self.is_deregistering();
        let usable = self.endpoints().flat_map(|index| self.usable(index));
        let asked = usable.map(|answer| answer.asked).max();
        let is_united = setting.lookups > 1 || self.endpoints().count() > 1;
        let mut from = None;
        for index in self.endpoints() {
            let says_so = |answer: &Answer| answer.names(target) != is_removal;
            // One of the answers that are united names it, and not always the same one.
            let mut row = self.row(index, !is_removal && is_united, says_so);
            let is_independent = |answer: &&Answer| {
                let from = answer.expires + MARGIN;
                asked.is_some_and(|asked| from <= asked && asked <= from + BELIEVABLE + ACT)
            };
            match row.find(is_independent) {
                Some(earlier) => from = from.max(Some(earlier.arrived)),
                None if is_removal => return self.too_early(target, description),
                None => (),
            }
        }
        let Some(from) = from else {
            return self.too_early(target, description);
        };
        *stories.entry(WAITED).or_default() += u64::from(from >= self.begun);
        self.is_uncontradicted(target, from.max(self.begun))
    }

    fn too_early(&self, target: SocketAddr, description: &Description) -> Result<(), Broken> {
        let mut described = description.targets.iter();
        let is_it = |one: &&TargetHealth| (one.address, one.port) == (target.ip(), target.port());
        let state = described.find(is_it).map_or("gone", |one| one.state);
        let action = &self.call.action;
        let text = format!("{action} of {target}, which is {state}, without an independent answer");
        match state {
            "initial" | "draining" => broken("I8", text),
            _ => broken("I8, nothing new", text),
        }
    }

    /// I8: while something is held back, DNS is asked every second, and another answer ends the doubt.
    fn is_uncontradicted(&self, target: SocketAddr, from: Duration) -> Result<(), Broken> {
        let is_removal = self.is_deregistering();
        let is_simple = is_removal || self.endpoints().count() == 1;
        if !self.is_clean || !is_simple || self.setting.is_rotating {
            return Ok(());
        }
        let leg = |index| {
            let is_there = |target: SocketAddr| {
                move |to: &std::collections::BTreeSet<_>| {
                    (target.port() == PORT && to.contains(&target.ip())) == is_removal
                }
            };
            let times = (from, self.now.max(from));
            self.names.longest(index, times, is_there(target))
        };
        let longest = self.endpoints().map(leg).max().unwrap_or_default();
        match longest > self.setting.staleness() + OFTEN {
            true => broken(
                "I8, every second",
                format!(
                    "{} of {target}, though DNS said otherwise for {longest:?} since",
                    self.call.action
                ),
            ),
            false => Ok(()),
        }
    }
}
