//! Tests what a DNS answer comes to: with chains, truncation, both families, and several servers.

use std::time::Duration;

use serde_json::json;
use stand_in::dns::{self, Answer, ResponseCode};
use stand_in::world::{ARN, ENDPOINT, World};

use crate::reading::{error, result};

#[tokio::test(start_paused = true)]
async fn an_ipv6_group_takes_aaaa_records() {
    let world = World::empty_in_memory();
    world.aws.target_group(ARN, |group| group.is_ipv6 = true);
    world.answer(dns::addresses(["10.0.1.7", "2001:db8::9"]));
    let answer = world.run().await;
    assert_eq!(result(&answer)["registered"], json!(["[2001:db8::9]:6379"]));
    let asked = world.zone.take_asked();
    assert_eq!((asked.len(), asked[0].record_type.as_str()), (1, "AAAA"));
}

#[tokio::test(start_paused = true)]
async fn an_internationalized_name_is_followed_in_its_ascii_form() {
    let (endpoint, node) = ("xn--bcher-kva.example.com", "xn--zrich-kva.example.com");
    let mut world = World::empty_in_memory();
    world.follow([(endpoint, ARN)]);
    let cname = Answer::Cname {
        ttl: 5,
        target: node.to_owned(),
        is_split: false,
    };
    world.zone.set(endpoint, cname);
    world.zone.set(node, dns::addresses(["10.0.1.7"]));
    let answer = world.run().await;
    let result = result(&answer);
    assert_eq!(result["endpoints"], json!([endpoint]));
    assert_eq!(result["registered"], json!(["10.0.1.7:6379"]));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let world = World::empty().await;
    let many = (1..=100)
        .map(|last| std::net::Ipv4Addr::new(10, 0, 1, last).into())
        .collect();
    world.answer(Answer::Truncated(Box::new(Answer::Addresses {
        ttl: 5,
        addresses: many,
    })));
    world.run().await.outcome.unwrap();
    assert_eq!(world.group().len(), 100);
    let asked: Vec<_> = world
        .zone
        .take_asked()
        .iter()
        .map(|asked| asked.is_tcp)
        .collect();
    assert_eq!(asked, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_name_or_family_in_the_answer_is_not_taken() {
    let world = World::empty_in_memory();
    let record = |name: &str, address: &str| (name.to_owned(), address.parse().unwrap());
    world.answer(Answer::Records(
        ResponseCode::NoError,
        vec![
            record(ENDPOINT, "10.0.1.7"),
            record("stranger.example.com", "10.0.66.6"),
            record(ENDPOINT, "2001:db8::6"),
        ],
    ));
    world.run().await.outcome.unwrap();
    assert_eq!(world.group(), ["10.0.1.7:6379 initial"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_dns_server_that_knows_wins() {
    let knows = dns::addresses(["10.0.2.9"]);
    let late = |answer: &Answer| Answer::Late(Duration::from_millis(150), Box::new(answer.clone()));
    for (first, second, expected) in [
        (Answer::ServFail, late(&knows), Ok(())),
        (Answer::Refused, late(&knows), Ok(())),
        (Answer::Silent, late(&knows), Ok(())),
        (
            Answer::Records(ResponseCode::Unknown(4095), vec![]),
            late(&knows),
            Ok(()),
        ),
        (Answer::NxDomain, late(&knows), Err("answered NXDOMAIN")),
        (Answer::Empty, late(&knows), Err("has no A record")),
        (late(&knows), Answer::NxDomain, Err("answered NXDOMAIN")),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        let other = dns::Zone::default();
        world.answer(first.clone());
        other.set(ENDPOINT, second);
        world.ask_too(&other);
        let answer = world.run().await;
        match expected {
            Ok(()) => assert_eq!(
                result(&answer)["desired"],
                json!(["10.0.2.9:6379"]),
                "{first:?}"
            ),
            Err(cause) => {
                let (error_type, message) = error(&answer);
                assert_eq!(error_type, "ResolveFailed", "{first:?}");
                assert!(message.ends_with(cause), "{first:?}: {message}");
            }
        }
        assert!(
            answer.took < Duration::from_secs(1),
            "{first:?} took {:?}",
            answer.took
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_allowed_cidrs_are_the_configured_ones() {
    for (allowed, expected) in [
        ("10.0.1.0/24", Err("10.0.2.9 is outside ALLOWED_CIDRS")),
        ("fd00::/8", Err("10.0.2.9 is outside ALLOWED_CIDRS")),
        ("10.0.1.0/24,10.0.2.9/32", Ok(())),
    ] {
        let mut world = World::settled_in_memory("10.0.1.7", 5).await;
        world.point("10.0.2.9");
        world.set("ALLOWED_CIDRS", allowed);
        let answer = world.run().await;
        match expected {
            Ok(()) => assert_eq!(result(&answer)["registered"], json!(["10.0.2.9:6379"])),
            Err(reason) => assert!(error(&answer).1.ends_with(reason), "{allowed}"),
        }
    }
    let mut world = World::settled_in_memory("10.0.1.7", 5).await;
    world.point("11.0.0.1");
    world.set("ALLOWED_CIDRS", "0.0.0.0/0");
    assert_eq!(
        error(&world.run().await).0,
        "RegisterFailed",
        "ELB has the last word"
    );
}

#[tokio::test]
async fn without_dns_servers_the_systems_are_asked() {
    let mut world = World::settled("10.0.1.7").await;
    world.variables.remove("DNS_SERVERS");
    // No server is asked for a name that cannot exist (RFC 6761), so this test talks to nobody.
    world.set("ENDPOINTS", "redis.invalid");
    let (error_type, message) = error(&world.run().await);
    assert_eq!(error_type, "ResolveFailed");
    let configuration = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = configuration
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let servers = words.filter_map(|words| match words[..] {
        ["nameserver", server, ..] => server.parse::<std::net::IpAddr>().ok(),
        _ => None,
    });
    let mut expected: Vec<_> = servers
        .map(|server| {
            format!(
                "{} answered NXDOMAIN",
                std::net::SocketAddr::new(server, 53)
            )
        })
        .collect();
    expected
        .push("cannot read /etc/resolv.conf: io error: no nameservers found in config".to_owned());
    assert!(
        expected.iter().any(|cause| message.ends_with(cause)),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_cause_is_told_once() {
    let mut world = World::two_in_memory().await;
    world.set("ENDPOINTS", format!("{ENDPOINT},{ENDPOINT}"));
    world.answer(Answer::NxDomain);
    let server = &world.variables["DNS_SERVERS"];
    assert_eq!(
        error(&world.run().await).1,
        format!("cannot resolve {ENDPOINT}: {server} answered NXDOMAIN")
    );
}

/// Returns the message about a server that truncates, and about what it does over TCP.
fn truncated(server: &str, told: &str) -> String {
    format!(
        "cannot resolve {ENDPOINT}: {server} truncated its answer over UDP, and over TCP it {told}"
    )
}

/// A firewall lets only UDP through.
#[tokio::test]
async fn a_truncated_answer_whose_server_cannot_be_reached_over_tcp_is_told_as_both() {
    let mut world = World::settled("10.0.1.7").await;
    let server = dns::Server::start_without_tcp(&world.zone).await;
    world.set("DNS_SERVERS", server.address);
    world.answer(Answer::Truncated(Box::new(dns::addresses(["10.0.2.9"]))));
    let (error_type, message) = error(&world.run().await);
    assert_eq!(error_type, "ResolveFailed");
    let told = truncated(&server.address.to_string(), "cannot be reached");
    assert!(message.starts_with(&told), "{message}");
    assert_eq!(world.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_truncated_answer_that_tcp_does_not_complete_is_told_as_both() {
    for (over_tcp, told) in [
        (Answer::Refused, "answered REFUSED"),
        (Answer::Silent, "did not answer"),
    ] {
        let world = World::settled_in_memory("10.0.1.7", 5).await;
        world.answer(Answer::Truncated(Box::new(over_tcp)));
        let (error_type, message) = error(&world.run().await);
        assert_eq!(error_type, "ResolveFailed");
        let told = truncated(&world.variables["DNS_SERVERS"], told);
        assert!(message.starts_with(&told), "{message}");
        assert_eq!(world.changes(), [""; 0]);
    }
}

/// If somebody deploys before the name exists, the name stays unknown for this long.
#[tokio::test(start_paused = true)]
async fn how_long_a_missing_name_is_remembered_is_told() {
    let world = World::settled_in_memory("10.0.1.7", 5).await;
    let server = &world.variables["DNS_SERVERS"];
    world.answer(Answer::NxDomainFor(300));
    let told = "answered NXDOMAIN, and caches may repeat that for 300 s";
    assert_eq!(
        error(&world.run().await).1,
        format!("cannot resolve {ENDPOINT}: {server} {told}")
    );
}
