//! Deciding is pure, so its whole small domain is tried: every answer over three addresses, against every group in which
//! each of them on each of two ports is absent, current or draining.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nlb_hostname_target::plan::{Answer, DescribedTarget, Plan, Target, plan};

const PORT: u16 = 6379;
const OTHER_PORT: u16 = 7000;
const ADDRESSES: [&str; 3] = ["10.0.1.7", "10.0.2.9", "2001:db8::7"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Current,
    Draining,
}

fn addresses() -> [IpAddr; 3] {
    ADDRESSES.map(|address| address.parse().unwrap())
}

fn described(address: IpAddr, port: u16, is_draining: bool) -> DescribedTarget {
    DescribedTarget {
        target: Target::new(address, port),
        id: address.to_string(),
        zone: Some("eu-west-1a".to_owned()),
        is_draining,
    }
}

fn answers() -> impl Iterator<Item = Answer> {
    let of = |bits: usize| {
        let chosen = addresses().into_iter().enumerate();
        chosen
            .filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, address)| address)
    };
    (1..8).map(move |bits| Answer::new(of(bits)).expect("at least one address"))
}

fn groups() -> impl Iterator<Item = Vec<DescribedTarget>> {
    let keys: Vec<_> = addresses()
        .into_iter()
        .flat_map(|address| [(address, PORT), (address, OTHER_PORT)])
        .collect();
    (0..3_usize.pow(6)).map(move |mut code| {
        let mut group = Vec::new();
        for (address, port) in &keys {
            match [State::Absent, State::Current, State::Draining][code % 3] {
                State::Absent => (),
                state => group.push(described(*address, *port, state == State::Draining)),
            }
            code /= 3;
        }
        group
    })
}

fn current(group: &[DescribedTarget]) -> BTreeSet<Target> {
    group
        .iter()
        .filter(|target| !target.is_draining)
        .map(|target| target.target)
        .collect()
}

/// What the group becomes, as ELB does it.
fn registered(mut group: Vec<DescribedTarget>, plan: &Plan) -> Vec<DescribedTarget> {
    group.retain(|target| !plan.register.contains(&target.target));
    group.extend(
        plan.register
            .iter()
            .map(|target| described(target.ip(), target.port(), false)),
    );
    group
}

fn deregistered(mut group: Vec<DescribedTarget>, plan: &Plan) -> Vec<DescribedTarget> {
    for target in &mut group {
        target.is_draining |= plan
            .deregister
            .iter()
            .any(|stale| stale.target == target.target);
    }
    group
}

#[test]
fn every_plan_makes_the_group_what_dns_says_and_never_empties_it() {
    let mut tried = 0;
    for answer in answers() {
        let desired = answer.targets(PORT);
        for group in groups() {
            let plan = plan(&answer, PORT, &group);
            let before = current(&group);
            assert_eq!(
                plan.register,
                &desired - &before,
                "what is desired and not current"
            );
            let stale: BTreeSet<_> = plan.deregister.iter().map(|target| target.target).collect();
            assert_eq!(stale, &before - &desired, "what is current and not desired");
            assert!(
                plan.deregister.iter().all(|target| group.contains(target)),
                "as described"
            );

            let between = registered(group.clone(), &plan);
            assert!(current(&between).is_superset(&before), "make before break");
            let after = deregistered(between, &plan);
            assert_eq!(current(&after), desired);
            assert_eq!(
                self::plan(&answer, PORT, &after),
                Plan::default(),
                "nothing is left to do"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 7 * 729);
}

#[test]
fn the_same_input_makes_the_same_plan_in_whatever_order_it_was_described() {
    for group in groups().step_by(7) {
        let reversed: Vec<_> = group.iter().rev().cloned().collect();
        for answer in answers() {
            let (mut there, mut back) =
                (plan(&answer, PORT, &group), plan(&answer, PORT, &reversed));
            there.deregister.sort();
            back.deregister.sort();
            assert_eq!(there, back);
        }
    }
}

#[test]
fn an_answer_without_addresses_cannot_be_built() {
    assert_eq!(Answer::new([]), None);
}

#[test]
fn a_failover_registers_the_new_and_deregisters_the_old() {
    let [old, new, _] = addresses();
    let plan = plan(
        &Answer::new([new]).unwrap(),
        PORT,
        &[described(old, PORT, false)],
    );
    assert_eq!(plan.register, BTreeSet::from([Target::new(new, PORT)]));
    assert_eq!(plan.deregister, [described(old, PORT, false)]);
}

#[test]
fn a_changed_port_replaces_the_target() {
    let [address, ..] = addresses();
    let plan = plan(
        &Answer::new([address]).unwrap(),
        PORT,
        &[described(address, OTHER_PORT, false)],
    );
    assert_eq!(plan.register, BTreeSet::from([Target::new(address, PORT)]));
    assert_eq!(plan.deregister, [described(address, OTHER_PORT, false)]);
}

#[test]
fn what_drains_is_neither_current_nor_stale() {
    let [desired, other, _] = addresses();
    let group = [described(desired, PORT, true), described(other, PORT, true)];
    let plan = plan(&Answer::new([desired]).unwrap(), PORT, &group);
    assert_eq!(plan.register, BTreeSet::from([Target::new(desired, PORT)]));
    assert_eq!(plan.deregister, []);
}

#[test]
fn targets_are_ordered_numerically_ipv4_before_ipv6_then_by_port() {
    let answer =
        ["2001:db8::7", "10.0.10.1", "10.0.9.1", "9.0.0.1"].map(|address| address.parse().unwrap());
    let mut targets = Answer::new(answer).unwrap().targets(PORT);
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
