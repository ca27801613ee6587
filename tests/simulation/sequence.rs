//! A sequence is the setting in which the function runs, and what happens to it. All of it is drawn from one number.

use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::fault::{CallFault, DnsFault};

/// The least number of rounds in a drawn sequence. Each of them has an invocation.
pub const LEAST_ROUNDS: usize = 20;
const MOST_ROUNDS: usize = 26;

/// The addresses at which an endpoint can be. The last one is outside the target group's VPC.
const IPV4: [&str; 7] = [
    "10.0.1.7",
    "10.0.2.9",
    "10.0.3.3",
    "10.0.4.1",
    "10.0.5.2",
    "10.0.6.8",
    "192.168.7.7",
];
const IPV6: [&str; 7] = [
    "2001:db8::7",
    "2001:db8::9",
    "2001:db8::3",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::8",
    "2001:db8:1:1::7",
];

/// The index of the address outside the VPC.
pub const ABROAD: usize = 6;
/// The largest number of groups that are configured. It is nearly twice as many as a deployment can have.
pub const MOST_GROUPS: usize = 48;
/// The largest number of groups in a fleet.
const LARGEST_FLEET: usize = 500;
/// The largest number of misses that a tag asks for.
pub const MOST_TAGGED_MISSES: u32 = 3;
/// A TTL in seconds that is so long that a plain schedule has to come back for a doubt.
pub const LONG_TTL: u32 = 60;

/// An endpoint, and the target group that it feeds.
pub type Feed = (usize, usize);

/// The tags that make a group one of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags {
    pub names: Names,
    pub misses: Option<u32>,
}

/// The names in the tag. Every group of a fleet has a spare endpoint, which is in no setting's feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Own,
    Spare,
    Both,
    /// The tag cannot be read.
    Bad,
}

#[derive(Debug, Clone)]
pub struct Setting {
    pub sandboxes: usize,
    pub feeds: Vec<Feed>,
    pub is_ipv6: bool,
    /// The TTL of the addresses, in seconds.
    pub ttl: u32,
    /// The endpoint is a CNAME to the node's name.
    pub is_chain: bool,
    /// The CNAME's TTL, in seconds.
    pub chain_ttl: u32,
    /// The endpoint answers with one of its addresses at a time.
    pub is_rotating: bool,
    /// A move takes the endpoint to the address that it has been away from for the longest time.
    pub is_onward: bool,
    /// The number of caches that the sandbox's resolver has. Each question goes to any one of them.
    pub caches: u64,
    pub lookups: u32,
    pub misses: u32,
    /// This and the next two values are in seconds, as in the variables.
    pub poll: u32,
    pub interval: u32,
    pub event_poll: u32,
    pub registration_lag: Duration,
    pub deregistration_delay: Duration,
    /// Somebody else has a target in the group, and it lies in `KEEP_CIDRS`.
    pub is_keeping: bool,
    /// Somebody else registered a second address beside the endpoint's, long ago.
    pub is_pair: bool,
    /// The groups are found by their tags, and none is configured.
    pub is_fleet: bool,
}

/// One invocation, and what happens before it.
#[derive(Debug, Clone)]
pub struct Round {
    pub pause: Duration,
    pub happenings: Vec<Happening>,
    pub sandbox: usize,
    pub event: Event,
    /// Lambda delivers the event twice.
    pub is_twice: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Schedule,
    Notification,
    /// A notification that comes through the queue.
    Queue,
    DryRun,
}

#[derive(Debug, Clone)]
pub enum Happening {
    /// The endpoint is at these addresses from now on.
    Move { endpoint: usize, to: Vec<usize> },
    /// The next calls of this action go wrong.
    Call {
        action: &'static str,
        fault: CallFault,
        times: u32,
    },
    /// The next questions of this sandbox go wrong.
    Question {
        sandbox: usize,
        fault: DnsFault,
        times: u32,
    },
    /// The sandbox ends when its invocation has waited this many times and waits once more.
    Loss { sandbox: usize, waits: u32 },
    /// Somebody else changes the group.
    Meddling {
        group: usize,
        address: usize,
        port: u16,
        is_registering: bool,
    },
    /// An operator deregisters all targets of the group.
    Emptying { group: usize },
    /// All endpoints move to this address at once.
    LostZone { to: usize },
    /// Other tools of the account take this share of its calls for this long.
    Others { share: f64, lasting: Duration },
    /// Somebody else registers the kept target anew, so that it is initial.
    Renewal { group: usize },
    /// The wall clock is set forward, as in a thawed sandbox.
    Step { by: Duration },
    /// The endpoint moves back and forth between two addresses this many times, and stays at the second one.
    Flicker {
        endpoint: usize,
        between: (usize, usize),
        leg: Duration,
        times: u32,
    },
    /// Somebody gives the group tags, or takes them away. The list lags: the old and the new state take turns in it this
    /// many times, until the new one stays.
    Tag {
        group: usize,
        tags: Option<Tags>,
        turns: u32,
        leg: Duration,
    },
    /// Somebody deletes the group. The list goes on naming it.
    Deletion { group: usize },
    /// The endpoint cannot be resolved for this long.
    Outage {
        endpoint: usize,
        is_gone: bool,
        lasting: Duration,
    },
}

pub const ACTIONS: [&str; 6] = [
    "GetResources",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "RegisterTargets",
    "DeregisterTargets",
    "PutMetricData",
];

#[derive(Debug, Clone)]
pub struct Sequence {
    pub setting: Setting,
    pub rounds: Vec<Round>,
}

impl Setting {
    pub fn address(&self, index: usize) -> IpAddr {
        let pool = if self.is_ipv6 { IPV6 } else { IPV4 };
        pool[index].parse().expect("an address")
    }

    /// Returns the number of endpoints, the spare ones included.
    pub fn endpoints(&self) -> usize {
        self.feeding() + if self.is_fleet { self.groups() } else { 0 }
    }

    fn feeding(&self) -> usize {
        1 + self.feeds.iter().map(|feed| feed.0).max().unwrap_or(0)
    }

    pub fn groups(&self) -> usize {
        1 + self.feeds.iter().map(|feed| feed.1).max().unwrap_or(0)
    }

    /// Returns the longest time for which a cache gives an answer, including the last second that it counts.
    pub fn staleness(&self) -> Duration {
        Duration::from_secs(u64::from(self.ttl.max(self.chain_ttl)) + 1)
    }

    /// True if several groups are fed by this endpoint.
    pub fn is_shared(&self, endpoint: usize) -> bool {
        self.feeds.iter().filter(|feed| feed.0 == endpoint).count() > 1
    }

    /// Returns the second address that somebody else registered in this group, if there is one.
    pub fn pair_of(&self, group: usize) -> Option<usize> {
        let last = self.endpoints_of(group).max().unwrap_or(0);
        self.is_pair.then_some((last + 1) % ABROAD)
    }

    /// Returns the endpoints that feed this group, unless its tags say otherwise.
    pub fn endpoints_of(&self, group: usize) -> impl Iterator<Item = usize> {
        let feeds = self.feeds.iter().filter(move |feed| feed.1 == group);
        feeds.map(|feed| feed.0)
    }

    /// Returns the endpoints that feed this group with these names. Without any, the tag cannot be read.
    pub fn named(&self, group: usize, names: Names) -> Vec<usize> {
        let spare = [self.feeding() + group];
        match names {
            Names::Own => self.endpoints_of(group).collect(),
            Names::Spare => spare.to_vec(),
            Names::Both => self.endpoints_of(group).chain(spare).collect(),
            Names::Bad => Vec::new(),
        }
    }

    /// Returns the groups that this endpoint may feed.
    pub fn fed(&self, endpoint: usize) -> Vec<usize> {
        match endpoint.checked_sub(self.feeding()) {
            Some(group) => vec![group],
            None => {
                let feeds = self.feeds.iter().filter(|feed| feed.0 == endpoint);
                feeds.map(|feed| feed.1).collect()
            }
        }
    }
}

impl Sequence {
    /// Returns the sequence of this number, and what makes it smaller. Every second sequence has two sandboxes, and every
    /// fifth a fleet.
    pub fn tree(number: u64) -> (impl ValueTree<Value = Sequence>, TestRunner) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let config = Config {
            failure_persistence: None,
            max_shrink_iters: 3000,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let strategy = sequence(1 + (number % 2) as usize, number.is_multiple_of(5));
        loop {
            let tree = strategy.new_tree(&mut runner).expect("nothing is refused");
            // A sequence may become shorter than that only when it is made smaller.
            if tree.current().rounds.len() >= LEAST_ROUNDS {
                return (tree, runner);
            }
        }
    }
}

fn sequence(sandboxes: usize, is_fleet: bool) -> impl Strategy<Value = Sequence> {
    let rounds = setting(sandboxes, is_fleet).prop_flat_map(|setting| {
        let rounds = vec(round(&setting), 0..=MOST_ROUNDS);
        (Just(setting), rounds)
    });
    rounds.prop_map(|(setting, rounds)| Sequence { setting, rounds })
}

fn setting(sandboxes: usize, is_fleet: bool) -> impl Strategy<Value = Setting> {
    let feeds = select(vec![
        vec![(0, 0)],
        vec![(0, 0)],
        vec![(0, 0)],
        vec![(0, 0)],
        vec![(0, 0)],
        vec![(0, 0), (1, 0)],
        vec![(0, 0), (1, 0)],
        vec![(0, 0), (1, 1)],
        vec![(0, 0), (0, 1)],
        vec![(0, 0), (1, 0), (1, 1)],
    ]);
    let own = |groups: usize| (0..groups).map(|index| (index, index)).collect();
    let many = (6..=MOST_GROUPS).prop_map(own);
    let fleet = (MOST_GROUPS + 1..=LARGEST_FLEET).prop_map(own);
    let (often, seldom) = if is_fleet { (40, 5) } else { (26, 0) };
    let feeds = prop_oneof![972 => feeds, often => many, seldom => fleet];
    let ttl = prop_oneof![3 => 0..4_u32, 4 => 4..20_u32, 1 => 20..50_u32, 2 => LONG_TTL..110];
    let name = (ttl, any::<bool>(), 0..50_u32, weighted(0.1), weighted(0.15));
    let caches = prop_oneof![5 => Just(1), 1 => 2..4_u64];
    let way = (caches, any::<bool>());
    let misses = prop_oneof![3 => Just(0), 1 => 1..6_u32];
    let polls = prop_oneof![5 => Just(0), 1 => 3..15_u32, 2 => 40..56_u32];
    let event_polls = prop_oneof![4 => 0..3_u32, 1 => 40..56_u32];
    let window = (polls, 1..8_u32, event_polls);
    // Most delays are longer than the guarantee asks for. The others are as long as docs/deploy.md asks for.
    let delay = prop_oneof![1 => 65..99_u64, 3 => 99..185_u64];
    let group = (10..120_u64, delay, weighted(0.2), weighted(0.25));
    let all = (feeds, name, way, misses, window, group);
    all.prop_map(move |(feeds, name, way, misses, window, group)| {
        let (ttl, is_chain, chain_ttl, is_rotating, is_ipv6) = name;
        // The polls of a large fleet would take longer than those of all other sequences together.
        let is_plain = feeds.len() > MOST_GROUPS;
        Setting {
            sandboxes,
            // If a rotating name fed several groups, nobody could tell whose lookups are whose.
            feeds: if is_rotating {
                feeds[..1].to_vec()
            } else {
                feeds
            },
            is_ipv6,
            ttl,
            is_chain,
            chain_ttl,
            is_rotating,
            is_onward: way.1,
            caches: way.0,
            lookups: if is_rotating { 5 } else { 1 },
            misses,
            poll: if is_plain { 0 } else { window.0 },
            interval: window.1,
            event_poll: if is_plain { 0 } else { window.2 },
            registration_lag: Duration::from_secs(group.0),
            deregistration_delay: Duration::from_secs(u64::from(ttl.max(chain_ttl)) + group.1),
            is_keeping: group.2,
            is_pair: group.3,
            is_fleet,
        }
    })
}

fn weighted(probability: f64) -> impl Strategy<Value = bool> {
    proptest::bool::weighted(probability)
}

fn round(setting: &Setting) -> impl Strategy<Value = Round> + use<> {
    let pause = prop_oneof![
        6 => Just(60_000),
        4 => 0..200_u64,
        4 => 200..5_000_u64,
        4 => 5_000..60_000_u64,
        1 => 60_000..400_000_u64,
        2 => Just(180_000),
        1 => Just(600_000),
        1 => 3_600_000..4 * 3_600_000_u64,
    ];
    let event = prop_oneof![
        10 => Just(Event::Schedule),
        1 => Just(Event::Notification),
        1 => Just(Event::Queue),
        1 => Just(Event::DryRun),
    ];
    let happenings = vec(happening(setting), 0..4);
    (
        pause,
        happenings,
        0..setting.sandboxes,
        event,
        weighted(0.1),
    )
        .prop_map(|(pause, happenings, sandbox, event, is_twice)| Round {
            pause: Duration::from_millis(pause),
            happenings,
            sandbox,
            event,
            is_twice,
        })
}

fn happening(setting: &Setting) -> impl Strategy<Value = Happening> + use<> {
    let all: Vec<usize> = (0..ABROAD).collect();
    let rotated = if setting.is_rotating { 8 } else { 0 };
    let addresses = prop_oneof![
        8 => (0..3_usize).prop_map(|address| vec![address]),
        1 => Just(vec![ABROAD]),
        1 => proptest::sample::subsequence(vec![0, 1, 2], 2),
        rotated => proptest::sample::subsequence(all, 4..=ABROAD),
    ];
    let moves = (0..setting.endpoints(), addresses)
        .prop_map(|(endpoint, to)| Happening::Move { endpoint, to });
    // The rarer a call is, the likelier its fault is.
    let lists = if setting.is_fleet { 3 } else { 0 };
    let action = prop_oneof![
        lists => Just(ACTIONS[0]),
        1 => Just(ACTIONS[1]),
        2 => Just(ACTIONS[2]),
        3 => Just(ACTIONS[3]),
        3 => Just(ACTIONS[4]),
        1 => Just(ACTIONS[5]),
    ];
    let times = prop_oneof![3 => Just(1), 1 => 2..5_u32];
    let calls =
        (action, select(CallFault::all()), times.clone()).prop_map(|(action, fault, times)| {
            Happening::Call {
                action,
                fault,
                times,
            }
        });
    let sandbox = 0..setting.sandboxes;
    let questions =
        (sandbox.clone(), select(DnsFault::all()), times).prop_map(|(sandbox, fault, times)| {
            Happening::Question {
                sandbox,
                fault,
                times,
            }
        });
    let losses =
        (sandbox, 0..40_u32).prop_map(|(sandbox, waits)| Happening::Loss { sandbox, waits });
    let port = prop_oneof![4 => Just(6379), 1 => Just(7000)];
    let meddling = (
        0..setting.groups(),
        prop_oneof![3 => 0..3_usize, 1 => Just(ABROAD)],
        port,
        any::<bool>(),
    )
        .prop_map(
            |(group, address, port, is_registering)| Happening::Meddling {
                group,
                address,
                port,
                is_registering,
            },
        );
    let group = 0..setting.groups();
    let emptying = group
        .clone()
        .prop_map(|group| Happening::Emptying { group });
    let renewal = group.prop_map(|group| Happening::Renewal { group });
    let renewals = if setting.is_keeping { 2 } else { 0 };
    let lost_zone = (0..3_usize).prop_map(|to| Happening::LostZone { to });
    let zones = if setting.endpoints() > 1 { 3 } else { 0 };
    let by = prop_oneof![3 => 5..90_u64, 1 => 90..4000_u64];
    let steps = by.prop_map(|seconds| Happening::Step {
        by: Duration::from_secs(seconds),
    });
    let flickers = (
        0..setting.endpoints(),
        select(vec![(0, 1), (1, 0), (2, 0), (1, 2)]),
        prop_oneof![1 => 2_000..14_000_u64, 2 => 3_500..10_000_u64],
        any::<bool>(),
        1..4_u32,
    );
    // A leg lasts a few seconds longer than a cache keeps an answer, or only these seconds.
    let kept = u64::from(setting.ttl.max(setting.chain_ttl));
    let flickers = flickers.prop_map(move |(endpoint, between, leg, is_longer, times)| {
        let kept = if is_longer { 1000 * kept } else { 0 };
        let leg = Duration::from_millis(kept + leg);
        Happening::Flicker {
            endpoint,
            between,
            leg,
            times,
        }
    });
    let lasting = prop_oneof![2 => 3..60_u64, 1 => 60..1800_u64];
    let outages = (0..setting.endpoints(), any::<bool>(), lasting);
    let outages = outages.prop_map(|(endpoint, is_gone, seconds)| Happening::Outage {
        endpoint,
        is_gone,
        lasting: Duration::from_secs(seconds),
    });
    let outage = if setting.endpoints() > 1 { 4 } else { 1 };
    let flicker = if setting.is_rotating { 0 } else { 3 };
    let share = select(vec![0.3, 0.5, 0.9, 1.0]);
    let others = (share, 5..300_u64).prop_map(|(share, seconds)| Happening::Others {
        share,
        lasting: Duration::from_secs(seconds),
    });
    let names = prop_oneof![
        4 => Just(Names::Own),
        3 => Just(Names::Spare),
        2 => Just(Names::Both),
        1 => Just(Names::Bad),
    ];
    let own_misses = prop_oneof![3 => Just(None), 1 => (0..=MOST_TAGGED_MISSES).prop_map(Some)];
    let tags = (names, own_misses).prop_map(|(names, misses)| Tags { names, misses });
    let tags = prop_oneof![1 => Just(None), 3 => tags.prop_map(Some)];
    let turns = prop_oneof![4 => Just(0), 1 => 1..4_u32];
    let tags = (0..setting.groups(), tags, turns, 1_000..90_000_u64);
    let tags = tags.prop_map(|(group, tags, turns, leg)| Happening::Tag {
        group,
        tags,
        turns,
        leg: Duration::from_millis(leg),
    });
    let deletions = (0..setting.groups()).prop_map(|group| Happening::Deletion { group });
    let (tag, deletion) = if setting.is_fleet { (6, 1) } else { (0, 0) };
    // A union of more than ten alternatives cannot leave one out, so these five are one alternative.
    let world = prop_oneof![
        4 => steps,
        2 * flicker => flickers,
        2 * outage => outages,
        2 * tag => tags,
        deletion => deletions,
    ];
    prop_oneof![
        16 => moves,
        12 => calls,
        7 => questions,
        2 => losses,
        2 => meddling,
        1 => emptying,
        renewals => renewal,
        zones => lost_zone,
        1 => others,
        6 => world,
    ]
}
