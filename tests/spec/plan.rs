//! Deciding is pure, so its whole small domain is tried: every answer over three addresses, against every group in
//! which each of them on each of two ports is absent, initial, healthy or draining. The other tests tell what is
//! remembered from one decision to the next, and for how long.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use ipnet::IpNet;
use nlb_hostname_target::plan::{
    self, Answer, Change, Decision, DescribedTarget, Done, Memory, Moment, Plan, Policy, State,
    Target,
};
use tokio::time::Instant;

const PORT: u16 = 6379;
const OTHER_PORT: u16 = 7000;
const ADDRESSES: [&str; 3] = ["10.0.1.7", "10.0.2.9", "2001:db8::7"];
/// The time from the end of an answer's TTL to the first answer that is independent of it. It consists of 5 s to act,
/// 2.5 s until a call takes effect, and 1 s because caches count in whole seconds.
const MARGIN: Duration = Duration::from_millis(8500);
/// The time from the question to the end of the answer's TTL. An independent answer comes 10 s after the question.
const TTL: Duration = Duration::from_millis(1500);
const WAIT: Duration = Duration::from_secs(10);
/// The policy for a primary endpoint.
const AT_ONCE: Policy = Policy {
    port: PORT,
    keep_cidrs: &[],
    misses_before_deregistration: 0,
};

fn addresses() -> [IpAddr; 3] {
    ADDRESSES.map(|address| address.parse().unwrap())
}

/// Returns the time of day at which a story begins.
fn begin() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Returns this time of day on both clocks, as if neither was moved.
fn moment(wall: SystemTime) -> Moment {
    static ANY: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let monotonic = *ANY + since;
    Moment { wall, monotonic }
}

fn described(address: IpAddr, port: u16, state: State) -> DescribedTarget {
    DescribedTarget {
        target: Target::new(address, port),
        description: TargetDescription::builder()
            .id(address.to_string())
            .port(port.into())
            .availability_zone("eu-west-1a")
            .build(),
        state,
    }
}

fn answer(addresses: impl IntoIterator<Item = IpAddr>, asked: SystemTime) -> Answer {
    let asked = moment(asked);
    Answer::new(addresses, asked, asked + TTL).expect("at least one address")
}

fn answers(asked: SystemTime) -> impl Iterator<Item = Answer> {
    let chosen = |bits: usize| {
        let chosen = addresses().into_iter().enumerate();
        chosen
            .filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, address)| address)
    };
    (1..8).map(move |bits| answer(chosen(bits), asked))
}

fn groups() -> impl Iterator<Item = Vec<DescribedTarget>> {
    let states = [
        None,
        Some(State::Initial),
        Some(State::Healthy),
        Some(State::Draining),
    ];
    let keys: Vec<_> = addresses()
        .into_iter()
        .flat_map(|address| [(address, PORT), (address, OTHER_PORT)])
        .collect();
    (0..4_usize.pow(6)).map(move |mut code| {
        let mut group = Vec::new();
        for (address, port) in &keys {
            group.extend(
                states[code % 4]
                    .clone()
                    .map(|state| described(*address, *port, state)),
            );
            code /= 4;
        }
        group
    })
}

fn in_state(group: &[DescribedTarget], state: &State) -> BTreeSet<Target> {
    let meant = group.iter().filter(|target| target.state == *state);
    meant.map(|target| target.target).collect()
}

fn current(group: &[DescribedTarget]) -> BTreeSet<Target> {
    let current = group
        .iter()
        .filter(|target| target.state != State::Draining);
    current.map(|target| target.target).collect()
}

/// Returns the group after the plan's registrations, as ELB carries them out.
fn registered(mut group: Vec<DescribedTarget>, plan: &Plan) -> Vec<DescribedTarget> {
    group.retain(|target| !plan.register.contains(&target.target));
    let new = plan.register.iter();
    group.extend(new.map(|target| described(target.ip(), target.port(), State::Initial)));
    group
}

fn deregistered(mut group: Vec<DescribedTarget>, plan: &Plan) -> Vec<DescribedTarget> {
    for target in &mut group {
        let is_stale = |stale: &DescribedTarget| stale.target == target.target;
        if plan.deregister.iter().any(is_stale) {
            target.state = State::Draining;
        }
    }
    group
}

/// Decides for a reconcile that has registered nothing yet.
fn decide(
    answer: &Answer,
    group: &[DescribedTarget],
    memory: &Memory,
    policy: Policy,
) -> (Decision, Memory) {
    plan::decide(answer, group, &Done::default(), memory, policy)
}

/// Decides without a memory, and checks that nothing is held back.
fn plan(answer: &Answer, group: &[DescribedTarget]) -> Plan {
    all_of(decide(answer, group, &Memory::default(), AT_ONCE).0)
}

fn all_of(Decision { now, held_back }: Decision) -> Plan {
    assert_eq!(held_back, []);
    now
}

fn stale(plan: &Plan) -> BTreeSet<Target> {
    plan.deregister.iter().map(|stale| stale.target).collect()
}

fn held_back(decision: &Decision) -> BTreeSet<(Target, Change)> {
    let held_back = decision.held_back.iter();
    held_back.map(|held| (held.target, held.change)).collect()
}

/// Returns the three doubts of I8, without anything that is remembered.
fn doubtful(desired: &BTreeSet<Target>, group: &[DescribedTarget]) -> BTreeSet<(Target, Change)> {
    let (before, draining) = (current(group), in_state(group, &State::Draining));
    let brought_back = desired & &draining;
    let brought_back = brought_back.into_iter().filter(|_| !before.is_empty());
    let fresh = &(desired - &before) - &draining;
    let initial = in_state(group, &State::Initial);
    let removed = &before - desired;
    let removed = removed.into_iter();
    let removed = removed.filter(|target| initial.contains(target) || fresh.is_empty());
    let brought_back = brought_back.map(|target| (target, Change::BringBack));
    brought_back
        .chain(removed.map(|target| (target, Change::Remove)))
        .collect()
}

#[test]
fn every_decision_leads_the_group_to_what_dns_says_and_never_empties_it() {
    let (now, believed_from) = (begin(), begin() + WAIT);
    let (mut done_at_once, mut doubted) = (0, 0);
    for (first, later, last) in answers(now)
        .zip(answers(believed_from - Duration::from_millis(1)))
        .zip(answers(believed_from))
        .map(|((first, later), last)| (first, later, last))
    {
        let desired = first.targets(PORT);
        for group in groups() {
            let before = current(&group);
            let decide = |answer, memory: &Memory| decide(answer, &group, memory, AT_ONCE);
            let (decision, remembered) = decide(&first, &Memory::default());
            let doubtful = doubtful(&desired, &group);
            assert_eq!(held_back(&decision), doubtful);
            let until = decision.held_back.iter().map(|held| held.until);
            assert!(
                until
                    .into_iter()
                    .all(|until| until == moment(believed_from))
            );
            let held = |change| doubtful.iter().filter(move |doubt| doubt.1 == change);
            let held = |change| held(change).map(|doubt| doubt.0).collect::<BTreeSet<_>>();
            let now = &decision.now;
            assert_eq!(
                now.register,
                &(&desired - &before) - &held(Change::BringBack)
            );
            assert_eq!(stale(now), &(&before - &desired) - &held(Change::Remove));
            let after = deregistered(registered(group.clone(), now), now);
            assert!(before.is_empty() || !current(&after).is_empty());
            match doubtful.is_empty() {
                true => done_at_once += 1,
                false => doubted += 1,
            }

            let (again, remembered) = decide(&later, &remembered);
            assert_eq!(again, decision, "a dependent answer");
            let plan = all_of(decide(&last, &remembered).0);
            assert_eq!(plan.register, &desired - &before, "desired and not current");
            assert_eq!(stale(&plan), &before - &desired, "current and not desired");
            assert!(
                plan.deregister.iter().all(|target| group.contains(target)),
                "as described"
            );

            let between = registered(group.clone(), &plan);
            assert!(current(&between).is_superset(&before), "make before break");
            let after = deregistered(between, &plan);
            assert_eq!(current(&after), desired);
            assert_eq!(
                self::plan(&last, &after),
                Plan::default(),
                "nothing is left to do"
            );
        }
    }
    assert_eq!(done_at_once + doubted, 7 * 4096);
    assert!(done_at_once > 2048 && doubted > 4096);
}

/// Some endpoints failed, so nobody knows what else is desired.
#[test]
fn an_answer_in_part_registers_what_is_fresh_and_decides_nothing_else() {
    for mut answer in answers(begin()) {
        answer.is_partial = true;
        let desired = answer.targets(PORT);
        for group in groups() {
            let plan = plan(&answer, &group);
            let fresh = &(&desired - &current(&group)) - &in_state(&group, &State::Draining);
            assert_eq!((plan.register, plan.deregister), (fresh, vec![]));
        }
    }
}

#[test]
fn the_same_input_makes_the_same_decision_in_whatever_order_it_was_described() {
    let in_any_order = |(mut decision, memory): (Decision, Memory)| {
        let deregister = &mut decision.now.deregister;
        deregister.sort_by_key(|stale| stale.target);
        (decision, memory)
    };
    for group in groups().step_by(7) {
        let reversed: Vec<_> = group.iter().rev().cloned().collect();
        for (first, later) in answers(begin()).zip(answers(begin() + WAIT / 2)) {
            let decide = |answer, group: &[_], memory: &_| {
                in_any_order(decide(answer, group, memory, AT_ONCE))
            };
            let decided = decide(&first, &group, &Memory::default());
            assert_eq!(decide(&first, &reversed, &Memory::default()), decided);
            let memory = decided.1;
            assert_eq!(
                decide(&later, &group, &memory),
                decide(&later, &reversed, &memory)
            );
        }
    }
}

/// The wall clock of a sandbox steps forward when it thaws. The monotonic clock may stand still before that.
#[test]
fn an_answer_is_independent_when_both_clocks_say_so() {
    let [a, b, _] = addresses();
    let group = [
        described(a, PORT, State::Draining),
        described(b, PORT, State::Initial),
    ];
    let begin = moment(begin());
    for (wall, monotonic, is_believed) in [(10, 10, true), (70, 9, false), (9, 70, false)] {
        let later = Moment {
            wall: begin.wall + Duration::from_secs(wall),
            monotonic: begin.monotonic + Duration::from_secs(monotonic),
        };
        let mut memory = Memory::default();
        let mut decisions = Vec::new();
        for asked in [begin, later] {
            let answer = Answer::new([a], asked, asked + TTL).unwrap();
            let (decision, next) = decide(&answer, &group, &memory, AT_ONCE);
            memory = next;
            decisions.push(decision.held_back.is_empty());
        }
        assert_eq!(decisions, [false, is_believed], "{wall} {monotonic}");
    }
}

#[test]
fn an_answer_without_addresses_cannot_be_built() {
    let now = moment(begin());
    assert_eq!(Answer::new([], now, now), None);
}

#[test]
fn a_target_in_any_state_but_draining_is_registered() {
    let [address, new, _] = addresses();
    for state in ["unhealthy", "unhealthy.draining", "unused", "unavailable"] {
        let group = [described(address, PORT, State::from(state))];
        assert_eq!(
            plan(&answer([address], begin()), &group),
            Plan::default(),
            "{state}"
        );
        let moved = plan(&answer([new], begin()), &group);
        assert_eq!(moved.deregister, group, "{state}");
    }
}

#[test]
fn targets_are_ordered_numerically_ipv4_before_ipv6_then_by_port() {
    let addresses =
        ["2001:db8::7", "10.0.10.1", "10.0.9.1", "9.0.0.1"].map(|address| address.parse().unwrap());
    let mut targets = answer(addresses, begin()).targets(PORT);
    targets.insert("10.0.9.1:80".parse().unwrap());
    let written: Vec<_> = targets.iter().map(Target::to_string).collect();
    assert_eq!(
        written,
        [
            "9.0.0.1:6379",
            "10.0.9.1:80",
            "10.0.9.1:6379",
            "10.0.10.1:6379",
            "[2001:db8::7]:6379"
        ]
    );
}

#[test]
fn what_is_kept_is_never_deregistered() {
    let [desired, theirs, _] = addresses();
    let keep: [IpNet; 1] = ["10.0.2.0/24".parse().unwrap()];
    let group = [
        described(theirs, PORT, State::Healthy),
        described(theirs, OTHER_PORT, State::Initial),
        described(desired, OTHER_PORT, State::Healthy),
    ];
    let policy = Policy {
        keep_cidrs: &keep,
        ..AT_ONCE
    };
    let answer = answer([desired], begin());
    let (decision, _) = decide(&answer, &group, &Memory::default(), policy);
    assert_eq!(all_of(decision).deregister, group[2..]);
}

/// A group, and its memory from one decision to the next. A story tells what is decided and when.
struct Told {
    group: Vec<DescribedTarget>,
    memory: Memory,
    misses: u32,
    keep: Vec<IpNet>,
    ttl: Duration,
}

/// Returns the time that is this many seconds after the beginning.
fn at(seconds: u64) -> SystemTime {
    begin() + Duration::from_secs(seconds)
}

impl Told {
    fn new<const N: usize>(states: [(&str, State); N]) -> Self {
        let mut told = Told {
            group: Vec::new(),
            memory: Memory::default(),
            misses: 0,
            keep: Vec::new(),
            ttl: TTL,
        };
        told.is_now(states);
        told
    }

    fn may_miss(self, misses: u32) -> Self {
        Told { misses, ..self }
    }

    fn is_now<const N: usize>(&mut self, states: [(&str, State); N]) {
        let target =
            |(address, state): (&str, State)| described(address.parse().unwrap(), PORT, state);
        self.group = states.map(target).to_vec();
    }

    /// Decides by an answer that was asked for then. Returns the decision in words.
    fn decide<const N: usize>(&mut self, seconds: u64, addresses: [&str; N]) -> String {
        let asked = moment(at(seconds));
        let addresses = addresses.map(|address| address.parse().unwrap());
        let answer = Answer::new(addresses, asked, asked + self.ttl).unwrap();
        let policy = Policy {
            misses_before_deregistration: self.misses,
            keep_cidrs: &self.keep,
            ..AT_ONCE
        };
        let (decision, memory) = decide(&answer, &self.group, &self.memory, policy);
        self.memory = memory;
        let registered: Vec<_> = decision
            .now
            .register
            .iter()
            .map(Target::to_string)
            .collect();
        let stale = decision.now.deregister.iter();
        let stale: Vec<_> = stale.map(|stale| stale.target.to_string()).collect();
        let now = format!("+{} -{}", registered.join(","), stale.join(","));
        let until = decision.held_back.iter().map(|held| held.until.wall).min();
        let until = until.map(|until| until.duration_since(begin()).unwrap().as_secs_f64());
        match until {
            None => now,
            Some(until) if now == "+ -" => format!("held back until {until}"),
            Some(until) => format!("{now}, held back until {until}"),
        }
    }
}

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const C: &str = "10.0.3.3";

/// Returns a group that another invocation moved from A to B a moment ago.
fn moved_to_b() -> Told {
    Told::new([(A, State::Draining), (B, State::Initial)])
}

/// Returns a group that nobody has changed for a long time.
fn long_standing() -> Told {
    Told::new([(A, State::Healthy), (B, State::Healthy)])
}

#[test]
fn a_doubt_is_believed_at_an_independent_answer_and_no_dependent_one_adds_to_it_or_ends_it() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    for second in 1..10 {
        assert_eq!(told.decide(second, [A]), "held back until 10");
    }
    assert_eq!(told.decide(10, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn the_ttl_of_the_first_answer_counts_whatever_a_dependent_one_says() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    told.ttl = Duration::from_secs(300);
    assert_eq!(told.decide(9, [A]), "held back until 10");
    assert_eq!(told.decide(10, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn an_answer_with_a_ttl_of_0_is_doubted_for_the_margin() {
    let mut told = moved_to_b();
    told.ttl = Duration::ZERO;
    let until = format!("held back until {}", MARGIN.as_secs_f64());
    assert_eq!(told.decide(0, [A]), until);
    assert_eq!(told.decide(8, [A]), until);
    assert_eq!(told.decide(9, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn the_reason_names_the_target_that_is_held_back() {
    for (states, answer, expected) in [
        (
            vec![(A, State::Draining), (B, State::Healthy)],
            [A, B],
            "10.0.1.7:6379 is draining, and DNS names it again",
        ),
        (
            vec![(A, State::Healthy), (B, State::Initial)],
            [A, C],
            "10.0.2.9:6379 was registered a moment ago, and DNS does not name it",
        ),
        (
            vec![(A, State::Healthy), (B, State::Healthy)],
            [A, A],
            "DNS does not name 10.0.2.9:6379, but no new target takes over from it now",
        ),
    ] {
        let mut told = Told::new([]);
        let target =
            |(address, state): (&str, State)| described(address.parse().unwrap(), PORT, state);
        told.group = states.into_iter().map(target).collect();
        let addresses = answer.map(|address| address.parse().unwrap());
        let answer = self::answer(addresses, begin());
        let (decision, _) = decide(&answer, &told.group, &told.memory, AT_ONCE);
        let reasons: Vec<_> = decision.held_back.iter().map(|held| &held.reason).collect();
        assert_eq!(reasons, [expected]);
    }
}

#[test]
fn an_answer_that_says_something_else_ends_the_doubt_also_a_dependent_one() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    assert_eq!(told.decide(4, [B]), "+ -");
    assert_eq!(told.decide(11, [A]), "held back until 21");

    let mut told = long_standing();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    assert_eq!(told.decide(4, [A, B]), "+ -");
    assert_eq!(told.decide(11, [A]), "held back until 21");
}

#[test]
fn a_description_that_says_something_else_ends_the_doubt() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    told.is_now([(A, State::Initial)]);
    assert_eq!(told.decide(4, [A]), "+ -");
    told.is_now([(A, State::Draining), (B, State::Initial)]);
    assert_eq!(told.decide(11, [A]), "held back until 21");
}

#[test]
fn another_doubt_begins_anew() {
    let both_drain = [
        (A, State::Draining),
        (B, State::Initial),
        (C, State::Draining),
    ];
    let mut told = Told::new(both_drain);
    assert_eq!(told.decide(0, [A]), "held back until 10");
    assert_eq!(told.decide(10, [C]), "held back until 20");
    assert_eq!(told.decide(20, [C]), "+10.0.3.3:6379 -10.0.2.9:6379");
}

#[test]
fn that_a_target_has_left_may_be_told_by_two_different_answers() {
    let mut told = Told::new([(A, State::Healthy), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A]), "held back until 10");
    assert_eq!(
        told.decide(10, [C]),
        "+10.0.3.3:6379 -10.0.1.7:6379,10.0.2.9:6379"
    );
}

#[test]
fn each_target_has_a_doubt_of_its_own() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A, B]), "held back until 10");
    assert_eq!(told.decide(3, [A]), "held back until 10");
    assert_eq!(told.decide(10, [A]), "+10.0.1.7:6379 -, held back until 13");
    told.is_now([(A, State::Initial), (B, State::Initial)]);
    assert_eq!(told.decide(13, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn a_fresh_target_is_registered_at_once_and_what_is_doubtful_beside_it_waits() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [C]), "+10.0.3.3:6379 -, held back until 10");
    told.is_now([
        (A, State::Draining),
        (B, State::Initial),
        (C, State::Initial),
    ]);
    assert_eq!(told.decide(9, [C]), "held back until 10");
    assert_eq!(told.decide(10, [C]), "+ -10.0.2.9:6379");
}

/// Another sandbox removes C, because it believed that a second before the name moved there.
#[test]
fn a_removal_that_is_believed_waits_until_a_desired_target_stays() {
    let mut told = Told::new([(B, State::Healthy), (C, State::Healthy)]);
    assert_eq!(told.decide(0, [C]), "held back until 10");
    told.is_now([(B, State::Healthy), (C, State::Draining)]);
    assert_eq!(told.decide(10, [C]), "held back until 20");
    assert_eq!(told.decide(20, [C]), "+10.0.3.3:6379 -10.0.2.9:6379");
}

/// Somebody registered the target again, because of an answer that is newer than the doubt.
#[test]
fn a_doubt_begins_anew_when_its_target_becomes_initial() {
    let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]);
    assert_eq!(told.decide(0, [A]), "held back until 10");
    told.is_now([(A, State::Healthy), (B, State::Initial)]);
    assert_eq!(told.decide(10, [A]), "held back until 20");
    told.is_now([(A, State::Healthy), (B, State::Healthy)]);
    assert_eq!(told.decide(20, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn an_answer_in_part_ends_the_doubts_and_the_misses_of_what_it_names_and_no_others() {
    for (named, expected) in [
        ([A, B], ["+10.0.1.7:6379 -, held back until 21", "+ -"]),
        (
            [A, C],
            ["+10.0.1.7:6379 -10.0.2.9:6379", "+ -10.0.2.9:6379"],
        ),
        (
            [C, C],
            ["+10.0.1.7:6379 -10.0.2.9:6379", "+ -10.0.2.9:6379"],
        ),
    ] {
        let counting = Told::new([(A, State::Healthy), (B, State::Healthy)]).may_miss(1);
        let told = [moved_to_b(), counting].map(|mut told| {
            told.decide(0, [A]);
            let addresses = named.map(|address| address.parse().unwrap());
            let mut answer = answer(addresses, at(5));
            answer.is_partial = true;
            told.memory = decide(&answer, &told.group, &told.memory, AT_ONCE).1;
            told.decide(11, [A])
        });
        assert_eq!(told, expected, "{named:?}");
    }
}

/// A description may end a doubt about which an answer in part says nothing.
#[test]
fn a_description_ends_doubts_also_where_the_answer_is_in_part() {
    for (states, expected) in [
        (
            [(A, State::Draining), (B, State::Initial)],
            "+10.0.1.7:6379 -10.0.2.9:6379",
        ),
        (
            [(A, State::Draining), (B, State::Draining)],
            "held back until 21",
        ),
        (
            [(A, State::Initial), (B, State::Draining)],
            "held back until 21",
        ),
    ] {
        let mut told = moved_to_b();
        told.decide(0, [A]);
        let group = std::mem::take(&mut told.group);
        told.is_now(states);
        let mut answer = answer([C.parse().unwrap()], at(5));
        answer.is_partial = true;
        told.memory = decide(&answer, &told.group, &told.memory, AT_ONCE).1;
        told.group = group;
        assert_eq!(told.decide(11, [A]), expected);
    }
}

#[test]
fn an_answer_in_part_registers_up_to_100_current_targets() {
    let address = |n: u8| IpAddr::from([10, 0, 9, n]);
    let group: Vec<_> = (0..98)
        .map(|n| described(address(n), PORT, State::Healthy))
        .collect();
    let mut answer = answer((98..103).map(address), begin());
    answer.is_partial = true;
    assert_eq!(plan(&answer, &group).register.len(), 2);
}

#[test]
fn a_doubt_of_which_a_part_has_settled_needs_no_new_wait() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    told.is_now([(A, State::Draining), (B, State::Healthy)]);
    assert_eq!(told.decide(10, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn a_doubt_begins_anew_90_s_after_it_could_have_been_believed() {
    for (told, believed) in [
        (moved_to_b as fn() -> Told, "+10.0.1.7:6379 -10.0.2.9:6379"),
        (long_standing, "+ -10.0.2.9:6379"),
    ] {
        for (second, expected) in [
            (10, believed),
            (10 + 89, believed),
            (10 + 90, "held back until 110"),
        ] {
            let mut told = told();
            assert_eq!(told.decide(0, [A]), "held back until 10");
            assert_eq!(told.decide(second, [A]), expected);
        }
    }
}

#[test]
fn an_answer_that_says_the_same_in_between_does_not_prolong_a_doubt() {
    let mut told = long_standing();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    assert_eq!(told.decide(9, [A]), "held back until 10");
    assert_eq!(told.decide(10 + 90, [A]), "held back until 110");
}

#[test]
fn a_doubt_of_which_a_slow_schedule_shows_no_second_answer_is_never_believed() {
    for interval in [120, 300, 3600] {
        let mut told = long_standing();
        for n in 0..10 {
            let until = format!("held back until {}", n * interval + 10);
            assert_eq!(told.decide(n * interval, [B]), until);
        }
    }
}

#[test]
fn a_group_that_is_emptied_during_the_doubt_gets_its_target_at_once() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(0, [A]), "held back until 10");
    told.is_now([(A, State::Draining), (B, State::Draining)]);
    assert_eq!(told.decide(1, [A]), "+10.0.1.7:6379 -");
}

/// Another invocation may believe that the initial target has to go.
#[test]
fn that_a_desired_target_is_initial_makes_no_removal_beside_it_certain() {
    let mut told = Told::new([(A, State::Healthy), (B, State::Initial)]);
    assert_eq!(told.decide(0, [B]), "held back until 10");
    assert_eq!(told.decide(10, [B]), "+ -10.0.1.7:6379");
}

/// The reconcile starts again. Somebody else registered what came into the group meanwhile.
#[test]
fn what_a_reconcile_registered_takes_the_place_of_what_was_to_go_then() {
    let group = [
        (A, State::Healthy),
        (B, State::Healthy),
        (C, State::Healthy),
    ];
    let told = Told::new(group);
    let [a, b, c] = [A, B, C].map(|address| Target::new(address.parse().unwrap(), PORT));
    for (registered, replaced, answer, gone) in [
        (vec![b], vec![a], vec![b], vec![a]),
        (vec![b], vec![a, c], vec![b], vec![a, c]),
        (vec![b], vec![], vec![b], vec![]),
        (vec![], vec![a], vec![b], vec![]),
        (vec![c], vec![a], vec![b], vec![]),
    ] {
        let done = Done {
            registered: registered.into_iter().collect(),
            replaced: replaced.into_iter().collect(),
        };
        let answer = self::answer(answer.into_iter().map(|target| target.ip()), begin());
        let memory = Memory::default();
        let (decision, _) = plan::decide(&answer, &told.group, &done, &memory, AT_ONCE);
        assert_eq!(stale(&decision.now), gone.into_iter().collect(), "{done:?}");
    }
}

#[test]
fn beside_a_kept_target_that_is_initial_a_stale_one_is_doubted() {
    let mut told = Told::new([
        (A, State::Healthy),
        (B, State::Healthy),
        (C, State::Initial),
    ]);
    told.keep = vec!["10.0.3.0/24".parse().unwrap()];
    assert_eq!(told.decide(0, [B]), "held back until 10");
    assert_eq!(told.decide(10, [B]), "+ -10.0.1.7:6379");
}

#[test]
fn a_target_stays_for_as_many_misses_in_a_row_as_it_may() {
    for misses in [1, 2, 5] {
        let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(misses);
        for n in 0..u64::from(misses) {
            assert_eq!(told.decide(10 * n, [A]), "+ -", "{n} of {misses}");
        }
        let next = 10 * u64::from(misses);
        assert_eq!(told.decide(next, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn a_miss_counts_from_the_margin_after_the_ttl_of_the_one_before() {
    let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(1);
    for second in 0..10 {
        assert_eq!(told.decide(second, [A]), "+ -");
    }
    assert_eq!(told.decide(10, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn any_answer_that_has_the_address_ends_the_row_of_misses() {
    for (second, is_independent) in [(11, false), (19, false), (20, true)] {
        let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(2);
        told.decide(0, [A]);
        told.decide(10, [A]);
        assert_eq!(told.decide(second, [A, B]), "+ -", "{is_independent}");
        assert_eq!(told.decide(30, [A]), "+ -");
        assert_eq!(told.decide(40, [A]), "+ -");
        assert_eq!(told.decide(50, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn misses_do_not_expire_on_a_slow_schedule() {
    for interval in [60, 300, 3600, 86_400] {
        let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(2);
        assert_eq!(told.decide(0, [A]), "+ -");
        assert_eq!(told.decide(interval, [A]), "+ -");
        // The doubt does expire.
        let until = 2 * interval + 10;
        assert_eq!(
            told.decide(2 * interval, [A]),
            format!("held back until {until}")
        );
        assert_eq!(told.decide(until, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn misses_end_when_the_target_is_not_current_any_more() {
    for away in [vec![], vec![State::Draining]] {
        let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(1);
        assert_eq!(told.decide(0, [A]), "+ -");
        let before = told.group.clone();
        told.group.truncate(1);
        let away = away.into_iter();
        told.group
            .extend(away.map(|state| described(B.parse().unwrap(), PORT, state)));
        assert_eq!(told.decide(5, [A]), "+ -");
        told.group = before;
        assert_eq!(told.decide(10, [A]), "+ -");
        assert_eq!(told.decide(20, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn misses_end_when_the_target_is_deregistered() {
    let states = [
        (A, State::Initial),
        (B, State::Healthy),
        (C, State::Healthy),
    ];
    let mut told = Told::new(states).may_miss(1);
    assert_eq!(told.decide(0, [A]), "+ -");
    assert_eq!(told.decide(10, [A]), "+ -10.0.2.9:6379,10.0.3.3:6379");
    // Only one deregistration was acknowledged. Somebody registers that target again before the next description.
    let deregistered = Target::new(B.parse().unwrap(), PORT);
    told.memory.forget(&deregistered);
    assert_eq!(told.decide(11, [A]), "+ -10.0.3.3:6379");
}

#[test]
fn a_wrong_port_of_an_address_that_dns_names_is_not_missed() {
    let mut told = Told::new([]).may_miss(1000);
    told.group = vec![described(A.parse().unwrap(), OTHER_PORT, State::Healthy)];
    assert_eq!(told.decide(0, [A]), "+10.0.1.7:6379 -10.0.1.7:7000");
}

#[test]
fn a_wrong_port_of_an_address_that_dns_does_not_name_is_missed() {
    let mut told = Told::new([(A, State::Initial)]).may_miss(1);
    let other = described(B.parse().unwrap(), OTHER_PORT, State::Healthy);
    told.group.push(other);
    assert_eq!(told.decide(0, [A]), "+ -");
    assert_eq!(told.decide(10, [A]), "+ -10.0.2.9:7000");
}

#[test]
fn doubt_and_misses_are_counted_side_by_side_and_whichever_is_more_decides() {
    for (misses, believed) in [(0, 10), (1, 10), (2, 20), (3, 30)] {
        let mut told = long_standing().may_miss(misses);
        for second in (0..believed).step_by(10) {
            let decision = told.decide(second, [A]);
            let expected = if misses == 0 {
                "held back until 10"
            } else {
                "+ -"
            };
            assert_eq!(decision, expected, "{misses} misses");
        }
        assert_eq!(told.decide(believed, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn misses_are_counted_while_the_plan_is_held_back() {
    let mut told = Told::new([
        (A, State::Initial),
        (B, State::Healthy),
        (C, State::Draining),
    ])
    .may_miss(1);
    assert_eq!(told.decide(0, [A, C]), "held back until 10");
    assert_eq!(told.decide(10, [A, C]), "+10.0.3.3:6379 -10.0.2.9:6379");
}

#[test]
fn a_miss_that_was_counted_long_ago_does_not_make_up_for_a_doubt() {
    for interval in [100, 300, 3600] {
        let mut told = long_standing().may_miss(1);
        assert_eq!(told.decide(0, [A]), "+ -");
        let until = format!("held back until {}", interval + 10);
        assert_eq!(told.decide(interval, [A]), until);
        assert_eq!(told.decide(interval + 10, [A]), "+ -10.0.2.9:6379");
    }
}

#[test]
fn a_miss_that_was_counted_before_the_doubt_does_not_make_up_for_it() {
    let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(1);
    assert_eq!(told.decide(0, [A]), "+ -");
    told.is_now([(A, State::Healthy), (B, State::Initial)]);
    assert_eq!(told.decide(10, [A]), "held back until 20");
    assert_eq!(told.decide(20, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn six_addresses_in_round_robin_are_not_deregistered_however_often_dns_is_asked() {
    let all = [
        "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6",
    ];
    for misses in [0, 1] {
        for ttl in [Duration::ZERO, TTL] {
            let mut told = Told::new(all.map(|address| (address, State::Healthy))).may_miss(misses);
            told.ttl = ttl;
            for second in 0..600 {
                let address = all[second % all.len()];
                let decision = told.decide(second as u64, [address]);
                match misses {
                    0 => assert!(decision.starts_with("held back"), "{second}: {decision}"),
                    _ => assert_eq!(decision, "+ -", "{second}"),
                }
            }
        }
    }
}

#[test]
fn a_clock_that_went_backwards_forgets_doubts_and_misses() {
    let mut told = moved_to_b();
    assert_eq!(told.decide(100, [A]), "held back until 110");
    assert_eq!(told.decide(50, [A]), "held back until 60");
    assert_eq!(told.decide(60, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");

    let mut told = Told::new([(A, State::Initial), (B, State::Healthy)]).may_miss(1);
    assert_eq!(told.decide(100, [A]), "+ -");
    assert_eq!(told.decide(50, [A]), "+ -");
    assert_eq!(told.decide(60, [A]), "+ -10.0.2.9:6379");
}
