//! DNS may be in the hands of somebody hostile, or of somebody who is wrong. These tests say what is refused and with
//! what words, that nothing comes of it, and that the next good answer is followed at once. The only other thing that
//! somebody hostile can do is point the group at what `ALLOWED_CIDRS` allows.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use stand_in::aws::Call;
use stand_in::dns::{Answer, Forgery, ResponseCode, addresses};
use stand_in::world::{ARN, ENDPOINT, Function, OTHER_ENDPOINT, World};
use tokio::join;
use tokio::time::sleep;

use crate::reading::{changes, error, first, targets, what_failed};

/// The endpoint and the group's healthy target are at A, and the endpoint moves to B.
const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
/// An address that is allowed, but that only the endpoint's own records may name.
const STRANGER: &str = "10.0.66.6";

/// The cause that is given for a message that ends too early.
const CUT_OFF: &str = "failed: protocol error: decoding error: unexpected end of input reached";
/// The TTL in seconds.
const TTL: u32 = 5;

fn cname(target: &str, is_split: bool) -> Answer {
    Answer::Cname {
        ttl: TTL,
        target: target.to_owned(),
        is_split,
    }
}

fn records<const N: usize>(code: ResponseCode, records: [(&str, &str); N]) -> Answer {
    let record = |(name, address): (&str, &str)| (name.to_owned(), address.parse().unwrap());
    Answer::Records(code, records.map(record).into())
}

fn forged(forgery: Forgery) -> Answer {
    Answer::Forged(forgery, Box::new(addresses([STRANGER])))
}

/// Returns an answer with `10.0.<third>.1` and the addresses after it.
fn many(third: u8, count: u8) -> Answer {
    let addresses = (1..=count).map(|last| Ipv4Addr::new(10, 0, third, last).into());
    Answer::Addresses {
        ttl: TTL,
        addresses: addresses.collect(),
    }
}

/// Makes a chain of `links` CNAMEs, which leads from the endpoint to a name with that address.
fn chain(world: &World, links: usize, is_split: bool, address: &str) {
    let name = |link: usize| match link {
        0 => ENDPOINT.to_owned(),
        link => format!("n{link}.example.com"),
    };
    for link in 0..links {
        let target = name(link + 1).to_uppercase();
        world.zone.set(&name(link), cname(&target, is_split));
    }
    world.zone.set(&name(links), addresses([address]));
}

/// Checks that one reconcile fails with this text and changes nothing.
async fn assert_fails(world: &World, function: &Function, expected: &str) {
    let before = world.group();
    let errors = function.schedule().await.expect_err(expected);
    let message = what_failed(&errors.to_string());
    assert_eq!(format!("{}: {message}", errors.error_type()), expected);
    let is_change = |call: &Call| !call.targets.is_empty();
    assert!(!world.aws.take_calls().iter().any(is_change), "{expected}");
    assert_eq!(world.group(), before, "{expected}");
}

/// Checks the same, and that the same sandbox follows at the next reconcile when the endpoint then moves to `next`.
async fn assert_refused(world: &World, expected: &str, next: &str) {
    let function = world.function();
    assert_fails(world, &function, expected).await;
    world.point(next);
    let report = first(function.schedule().await);
    assert!(report.failover, "{expected}");
}

/// Checks the same for an answer about the endpoint, whose group is at A.
async fn assert_answer_refused(answer: Answer, expected: &str) {
    let world = World::settled_in_memory(A, TTL).await;
    world.answer(answer);
    assert_refused(&world, expected, B).await;
}

fn unresolved(cause: &str) -> String {
    format!("ResolveFailed: cannot resolve {ENDPOINT}: 10.0.0.2:53 {cause}")
}

fn outside(address: &str) -> String {
    let address: IpAddr = address.parse().unwrap();
    format!("AnswerRefused: refused the answer for {ENDPOINT}: {address} is outside ALLOWED_CIDRS")
}

#[tokio::test(start_paused = true)]
async fn an_address_where_no_target_can_be_is_refused() {
    for address in [
        "0.0.0.0",         // this host
        "127.0.0.1",       // loopback
        "169.254.169.254", // link-local: the metadata service
        "192.0.2.1",       // documentation
        "224.0.0.1",       // multicast
        "240.0.0.1",       // reserved
        "255.255.255.255", // broadcast
        "8.8.8.8",         // public
    ] {
        assert_answer_refused(addresses([address]), &outside(address)).await;
        assert_answer_refused(addresses([B, address, STRANGER]), &outside(address)).await;
    }
    for address in [
        "::",               // unspecified
        "::1",              // loopback
        "::8.8.8.8",        // IPv4-compatible
        "::ffff:8.8.8.8",   // IPv4-mapped
        "::ffff:10.0.2.9",  // the same, although allowed as IPv4
        "64:ff9b::808:808", // translated to IPv4
        "fe80::1",          // link-local
        "ff02::1",          // multicast
    ] {
        let world = World::settled_in_memory("2001:db8::7", TTL).await;
        world.answer(addresses(["2001:db8::9", address]));
        assert_refused(&world, &outside(address), "2001:db8::9").await;
    }
}

fn too_many(endpoints: &str) -> String {
    format!(
        "AnswerRefused: refused the answer for {endpoints}: it has 101 addresses, and at most 100 are allowed"
    )
}

#[tokio::test(start_paused = true)]
async fn more_addresses_in_a_group_than_any_cluster_has_are_refused() {
    let mut world = World::settled_in_memory(A, TTL).await;
    world.set("ENDPOINTS", format!("{ENDPOINT},{OTHER_ENDPOINT}"));
    world.set("TARGET_GROUP_ARNS", format!("{ARN},{ARN}"));
    world.answer(many(2, 51));
    world.zone.set(OTHER_ENDPOINT, many(3, 50));
    let function = world.function();
    assert_fails(
        &world,
        &function,
        &too_many(&format!("{ENDPOINT}, {OTHER_ENDPOINT}")),
    )
    .await;

    world.zone.set(OTHER_ENDPOINT, many(3, 49));
    let report = first(function.schedule().await);
    assert_eq!(report.registered.len(), 100, "not more than that");
}

/// This runs over real sockets, because so many addresses do not fit into a datagram.
#[tokio::test]
async fn more_addresses_in_an_answer_than_any_cluster_has_are_refused() {
    let world = World::settled(A).await;
    let server = &world.variables["DNS_SERVERS"];
    let all = (1..=101).map(|last| (ENDPOINT.to_owned(), Ipv4Addr::new(10, 0, 2, last).into()));
    let too_long = Answer::Records(ResponseCode::NoError, all.collect());
    // Where it is cut off depends on the length of the name.
    let cut_off =
        format!("ResolveFailed: cannot resolve {ENDPOINT}: {server} failed: protocol error: ");
    for (answer, expected) in [(many(2, 101), too_many(ENDPOINT)), (too_long, cut_off)] {
        world.answer(answer);
        let (error_type, message) = error(&world.run().await);
        assert!(
            format!("{error_type}: {message}").starts_with(&expected),
            "{message}"
        );
        assert_eq!(world.changes(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_family_is_none() {
    let aaaa = records(ResponseCode::NoError, [(ENDPOINT, "2001:db8::6")]);
    assert_answer_refused(aaaa, &unresolved("has no A record")).await;

    let world = World::settled_in_memory("2001:db8::7", TTL).await;
    let a = records(ResponseCode::NoError, [(ENDPOINT, STRANGER)]);
    world.answer(a);
    assert_refused(&world, &unresolved("has no AAAA record"), "2001:db8::9").await;
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_cnames_ends() {
    let loops: [&[&str]; 3] = [
        &[ENDPOINT],
        &["a.example.com", ENDPOINT],
        &[
            "a.example.com",
            "b.example.com",
            "c.example.com",
            "b.example.com",
        ],
    ];
    for (names, is_split) in loops
        .into_iter()
        .flat_map(|names| [(names, false), (names, true)])
    {
        let world = World::settled_in_memory(A, TTL).await;
        let owners = [ENDPOINT].into_iter().chain(names.iter().copied());
        for (owner, name) in owners.zip(names) {
            world.zone.set(owner, cname(name, is_split));
        }
        assert_refused(&world, &unresolved("has no A record"), B).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_cnames_is_followed_only_so_far() {
    for (links, is_split, is_followed) in [
        (50, false, true), // all in one answer
        (7, true, true),   // each one asked for
        (8, true, false),
    ] {
        let world = World::settled_in_memory(A, TTL).await;
        chain(&world, links, is_split, B);
        if is_followed {
            let report = first(world.function().schedule().await);
            assert_eq!(
                targets(&report.registered),
                [format!("{B}:6379")],
                "{links}"
            );
        } else {
            assert_refused(&world, &unresolved("has no A record"), B).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cname_leads_only_to_its_own_name() {
    for target in [
        records(ResponseCode::NoError, [("third.example.com", STRANGER)]),
        // A name that has a CNAME has no address.
        records(ResponseCode::NoError, [(ENDPOINT, STRANGER)]),
    ] {
        let world = World::settled_in_memory(A, TTL).await;
        world.answer(cname("node.example.com", false));
        world.zone.set("node.example.com", target);
        assert_refused(&world, &unresolved("has no A record"), B).await;
    }
    assert_answer_refused(cname("localhost", true), &unresolved("has no A record")).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_something_else_is_none() {
    for (answer, cause) in [
        (forged(Forgery::Id), "did not answer"),
        (forged(Forgery::Question), "did not answer"),
        (
            forged(Forgery::Query),
            "failed: protocol error: response received with incorrect QR flag",
        ),
        (forged(Forgery::Section), "has no A record"),
        (
            records(ResponseCode::NoError, [("stranger.example.com", STRANGER)]),
            "has no A record",
        ),
        (Answer::Garbage, CUT_OFF),
    ] {
        assert_answer_refused(answer, &unresolved(cause)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_answer_does_not_keep_the_right_one_away() {
    for forgery in [Forgery::Id, Forgery::Question] {
        let world = World::settled_in_memory(A, TTL).await;
        world.answer(forged(forgery));
        let answer_rightly = async {
            sleep(Duration::from_millis(100)).await;
            world.point(B);
        };
        let function = world.function();
        let (outcome, ()) = join!(function.schedule(), answer_rightly);
        assert_eq!(targets(&first(outcome).registered), [format!("{B}:6379")]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_told_twice_is_one() {
    let world = World::settled_in_memory(A, TTL).await;
    world.answer(addresses([B, B, A, B]));
    let report = first(world.function().schedule().await);
    assert_eq!(
        targets(&report.desired),
        [format!("{A}:6379"), format!("{B}:6379")]
    );
    assert_eq!(changes(&world.aws.take_calls()), [format!("+{B}")]);
}

/// A TTL can be zero, the highest value, or out of range.
#[tokio::test(start_paused = true)]
async fn whatever_the_ttl_a_plan_that_is_not_doubtful_is_carried_out_at_once() {
    for ttl in [0, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let world = World::settled_in_memory(A, ttl).await;
        world.point(B);
        let report = first(world.function().schedule().await);
        assert!(report.failover, "{ttl}");
    }
}

/// Makes a world in which A and B have served for a long time. Then an answer with that TTL names only A, so that B may
/// be what the endpoint moved to.
async fn in_doubt(ttl: u32) -> (World, Function) {
    let world = World::settled_in_memory(A, ttl).await;
    world.aws.settle(ARN, B, 6379);
    let function = world.function();
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.deregistered), [""; 0]);
    (world, function)
}

#[tokio::test(start_paused = true)]
async fn no_ttl_keeps_a_doubt_for_more_than_a_day() {
    for ttl in [0x7fff_ffff, u32::MAX] {
        let (_world, function) = in_doubt(ttl).await;
        let day = Duration::from_secs(24 * 60 * 60);
        let minute = Duration::from_secs(60);
        for (wait, deregistered) in [(day - minute, 0), (2 * minute, 1)] {
            sleep(wait).await;
            let report = first(function.schedule().await);
            assert_eq!(report.deregistered.len(), deregistered, "{ttl} {wait:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_ttl_keeps_a_doubt_that_another_answer_does_not_share() {
    let (world, function) = in_doubt(u32::MAX).await;
    world.answer(addresses([A, B]));
    first(function.schedule().await);
    world.answer(addresses([A]));
    let report = first(function.schedule().await);
    assert_eq!(targets(&report.deregistered), [format!("{B}:6379")]);
}
