//! Records what DNS told a sandbox.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::names::index_of;
use super::{ACT, Targets, at_port};

#[derive(Debug)]
pub struct Answer {
    pub targets: Targets,
    pub asked: Duration,
    pub arrived: Duration,
    pub expires: Duration,
    /// The reconcile may not have decided by it: it failed, was a dry run, or asked twice and took another answer.
    pub is_weak: bool,
}

/// The answers for each endpoint.
#[derive(Debug, Default)]
pub struct Answers {
    pub of: BTreeMap<usize, Vec<Answer>>,
    asked: BTreeMap<usize, Vec<Duration>>,
    /// The times at which the questions were asked that still wait for an answer.
    waiting: BTreeMap<(String, u16), Vec<Duration>>,
    /// The time at which the beginning of each chain was asked for, and the time at which it expires.
    chains: BTreeMap<usize, (Duration, Duration)>,
}

impl Answer {
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.targets.iter().any(|target| target.ip() == address)
    }
}

impl Answers {
    /// Begins an invocation. Nobody waits for the answers of the last one any more.
    pub fn begin(&mut self) {
        let of = std::mem::take(&mut self.of);
        *self = Answers {
            of,
            ..Answers::default()
        };
    }

    /// Notes that nobody waits for the answers to the questions for this endpoint any more.
    pub fn give_up(&mut self, endpoint: usize) {
        let is_of = |name: &str| index_of(name).is_some_and(|(index, _)| index == endpoint);
        self.waiting.retain(|(name, _), _| !is_of(name));
    }

    pub fn of(&self, endpoint: usize) -> &[Answer] {
        self.of.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    /// Returns the times at which the invocation asked for this endpoint.
    pub fn asked_for(&self, endpoint: usize) -> &[Duration] {
        self.asked.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    /// Notes that a question reached the name server. Returns the endpoint if the name is its own.
    pub fn asked(&mut self, name: &str, id: u16, now: Duration) -> Option<usize> {
        // A question that is sent again because its answer is late or was truncated is the same question. The resolver
        // draws the number of each question, so two questions of the same moment may have the same number.
        let waiting = self.waiting.entry((name.to_owned(), id)).or_default();
        waiting.retain(|asked| now < *asked + ACT);
        if waiting.iter().any(|asked| now > *asked) {
            return None;
        }
        waiting.push(now);
        let (endpoint, _) = index_of(name).filter(|(_, is_own)| *is_own)?;
        self.asked.entry(endpoint).or_default().push(now);
        Some(endpoint)
    }

    /// Notes that an answer came. Returns the endpoint if the answer is good and whole.
    pub fn answered(
        &mut self,
        (name, id): (&str, u16),
        addresses: &[IpAddr],
        (arrived, ttl): (Duration, Duration),
    ) -> Option<usize> {
        let (endpoint, is_own) = index_of(name)?;
        let waiting = self.waiting.get_mut(&(name.to_owned(), id))?;
        if waiting.is_empty() && addresses.is_empty() {
            return None;
        }
        let Some(asked) = waiting.pop() else {
            // A question that was sent again has two answers. The function may have taken either of them.
            let expires = self.chains.get(&endpoint)?.1.min(arrived + ttl);
            let last = self.of.get_mut(&endpoint)?.last_mut()?;
            last.expires = last.expires.min(expires);
            last.is_weak |= last.targets != at_port(addresses);
            return None;
        };
        if is_own {
            self.chains.insert(endpoint, (asked, arrived + ttl));
        }
        let (asked, expires) = *self.chains.get(&endpoint)?;
        // An answer without addresses is wrong, or is the beginning of a chain.
        if addresses.is_empty() {
            return None;
        }
        self.of.entry(endpoint).or_default().push(Answer {
            targets: at_port(addresses),
            asked,
            arrived,
            expires: expires.max(arrived + ttl),
            is_weak: false,
        });
        Some(endpoint)
    }

    /// Returns the answer to the invocation's last question for this endpoint.
    pub fn last(&self, endpoint: usize) -> Option<&Answer> {
        let asked = self.asked_for(endpoint).last()?;
        self.of(endpoint).last().filter(|last| last.asked >= *asked)
    }
}
