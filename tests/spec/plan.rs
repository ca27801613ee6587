//! Deciding is pure, so its whole small domain is tried: every answer over three addresses, against
//! every group in which each of them on each of two ports is absent, initial, registered or
//! draining. Then what is remembered from one decision to the next, and for how long.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nlb_hostname_target::plan::{
    Answer, Decision, DescribedTarget, Memory, Plan, Policy, State, Target, decide,
};
use tokio::time::Instant;

const PORT: u16 = 6379;
const OTHER_PORT: u16 = 7000;
const ADDRESSES: [&str; 3] = ["10.0.1.7", "10.0.2.9", "2001:db8::7"];
/// From an answer to when it can be believed: its TTL, half a second, and [`GRACE`].
const WAIT: Duration = Duration::from_secs(5);
/// For those who act by older answers.
const GRACE: Duration = Duration::from_millis(4500);
/// A primary endpoint's.
const AT_ONCE: Policy = Policy {
    port: PORT,
    keep_cidrs: &[],
    misses_before_deregistration: 0,
    is_counting: true,
};
/// A reader endpoint's.
const AFTER_TWO_MISSES: Policy = Policy {
    misses_before_deregistration: 2,
    ..AT_ONCE
};

fn addresses() -> [IpAddr; 3] {
    ADDRESSES.map(|address| address.parse().unwrap())
}

fn described(address: IpAddr, port: u16, state: State) -> DescribedTarget {
    DescribedTarget {
        target: Target::new(address, port),
        id: address.to_string(),
        zone: Some("eu-west-1a".to_owned()),
        state,
    }
}

fn answer(addresses: impl IntoIterator<Item = IpAddr>, taken: Instant) -> Answer {
    let expires = taken + WAIT - GRACE;
    Answer::new(addresses, taken, expires).expect("at least one address")
}

fn answers(taken: Instant) -> impl Iterator<Item = Answer> {
    let of = |bits: usize| {
        let chosen = addresses().into_iter().enumerate();
        chosen
            .filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, address)| address)
    };
    (1..8).map(move |bits| answer(of(bits), taken))
}

fn groups() -> impl Iterator<Item = Vec<DescribedTarget>> {
    let states = [
        None,
        Some(State::Initial),
        Some(State::Registered),
        Some(State::Draining),
    ];
    let keys: Vec<_> = addresses()
        .into_iter()
        .flat_map(|address| [(address, PORT), (address, OTHER_PORT)])
        .collect();
    (0..4_usize.pow(6)).map(move |mut code| {
        let mut group = Vec::new();
        for (address, port) in &keys {
            group.extend(states[code % 4].map(|state| described(*address, *port, state)));
            code /= 4;
        }
        group
    })
}

fn targets(
    group: &[DescribedTarget],
    is_meant: impl Fn(&DescribedTarget) -> bool,
) -> BTreeSet<Target> {
    let meant = group.iter().filter(|target| is_meant(target));
    meant.map(|target| target.target).collect()
}

fn current(group: &[DescribedTarget]) -> BTreeSet<Target> {
    targets(group, |target| target.state != State::Draining)
}

/// What the group becomes, as ELB does it.
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

/// A decision without memory, which must be to apply.
fn plan(answer: &Answer, group: &[DescribedTarget], now: Instant) -> Plan {
    applied(&decide(answer, group, &Memory::default(), AT_ONCE, now).0)
}

fn applied(decision: &Decision) -> Plan {
    match decision {
        Decision::Apply(plan) => plan.clone(),
        Decision::Doubt { .. } => panic!("a doubtful plan"),
    }
}

/// Current, and not desired.
fn before_but_not(desired: &BTreeSet<Target>, target: &DescribedTarget) -> bool {
    target.state != State::Draining && !desired.contains(&target.target)
}

#[test]
fn every_plan_makes_the_group_what_dns_says_and_never_empties_it() {
    let (now, memory) = (Instant::now(), Memory::default());
    let believed_from = now + WAIT;
    let (mut applied_at_once, mut doubted) = (0, 0);
    for answer in answers(now) {
        let desired = answer.targets(PORT);
        for group in groups() {
            let before = current(&group);
            let is_new = |target: &DescribedTarget| target.state == State::Initial;
            let is_stale = |target: &DescribedTarget| before_but_not(&desired, target);
            let comes_back = |target: &DescribedTarget| {
                target.state == State::Draining && desired.contains(&target.target)
            };
            let is_undone = group
                .iter()
                .any(|target| comes_back(target) || is_new(target) && is_stale(target));
            let stays_for_sure = !desired.is_subset(&before)
                || group
                    .iter()
                    .any(|target| is_new(target) && !is_stale(target));
            let is_doubtful = is_undone || group.iter().any(is_stale) && !stays_for_sure;

            let (first, remembered) = decide(&answer, &group, &memory, AT_ONCE, now);
            let decision = if is_doubtful {
                doubted += 1;
                assert!(
                    matches!(&first, Decision::Doubt { look_again_at, .. } if *look_again_at == believed_from)
                );
                let again = decide(
                    &answer,
                    &group,
                    &remembered,
                    AT_ONCE,
                    believed_from - WAIT / 5,
                );
                assert_eq!(again.0, first, "before the TTL ran out");
                decide(&answer, &group, &remembered, AT_ONCE, believed_from).0
            } else {
                applied_at_once += 1;
                first
            };
            let plan = applied(&decision);
            assert_eq!(plan.register, &desired - &before, "desired and not current");
            let stale = targets(&plan.deregister, |_| true);
            assert_eq!(stale, &before - &desired, "current and not desired");
            assert!(
                plan.deregister.iter().all(|target| group.contains(target)),
                "as described"
            );

            let between = registered(group.clone(), &plan);
            assert!(current(&between).is_superset(&before), "make before break");
            let after = deregistered(between, &plan);
            assert_eq!(current(&after), desired);
            assert_eq!(
                self::plan(&answer, &after, believed_from),
                Plan::default(),
                "nothing is left to do"
            );
        }
    }
    assert_eq!(applied_at_once + doubted, 7 * 4096);
    assert!(applied_at_once > 4096 && doubted > 4096);
}

#[test]
fn the_same_input_makes_the_same_decision_in_whatever_order_it_was_described() {
    let sorted = |(mut decision, memory): (Decision, Memory)| {
        let (Decision::Apply(plan) | Decision::Doubt { plan, .. }) = &mut decision;
        plan.deregister.sort();
        (decision, memory)
    };
    let now = Instant::now();
    for group in groups().step_by(7) {
        let reversed: Vec<_> = group.iter().rev().cloned().collect();
        for answer in answers(now) {
            let decide =
                |group: &[_]| sorted(decide(&answer, group, &Memory::default(), AT_ONCE, now));
            assert_eq!(decide(&group), decide(&reversed));
        }
    }
}

#[test]
fn an_answer_without_addresses_cannot_be_built() {
    assert_eq!(Answer::new([], Instant::now(), Instant::now()), None);
}

#[test]
fn a_failover_registers_the_new_and_deregisters_the_old() {
    let ([old, new, _], now) = (addresses(), Instant::now());
    let group = [described(old, PORT, State::Registered)];
    let plan = plan(&answer([new], now), &group, now);
    assert_eq!(plan.register, BTreeSet::from([Target::new(new, PORT)]));
    assert_eq!(plan.deregister, group);
}

#[test]
fn a_changed_port_replaces_the_target() {
    let ([address, ..], now) = (addresses(), Instant::now());
    let group = [described(address, OTHER_PORT, State::Registered)];
    let plan = plan(&answer([address], now), &group, now);
    assert_eq!(plan.register, BTreeSet::from([Target::new(address, PORT)]));
    assert_eq!(plan.deregister, group);
}

#[test]
fn targets_are_ordered_numerically_ipv4_before_ipv6_then_by_port() {
    let addresses =
        ["2001:db8::7", "10.0.10.1", "10.0.9.1", "9.0.0.1"].map(|address| address.parse().unwrap());
    let mut targets = answer(addresses, Instant::now()).targets(PORT);
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
    let ([desired, theirs, _], now) = (addresses(), Instant::now());
    let keep: [IpNet; 1] = ["10.0.2.0/24".parse().unwrap()];
    let group = [
        described(theirs, PORT, State::Registered),
        described(theirs, OTHER_PORT, State::Initial),
        described(desired, OTHER_PORT, State::Registered),
    ];
    let policy = Policy {
        keep_cidrs: &keep,
        ..AT_ONCE
    };
    let (decision, _) = decide(
        &answer([desired], now),
        &group,
        &Memory::default(),
        policy,
        now,
    );
    let plan = applied(&decision);
    assert_eq!(plan.deregister, group[2..]);
}

/// A group, and its memory from one decision to the next.
struct Told {
    begin: Instant,
    group: Vec<DescribedTarget>,
    memory: Memory,
    policy: Policy<'static>,
}

impl Told {
    fn of<const N: usize>(policy: Policy<'static>, states: [(&str, State); N]) -> Self {
        let target =
            |(address, state): (&str, State)| described(address.parse().unwrap(), PORT, state);
        Told {
            begin: Instant::now(),
            group: states.map(target).to_vec(),
            memory: Memory::default(),
            policy,
        }
    }

    fn is_now<const N: usize>(&mut self, states: [(&str, State); N]) {
        self.group = Told::of(self.policy, states).group;
    }

    /// What is decided that many seconds after the beginning, in words.
    fn decide<const N: usize>(&mut self, at: u64, addresses: [&str; N]) -> String {
        let now = self.begin + Duration::from_secs(at);
        let addresses = addresses.map(|address| address.parse().unwrap());
        let answer = answer(addresses, now);
        let (decision, memory) = decide(&answer, &self.group, &self.memory, self.policy, now);
        self.memory = memory;
        match decision {
            Decision::Doubt { look_again_at, .. } => {
                format!("look again at {}", (look_again_at - self.begin).as_secs())
            }
            Decision::Apply(plan) => {
                let registered: Vec<_> = plan.register.iter().map(Target::to_string).collect();
                let stale = plan.deregister.iter().map(|stale| stale.target.to_string());
                let stale: Vec<_> = stale.collect();
                format!("+{} -{}", registered.join(","), stale.join(","))
            }
        }
    }
}

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const C: &str = "10.0.3.3";

#[test]
fn a_doubt_keeps_the_moment_of_its_first_answer() {
    let mut told = Told::of(AT_ONCE, [(A, State::Draining), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A]), "look again at 5");
    assert_eq!(told.decide(4, [A]), "look again at 5");
    assert_eq!(told.decide(5, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn an_answer_that_doubts_nothing_ends_the_doubt() {
    let mut told = Told::of(AT_ONCE, [(A, State::Draining), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A]), "look again at 5");
    assert_eq!(told.decide(4, [B]), "+ -");
    assert_eq!(told.decide(6, [A]), "look again at 11");
}

#[test]
fn another_doubt_begins_anew() {
    let both_drain = [
        (A, State::Draining),
        (B, State::Initial),
        (C, State::Draining),
    ];
    let mut told = Told::of(AT_ONCE, both_drain);
    assert_eq!(told.decide(0, [A]), "look again at 5");
    assert_eq!(told.decide(5, [C]), "look again at 10");
    assert_eq!(told.decide(10, [C]), "+10.0.3.3:6379 -10.0.2.9:6379");
}

#[test]
fn that_a_target_has_left_may_be_told_by_two_different_answers() {
    let mut told = Told::of(AT_ONCE, [(A, State::Registered), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A]), "look again at 5");
    assert_eq!(
        told.decide(5, [C]),
        "+10.0.3.3:6379 -10.0.1.7:6379,10.0.2.9:6379"
    );
}

#[test]
fn a_doubt_that_grew_waits_for_its_newest_part() {
    let mut told = Told::of(AT_ONCE, [(A, State::Draining), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A, B]), "look again at 5");
    assert_eq!(told.decide(3, [A]), "look again at 8");
    assert_eq!(told.decide(8, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn a_doubt_of_which_a_part_has_settled_needs_no_new_wait() {
    let mut told = Told::of(AT_ONCE, [(A, State::Draining), (B, State::Initial)]);
    assert_eq!(told.decide(0, [A]), "look again at 5");
    told.is_now([(A, State::Draining), (B, State::Registered)]);
    assert_eq!(told.decide(5, [A]), "+10.0.1.7:6379 -10.0.2.9:6379");
}

#[test]
fn a_doubt_is_forgotten_75_s_after_its_answer_expired() {
    for (at, expected) in [
        (5 + 74, "+10.0.1.7:6379 -10.0.2.9:6379"),
        (5 + 75, "look again at 85"),
    ] {
        let mut told = Told::of(AT_ONCE, [(A, State::Draining), (B, State::Initial)]);
        assert_eq!(told.decide(0, [A]), "look again at 5");
        assert_eq!(told.decide(at, [A]), expected);
    }
}

#[test]
fn targets_that_were_both_there_for_long_are_not_deregistered_at_the_first_word() {
    let both = [(A, State::Registered), (B, State::Registered)];
    let mut told = Told::of(AT_ONCE, both);
    assert_eq!(told.decide(0, [B]), "look again at 5");
    assert_eq!(told.decide(5, [B]), "+ -10.0.1.7:6379");
}

#[test]
fn what_is_doubted_of_targets_that_were_there_for_long_is_remembered_on_a_slow_schedule() {
    for interval in [60, 120, 300, 3600] {
        let both = [(A, State::Registered), (B, State::Registered)];
        let mut told = Told::of(AT_ONCE, both);
        assert_eq!(told.decide(0, [B]), "look again at 5");
        assert_eq!(told.decide(interval, [B]), "+ -10.0.1.7:6379");
    }
}

#[test]
fn beside_a_target_that_is_new_a_stale_one_is_deregistered_at_once() {
    let completing = [(A, State::Registered), (B, State::Initial)];
    let mut told = Told::of(AT_ONCE, completing);
    assert_eq!(told.decide(0, [B]), "+ -10.0.1.7:6379");
    let mut told = Told::of(AT_ONCE, completing);
    assert_eq!(
        told.decide(0, [A]),
        "look again at 5",
        "not if the new one is to go"
    );
}

#[test]
fn a_target_stays_for_as_many_misses_in_a_row_as_it_may() {
    let both = [(A, State::Initial), (B, State::Registered)];
    let mut told = Told::of(AFTER_TWO_MISSES, both);
    assert_eq!(told.decide(0, [A]), "+ -");
    assert_eq!(told.decide(60, [A]), "+ -");
    assert_eq!(told.decide(120, [A, B]), "+ -", "which ends the row");
    assert_eq!(told.decide(180, [A]), "+ -");
    assert_eq!(told.decide(240, [A]), "+ -");
    assert_eq!(told.decide(300, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn what_joins_is_registered_at_once_whatever_may_be_missed() {
    let mut told = Told::of(AFTER_TWO_MISSES, [(A, State::Registered)]);
    assert_eq!(told.decide(0, [B]), "+10.0.2.9:6379 -");
}

#[test]
fn misses_of_a_notification_neither_count_nor_clear() {
    let both = [(A, State::Initial), (B, State::Registered)];
    let mut told = Told::of(AFTER_TWO_MISSES, both);
    told.decide(0, [A]);
    told.decide(60, [A]);
    told.policy.is_counting = false;
    for second in 61..70 {
        assert_eq!(told.decide(second, [A]), "+ -");
    }
    assert_eq!(told.decide(70, [A, B]), "+ -");
    told.policy.is_counting = true;
    assert_eq!(told.decide(120, [A]), "+ -10.0.2.9:6379");
}

#[test]
fn a_notification_deregisters_at_once_where_nothing_may_be_missed() {
    let mut told = Told::of(AT_ONCE, [(A, State::Registered)]);
    told.policy.is_counting = false;
    assert_eq!(told.decide(0, [B]), "+10.0.2.9:6379 -10.0.1.7:6379");
}

#[test]
fn misses_of_a_doubtful_decision_neither_count_nor_clear() {
    let three = |drained| [(A, State::Initial), (B, State::Registered), (C, drained)];
    let mut told = Told::of(AFTER_TWO_MISSES, three(State::Draining));
    assert_eq!(told.decide(0, [A]), "+ -", "B misses once");
    assert_eq!(told.decide(10, [A, C]), "look again at 15");
    assert_eq!(
        told.decide(11, [A, B, C]),
        "look again at 15",
        "B is not cleared"
    );
    told.is_now(three(State::Registered));
    assert_eq!(told.decide(20, [A, C]), "+ -", "B misses twice");
    assert_eq!(told.decide(30, [A, C]), "+ -10.0.2.9:6379");
}

#[test]
fn misses_count_while_it_is_doubted_that_other_targets_have_left() {
    let all = [A, B, C].map(|address| (address, State::Registered));
    let mut told = Told::of(AFTER_TWO_MISSES, all);
    told.decide(0, [A, C]);
    told.decide(10, [A]);
    assert_eq!(told.decide(20, [A]), "look again at 25", "B misses enough");
    assert_eq!(told.decide(25, [A]), "look again at 30", "C too");
    assert_eq!(told.decide(30, [A]), "+ -10.0.2.9:6379,10.0.3.3:6379");
}

#[test]
fn a_count_of_misses_is_dropped_after_three_minutes() {
    for (at, expected) in [(60 + 179, "+ -10.0.2.9:6379"), (60 + 180, "+ -")] {
        let both = [(A, State::Initial), (B, State::Registered)];
        let mut told = Told::of(AFTER_TWO_MISSES, both);
        told.decide(0, [A]);
        told.decide(60, [A]);
        assert_eq!(told.decide(at, [A]), expected);
    }
}

#[test]
fn without_memory_a_removal_only_comes_later() {
    let both = [(A, State::Registered), (B, State::Registered)];
    let mut told = Told::of(AFTER_TWO_MISSES, both);
    for second in 0..20 {
        told.memory = Memory::default();
        assert_eq!(told.decide(second, [A]), "+ -");
    }
}
