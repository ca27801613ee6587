//! Plays a sequence in virtual time. The real function, with the real SDK and the real resolver, runs between the
//! stand-ins and what goes wrong on the way to them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use nlb_hostname_target::error::Errors;
use nlb_hostname_target::report::Report;
use serde_json::Value;
use stand_in::dns::{Answer, Cache};
use stand_in::elb::{RANGES, TargetDescription, TargetGroup};
use stand_in::fleet;
use stand_in::lambda::{NOTIFICATION, QUEUE, SCHEDULE, TIMEOUT};
use stand_in::world::{DAY, Function, PORT, World, group_arn};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use crate::check::live;
use crate::fault::{CallFault, DnsFault};
use crate::history::{Entry, History, Life, What};
use crate::log;
use crate::network::{Faults, NameServer, Pace, Wire};
use crate::sequence::{
    ABROAD, Event, Happening, MOST_TAGGED_MISSES, Names, Sequence, Setting, Tags,
};

/// After this time, a call that was lost on its way has arrived.
const ARRIVED: Duration = Duration::from_secs(3);
const MINUTE: Duration = Duration::from_secs(60);
/// The tags of a group of a fleet, before somebody changes them.
const OWN: Tags = Tags {
    names: Names::Own,
    misses: None,
};
/// The ranges of the targets that belong to somebody else.
const KEEP_CIDRS: &str = "10.0.250.0/24,2001:db8:0:fa::/64";

/// Plays the sequence, and returns what happened.
pub fn play(sequence: &Sequence, number: u64) -> Vec<Entry> {
    // Backoff delays are drawn from this generator.
    fastrand::seed(number);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let play = Play::new(sequence.setting.clone(), number).await;
        play.play(sequence).await;
        play.history.take()
    })
}

pub fn arn(group: usize) -> String {
    group_arn(group as u64)
}

pub fn index_of_group(arn: &str) -> usize {
    let index = arn.rsplit('/').next();
    let index = index.and_then(|index| usize::from_str_radix(index, 16).ok());
    index.expect("a group of the setting")
}

pub fn endpoint(endpoint: usize) -> String {
    format!("endpoint-{endpoint}.example.com")
}

/// Returns the name at the end of the endpoint's CNAME.
pub fn node(endpoint: usize) -> String {
    format!("node-{endpoint}.example.com")
}

/// Returns the targets of somebody else.
pub fn kept(setting: &Setting) -> BTreeSet<SocketAddr> {
    let kept = if setting.is_ipv6 {
        "[2001:db8:0:fa::1]:6379"
    } else {
        "10.0.250.1:6379"
    };
    setting
        .is_keeping
        .then(|| kept.parse().expect("a target"))
        .into_iter()
        .collect()
}

struct Play {
    number: u64,
    setting: Setting,
    world: World,
    /// The indices of the addresses at which each endpoint is.
    at: RefCell<BTreeMap<usize, Vec<usize>>>,
    history: History,
    pace: Pace,
    call_faults: Faults<CallFault>,
    dns_faults: Faults<DnsFault>,
    /// The tags of each group of the fleet, as they are or as the list will say soon.
    tags: RefCell<BTreeMap<usize, Tags>>,
    /// The number of times that the others' share of the account's calls changed.
    others: Cell<u32>,
    /// The endpoints that cannot be resolved, and the time until which that lasts.
    out: RefCell<BTreeMap<usize, Instant>>,
    is_healed: Cell<bool>,
}

/// An event, and the channel that says when its invocation is over.
type Task = (Event, oneshot::Sender<()>);

/// A sandbox, in which Lambda runs one invocation at a time.
struct Sandbox {
    tasks: mpsc::UnboundedSender<Task>,
    /// The number of waits after which the invocation is lost, if it is to be lost.
    waits: Rc<Cell<Option<u32>>>,
}

impl Play {
    /// Makes a world in which every endpoint is at its first address. The groups have been there for a long time.
    async fn new(setting: Setting, number: u64) -> Rc<Self> {
        let mut play = Play {
            number,
            world: World::in_memory(UNIX_EPOCH + DAY),
            at: RefCell::default(),
            history: History::new(),
            pace: Pace::new(number),
            call_faults: Faults::default(),
            dns_faults: Faults::default(),
            tags: RefCell::default(),
            others: Cell::new(0),
            out: RefCell::default(),
            is_healed: Cell::new(false),
            setting,
        };
        play.world.zone.set_seed(number);
        for group in 0..play.setting.groups() {
            play.add_group(group);
        }
        for endpoint in 0..play.setting.endpoints() {
            play.point(endpoint, &[endpoint % ABROAD], play.setting.is_rotating);
        }
        play.configure();
        if play.setting.is_fleet {
            (0..play.setting.groups()).for_each(|group| play.tag(group, Some(OWN)));
        }
        sleep(play.setting.registration_lag).await;
        play.world.aws.limit(0.0);
        Rc::new(play)
    }

    /// Lets the list name the group with these tags, or without any leave it out.
    fn tag(&self, group: usize, tags: Option<Tags>) {
        let arn = arn(group);
        let aws = &self.world.aws;
        match tags {
            Some(Tags { names, misses }) => {
                let names = self.setting.named(group, names).into_iter();
                let names: Vec<_> = names.map(endpoint).collect();
                let names = names.join(" ");
                let misses =
                    misses.map(|misses| ("nlb-hostname-target/misses", misses.to_string()));
                let misses = misses.iter().map(|(tag, misses)| (*tag, misses.as_str()));
                aws.tag(&arn, fleet::tags(&names).into_iter().chain(misses));
            }
            None => aws.untag(&arn),
        }
        let tags = aws.tags(&arn);
        self.history.write(What::Tagged { arn, tags });
    }

    /// Gives the group other tags, about which the list may change its mind several times.
    fn retag(self: &Rc<Self>, group: usize, now: Option<Tags>, turns: u32, leg: Duration) {
        let before = match now {
            Some(tags) => self.tags.borrow_mut().insert(group, tags),
            None => self.tags.borrow_mut().remove(&group),
        };
        self.tag(group, now);
        let play = Rc::clone(self);
        spawn_local(async move {
            for tags in [before, now].repeat(turns as usize) {
                sleep(leg).await;
                let is_changed_again = play.tags.borrow().get(&group).copied() != now;
                if is_changed_again || play.is_healed.get() {
                    return;
                }
                play.tag(group, tags);
            }
        });
    }

    /// Deletes the group, while the list goes on naming it.
    fn delete(&self, group: usize) {
        if self.exists(group) {
            let arn = arn(group);
            self.world.aws.remove(&arn);
            self.history.write(What::Deleted { arn });
        }
    }

    fn exists(&self, group: usize) -> bool {
        self.world.aws.has(&arn(group))
    }

    /// Returns the groups that somebody has not deleted.
    fn groups(&self) -> impl Iterator<Item = usize> {
        (0..self.setting.groups()).filter(|group| self.exists(*group))
    }

    fn add_group(&self, group: usize) {
        let (setting, arn) = (&self.setting, arn(group));
        let mut target_group = TargetGroup::ipv4(&arn, PORT);
        target_group.is_ipv6 = setting.is_ipv6;
        target_group.is_written_in_full = setting.is_ipv6;
        target_group.registration_lag = setting.registration_lag;
        target_group.deregistration_delay = setting.deregistration_delay;
        self.world.aws.add(target_group);
        for endpoint in setting.endpoints_of(group) {
            self.world
                .aws
                .register(&arn, &setting.address(endpoint % ABROAD).to_string(), PORT);
        }
        if let Some(address) = setting.pair_of(group) {
            self.world
                .aws
                .register(&arn, &setting.address(address).to_string(), PORT);
        }
        for kept in kept(setting) {
            self.world
                .aws
                .register(&arn, &kept.ip().to_string(), kept.port());
        }
    }

    /// Moves the endpoint.
    fn point(&self, index: usize, to: &[usize], is_rotating: bool) {
        let Setting {
            ttl,
            chain_ttl,
            is_chain,
            ..
        } = self.setting;
        self.at.borrow_mut().insert(index, to.to_vec());
        let addresses: Vec<_> = to
            .iter()
            .map(|index| self.setting.address(*index))
            .collect();
        let mut fed = self.setting.fed(index).into_iter();
        let is_failback = fed.any(|group| {
            if !self.exists(group) {
                return false;
            }
            let targets = self.world.aws.targets(&arn(group));
            let mut draining = targets.iter().filter(|target| target.state == "draining");
            draining.any(|target| addresses.contains(&target.address))
        });
        self.history.write(What::Moved {
            endpoint: endpoint(index),
            to: addresses.clone(),
            is_failback,
        });
        let answer = match is_rotating {
            true => Answer::OneOf { ttl, addresses },
            false => Answer::Addresses { ttl, addresses },
        };
        if self.out.borrow().contains_key(&index) {
            return;
        }
        if !is_chain {
            return self.world.zone.set(&endpoint(index), answer);
        }
        let (target, is_split) = (node(index), index == 1);
        self.world.zone.set(&target, answer);
        self.world.zone.set(
            &endpoint(index),
            Answer::Cname {
                ttl: chain_ttl,
                target,
                is_split,
            },
        );
    }

    async fn play(self: &Rc<Self>, sequence: &Sequence) {
        let sandboxes: Vec<_> = (0..self.setting.sandboxes)
            .map(|index| self.sandbox(index))
            .collect();
        let mut over = Vec::new();
        for round in &sequence.rounds {
            sleep(round.pause).await;
            for happening in &round.happenings {
                self.happen(happening, &sandboxes);
            }
            over.push(sandboxes[round.sandbox].invoke(round.event));
            if round.is_twice {
                let another = (round.sandbox + 1) % sandboxes.len();
                over.push(sandboxes[another].invoke(round.event));
            }
        }
        for over in over {
            // The invocation may have been lost.
            let _ = over.await;
        }
        sleep(ARRIVED).await;
        self.heal(&sandboxes);
        self.settle(&sandboxes[sequence.rounds.len() % sandboxes.len()])
            .await;
        for sandbox in &sandboxes {
            let _ = sandbox.invoke(Event::Schedule).await;
        }
    }

    fn happen(self: &Rc<Self>, happening: &Happening, sandboxes: &[Sandbox]) {
        match *happening {
            Happening::Move { endpoint, ref to } => {
                let last = self.at.borrow()[&endpoint][0];
                match self.setting.is_onward && !self.setting.is_rotating {
                    true => self.point(endpoint, &[(last + 1) % ABROAD], false),
                    false => self.point(endpoint, to, self.setting.is_rotating),
                }
            }
            Happening::Step { by } => {
                self.world.clock.forward(by);
                self.history.write(What::Stepped { by });
            }
            Happening::Flicker {
                endpoint,
                between: (first, last),
                leg,
                times,
            } => {
                let play = Rc::clone(self);
                spawn_local(async move {
                    for to in [first, last].repeat(times as usize) {
                        if play.is_healed.get() {
                            return;
                        }
                        play.point(endpoint, &[to], false);
                        sleep(leg).await;
                    }
                });
            }
            Happening::Outage {
                endpoint,
                is_gone,
                lasting,
            } => self.fail(endpoint, is_gone, lasting),
            Happening::LostZone { to } => {
                for endpoint in 0..self.setting.endpoints() {
                    self.point(endpoint, &[to], self.setting.is_rotating);
                }
            }
            Happening::Tag {
                group,
                tags,
                turns,
                leg,
            } => self.retag(group, tags, turns, leg),
            Happening::Deletion { group } => self.delete(group),
            Happening::Others { share, lasting } => self.share(share, lasting),
            Happening::Call {
                action,
                fault,
                times,
            } => self.call_faults.add(action, fault, times),
            Happening::Question {
                sandbox,
                fault,
                times,
            } => {
                self.dns_faults.add(&sandbox.to_string(), fault, times);
            }
            Happening::Loss { sandbox, waits } => sandboxes[sandbox].waits.set(Some(waits)),
            Happening::Meddling { group, .. }
            | Happening::Emptying { group }
            | Happening::Renewal { group }
                if !self.exists(group) => {}
            Happening::Meddling {
                group,
                address,
                port,
                is_registering,
            } => {
                let target = SocketAddr::new(self.setting.address(address), port);
                self.meddle(&arn(group), target, is_registering);
            }
            Happening::Emptying { group } => {
                for target in self.world.aws.targets(&arn(group)) {
                    let target = SocketAddr::new(target.address, target.port);
                    // Nobody may deregister the kept target.
                    if !kept(&self.setting).contains(&target) {
                        self.meddle(&arn(group), target, false);
                    }
                }
            }
            Happening::Renewal { group } => {
                for target in kept(&self.setting) {
                    self.meddle(&arn(group), target, false);
                    self.meddle(&arn(group), target, true);
                }
            }
        }
    }

    /// Stops the endpoint from resolving, until the time is over or everything is healed.
    fn fail(self: &Rc<Self>, index: usize, is_gone: bool, lasting: Duration) {
        let until = Instant::now() + lasting;
        self.out.borrow_mut().insert(index, until);
        let answer = match is_gone {
            true => Answer::NxDomain,
            false => Answer::ServFail,
        };
        self.world.zone.set(&endpoint(index), answer);
        self.history.write(What::Out {
            endpoint: endpoint(index),
            is_over: false,
        });
        let play = Rc::clone(self);
        spawn_local(async move {
            sleep(lasting).await;
            if play.out.borrow().get(&index) == Some(&until) {
                play.mend(index);
            }
        });
    }

    /// Lets the endpoint resolve again.
    fn mend(&self, index: usize) {
        self.out.borrow_mut().remove(&index);
        self.history.write(What::Out {
            endpoint: endpoint(index),
            is_over: true,
        });
        let at = self.at.borrow()[&index].clone();
        self.point(index, &at, self.setting.is_rotating);
    }

    /// Lets others take this share of the calls for this long, unless more come or everything is healed meanwhile.
    fn share(self: &Rc<Self>, share: f64, lasting: Duration) {
        self.take(share);
        let (play, turn) = (Rc::clone(self), self.others.get());
        spawn_local(async move {
            sleep(lasting).await;
            if play.others.get() == turn {
                play.take(0.0);
            }
        });
    }

    /// Lets others take this share of the account's calls from now on.
    fn take(&self, share: f64) {
        self.others.set(self.others.get() + 1);
        self.world.aws.limit(share);
        self.history.write(What::Others { share });
    }

    fn meddle(&self, arn: &str, target: SocketAddr, is_registering: bool) {
        let description = TargetDescription {
            id: target.ip().to_string(),
            port: Some(target.port()),
            zone: (target.ip() == self.setting.address(ABROAD)).then(|| "all".to_owned()),
        };
        let now = Instant::now();
        self.world
            .aws
            .target_group(arn, |group| match is_registering {
                true => group.register(now, &[description]).expect("a good target"),
                false => group.deregister(now, &[description]),
            });
        self.history.write(What::Meddled {
            arn: arn.to_owned(),
            target,
            is_registering,
            group: self.world.aws.targets(arn),
        });
    }

    fn heal(&self, sandboxes: &[Sandbox]) {
        self.is_healed.set(true);
        let out: Vec<_> = self.out.borrow().keys().copied().collect();
        out.into_iter().for_each(|index| self.mend(index));
        self.call_faults.heal();
        self.dns_faults.heal();
        if self.setting.is_fleet {
            self.heal_tags();
        }
        self.take(0.0);
        for sandbox in sandboxes {
            sandbox.waits.set(None);
        }
        self.history.write(What::Healed);
    }

    /// Lets every group that exists have names, and the list know it.
    fn heal_tags(&self) {
        for group in 0..self.setting.groups() {
            let mut tags = self.tags.borrow().get(&group).copied().unwrap_or(OWN);
            if tags.names == Names::Bad {
                tags.names = Names::Own;
            }
            self.tags.borrow_mut().insert(group, tags);
            self.tag(group, Some(tags).filter(|_| self.exists(group)));
        }
    }

    /// Invokes the function on schedule until the groups are where DNS is, or until it is too late for that.
    async fn settle(&self, sandbox: &Sandbox) {
        if self.setting.is_rotating {
            // The name stops rotating.
            let at = self.at.borrow().clone();
            for (endpoint, to) in at {
                self.point(endpoint, &to, false);
            }
        }
        // After this pause, no cache holds an older answer.
        let ttl = self.setting.ttl.max(self.setting.chain_ttl);
        sleep(Duration::from_secs(u64::from(ttl) + 6)).await;
        // The loop counts minutes. They must be enough for all misses, a doubt, and another doubt about an initial
        // target. A fleet's names hold in the second list, and the last of many groups is described in the eighth
        // invocation.
        let (tagged, swept) = match self.setting.is_fleet {
            true => (MOST_TAGGED_MISSES, 1 + 8),
            false => (0, 0),
        };
        let answers = self.setting.misses.max(tagged) + 3;
        for _ in 0..answers * (2 + ttl.div_ceil(60)) + swept {
            let over = sandbox.invoke(Event::Schedule);
            sleep(MINUTE).await;
            let _ = over.await;
            if self.is_where_dns_is() {
                break;
            }
        }
        let groups = self.groups();
        let groups = groups.map(|group| (arn(group), self.world.aws.targets(&arn(group))));
        let groups = groups.collect();
        self.history.write(What::Settled { groups });
    }

    fn is_where_dns_is(&self) -> bool {
        let at = self.at.borrow();
        let tags = self.tags.borrow();
        self.groups().all(|group| {
            let tags = tags.get(&group).unwrap_or(&OWN);
            let named = self.setting.named(group, tags.names);
            let indices = named.iter().flat_map(|of| &at[of]);
            let target = |index: &usize| SocketAddr::new(self.setting.address(*index), PORT);
            let mut expected: BTreeSet<_> = indices.map(target).collect();
            expected.extend(kept(&self.setting));
            live(&self.world.aws.targets(&arn(group))) == expected
        })
    }

    fn sandbox(self: &Rc<Self>, index: usize) -> Sandbox {
        let (tasks, receiver) = mpsc::unbounded_channel();
        let waits = Rc::default();
        tokio::task::spawn_local(self.clone().run(index, receiver, Rc::clone(&waits)));
        Sandbox { tasks, waits }
    }

    /// Runs one invocation after the other, each in the same sandbox as long as that sandbox lives.
    async fn run(
        self: Rc<Self>,
        sandbox: usize,
        mut tasks: mpsc::UnboundedReceiver<Task>,
        waits: Rc<Cell<Option<u32>>>,
    ) {
        let caches = (0..self.setting.caches).map(|_| Cache::of(&self.world.zone));
        let caches: Vec<_> = caches.collect();
        let mut life = Life { sandbox, number: 0 };
        let mut function = self.function(life, &caches);
        while let Some((event, over)) = tasks.recv().await {
            self.history.write(What::Begun { life, event });
            let timeout = Instant::now() + TIMEOUT;
            let invocation = function.invoke(payload(event));
            let invocation = losable(log::of(life, &self.history, invocation), &waits);
            let what = match timeout_at(timeout, invocation).await {
                Ok(Some(outcome)) => ended(life, outcome),
                Ok(None) => What::Lost { life },
                Err(_) => What::TimedOut { life },
            };
            let is_alive = matches!(what, What::Ended { .. });
            self.history.write(what);
            if !is_alive {
                life.number += 1;
                function = self.function(life, &caches);
            }
            // Perhaps nobody waits for it.
            let _ = over.send(());
        }
    }

    fn function(&self, life: Life, caches: &[Cache]) -> Function {
        let wire = Wire {
            life,
            aws: self.world.aws.clone(),
            history: self.history.clone(),
            faults: self.call_faults.clone(),
            pace: self.pace.clone(),
        };
        let name_server = NameServer {
            life,
            caches: caches.to_vec(),
            zone: self.world.zone.clone(),
            history: self.history.clone(),
            faults: self.dns_faults.clone(),
            last: Arc::default(),
            late: Arc::default(),
            possible: (0..=ABROAD)
                .map(|index| self.setting.address(index))
                .collect(),
            pace: self.pace.clone(),
        };
        let Life { sandbox, number } = life;
        let region = format!("eu-west-{}-{sandbox}-{number}", self.number);
        self.world
            .function_over(wire, name_server.network(), region)
    }

    fn configure(&mut self) {
        let (setting, world) = (&self.setting, &mut self.world);
        let feeds = setting.feeds.iter();
        world.follow(feeds.map(|feed| (endpoint(feed.0), arn(feed.1))));
        world.set("LOOKUPS_PER_RECONCILE", setting.lookups);
        world.set("MISSES_BEFORE_DEREGISTRATION", setting.misses);
        world.set("POLL_INTERVAL_SECONDS", setting.interval);
        world.set("SCHEDULE_POLL_SECONDS", setting.poll);
        world.set("EVENT_POLL_SECONDS", setting.event_poll);
        world.set("KEEP_CIDRS", KEEP_CIDRS);
        if setting.is_fleet {
            fleet::follow(world);
            world.set("ALLOWED_CIDRS", RANGES.join(","));
        }
    }
}

impl Sandbox {
    fn invoke(&self, event: Event) -> oneshot::Receiver<()> {
        let (over, receiver) = oneshot::channel();
        self.tasks.send((event, over)).expect("a sandbox that runs");
        receiver
    }
}

/// Returns the entry for what the invocation answers to Lambda.
fn ended(life: Life, outcome: Result<Report, Errors>) -> What {
    let is_error = outcome.is_err();
    let (error, reconciles) = match outcome {
        Ok(report) => {
            let report = serde_json::to_value(report).expect("JSON");
            let error = report["errorMessage"].as_str().map(str::to_owned);
            (error, Some(reconciles(&report)))
        }
        Err(errors) => (Some(errors.to_string()), None),
    };
    What::Ended {
        life,
        error,
        is_error,
        reconciles,
    }
}

/// Returns the number of reconciles of all groups in the report.
fn reconciles(report: &Value) -> u64 {
    let groups = report["targetGroups"].as_array().expect("a list");
    let of_group = |group: &Value| group["reconciles"].as_u64().expect("a count");
    groups.iter().map(of_group).sum()
}

fn payload(event: Event) -> &'static str {
    match event {
        Event::Schedule => SCHEDULE,
        Event::Notification => NOTIFICATION,
        Event::Queue => QUEUE,
        Event::DryRun => r#"{"dryRun":true}"#,
    }
}

/// Polls the future. If no waits are left and it would wait once more, drops it and returns `None`.
async fn losable<T>(future: impl Future<Output = T>, waits: &Cell<Option<u32>>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(
        |context| match (future.as_mut().poll(context), waits.get()) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(0)) => {
                waits.set(None);
                Poll::Ready(None)
            }
            (Poll::Pending, Some(left)) => {
                waits.set(Some(left - 1));
                Poll::Pending
            }
        },
    )
    .await
}
