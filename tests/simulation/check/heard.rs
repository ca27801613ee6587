//! What DNS and Elastic Load Balancing told a sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stand_in::elb::TargetHealth;
use stand_in::world::PORT;

use super::names::index_of;
use super::{ACT, Targets, live};

/// The answers to the questions of one sandbox, by endpoint.
#[derive(Debug, Default)]
pub struct Answers {
    pub of: BTreeMap<usize, Vec<Answer>>,
    /// When the invocation asked for each endpoint.
    pub asked: BTreeMap<usize, Vec<Duration>>,
    /// When each question was asked that waits for its answer.
    waiting: BTreeMap<(String, u16), Vec<Duration>>,
    /// When the beginning of a chain was asked for, and when it expires.
    chains: BTreeMap<usize, (Duration, Duration)>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub addresses: BTreeSet<IpAddr>,
    pub asked: Duration,
    pub arrived: Duration,
    pub expires: Duration,
    /// The reconcile may not have decided by it: it failed, or asked twice and took another answer.
    pub is_weak: bool,
}

impl Answer {
    pub fn names(&self, target: SocketAddr) -> bool {
        target.port() == PORT && self.addresses.contains(&target.ip())
    }
}

impl Answers {
    /// An invocation begins: nobody waits for the answers of the last one.
    pub fn begin(&mut self) {
        self.waiting.clear();
        self.chains.clear();
        self.asked.clear();
    }

    /// A question reached the name server. Returns the endpoint if the name is its own.
    pub fn asked(&mut self, name: &str, id: u16, now: Duration) -> Option<usize> {
        // A question that is sent again, because its answer is late or was truncated, is the same question. The
        // resolver draws the number of each question, so two questions of a moment may have the same.
        let waiting = self.waiting.entry((name.to_owned(), id)).or_default();
        waiting.retain(|asked| now < *asked + ACT);
        if waiting.iter().any(|asked| now > *asked) {
            return None;
        }
        waiting.push(now);
        let (endpoint, true) = index_of(name)? else {
            return None;
        };
        self.asked.entry(endpoint).or_default().push(now);
        Some(endpoint)
    }

    /// An answer came. Returns the endpoint if it is a good and whole one.
    pub fn answered(
        &mut self,
        name: &str,
        id: u16,
        addresses: &[IpAddr],
        (now, ttl): (Duration, Duration),
    ) -> Option<usize> {
        let asked = self.waiting.get_mut(&(name.to_owned(), id))?.pop()?;
        let (endpoint, is_beginning) = index_of(name)?;
        if is_beginning {
            self.chains.insert(endpoint, (asked, now + ttl));
        }
        // One without addresses is wrong, or the beginning of a chain.
        if addresses.is_empty() {
            return None;
        }
        let (asked, expires) = *self.chains.get(&endpoint)?;
        let answers = self.of.entry(endpoint).or_default();
        answers.push(Answer {
            addresses: addresses.iter().copied().collect(),
            asked,
            arrived: now,
            expires: expires.max(now + ttl),
            is_weak: false,
        });
        Some(endpoint)
    }

    /// The last answer for this endpoint, if the last question of the invocation had one.
    pub fn last(&self, endpoint: usize) -> Option<&Answer> {
        let last = self.of.get(&endpoint)?.last()?;
        let asked = self.asked.get(&endpoint)?.last()?;
        (last.asked >= *asked).then_some(last)
    }
}

/// What Elastic Load Balancing said of a group.
#[derive(Debug)]
pub struct Description {
    pub called: Duration,
    /// At the service.
    pub arrived: Duration,
    pub targets: Vec<TargetHealth>,
}

impl Description {
    pub fn live(&self) -> Targets {
        live(&self.targets)
    }

    pub fn is(&self, target: SocketAddr, state: &str) -> bool {
        super::targets(&self.targets, |one| one.state == state).contains(&target)
    }

    pub fn has(&self, target: SocketAddr) -> bool {
        super::targets(&self.targets, |_| true).contains(&target)
    }
}
