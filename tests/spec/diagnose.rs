//! Tests a diagnosis (section 8 of the contract). Each broken set-up has its finding, and none that it does not imply.
//! A sound set-up has no findings.

use std::collections::BTreeSet;

use nlb_hostname_target::diagnose::{Findings, Severity};
use serde_json::json;
use stand_in::aws::Fault;
use stand_in::dns::{self, Answer, Zone};
use stand_in::elb::{LoadBalancer, TargetGroup, ZONE};
use stand_in::world::{ARN, ENDPOINT, OTHER_ARN, OTHER_ENDPOINT, PORT, World, group_arn};
use tokio::time::Instant;

use crate::reading::{DENIED, lines, seconds};

const A: &str = "10.0.1.7";
const B: &str = "10.0.2.9";
const C: &str = "10.0.3.3";
const UNAVAILABLE: Fault = Fault::Error(500, "HealthUnavailable", "try later");

/// Sets the group up as docs/deploy.md asks for.
fn make_sound(group: &mut TargetGroup) {
    group.deregistration_delay = seconds(120);
    group.is_connection_terminated = true;
    group.cross_zone = "true";
    group.health_check_interval = seconds(10);
    let load_balancer = group.load_balancer.as_mut().unwrap();
    load_balancer.zones.insert("eu-west-1b");
}

/// Makes a world with one name and one healthy target.
async fn sound() -> World {
    let world = World::settled_in_memory(A, 5).await;
    world.aws.target_group(ARN, make_sound);
    world
}

/// Makes a world with a round robin name, whose three targets are in two zones.
async fn reader() -> World {
    let mut world = sound().await;
    world.answer(one_of([A, B, C]));
    world.aws.target_group(ARN, |group| {
        group.zones.insert(B.parse().unwrap(), "eu-west-1b");
    });
    world.aws.register(ARN, B, PORT);
    world.aws.register(ARN, C, PORT);
    world.set("LOOKUPS_PER_RECONCILE", 10);
    world.set("MISSES_BEFORE_DEREGISTRATION", 20);
    world
}

fn one_of<const N: usize>(addresses: [&str; N]) -> Answer {
    let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
    Answer::OneOf { ttl: 5, addresses }
}

fn group(world: &World, change: impl FnOnce(&mut TargetGroup)) {
    world.aws.target_group(ARN, change);
}

fn dictate(world: &World, address: &str, state: &'static str) {
    let address = address.parse().unwrap();
    group(world, |group| group.dictate(address, PORT, state));
}

fn load_balancer(world: &World, change: impl FnOnce(&mut LoadBalancer)) {
    group(world, |group| change(group.load_balancer.as_mut().unwrap()));
}

/// Returns the ids of the findings, each after the first letter of its severity.
fn ids(findings: &Findings) -> Vec<String> {
    let findings = findings.findings.iter();
    let id = |one: &nlb_hostname_target::diagnose::Finding| {
        let severity = match one.severity {
            Severity::Error => "E",
            Severity::Warning => "W",
            Severity::Info => "I",
        };
        format!("{severity} {}", one.id)
    };
    findings.map(id).collect()
}

async fn diagnosed(world: &World) -> Vec<String> {
    ids(&world.function().diagnose().await)
}

type Break = fn(&mut World);

/// Returns what is done to a sound deployment, and what is found then.
fn broken() -> Vec<(&'static str, &'static str, Break)> {
    let mut cases = Vec::new();
    let mut case = |name, found, break_it: Break| cases.push((name, found, break_it));
    case("a malformed variable", "E config-invalid", |world| {
        world.set("TARGET_PORT", "http");
    });
    case(
        "alarms that see two invocations",
        "W alarms-blind",
        |world| {
            world.set("SCHEDULE_EXPRESSION", "rate(5 minutes)");
            world.set("ALARM_MINUTES", 16);
        },
    );
    case("a public address", "E address-not-allowed", |world| {
        world.point("8.8.8.8");
    });
    case(
        "somebody else's address",
        "E address-not-allowed",
        |world| {
            world.set("KEEP_CIDRS", "10.0.1.0/24");
        },
    );
    case("a TTL of a minute", "W ttl-long", |world| {
        world.ttl = 60;
        world.point(A);
    });
    let both = "W ttl-long, W deregistration-delay-unfit";
    case("a TTL as long as the delay", both, |world| {
        world.ttl = 118;
        world.point(A);
    });
    case("a group that is gone", "E target-group-missing", |world| {
        world.aws.remove(ARN);
    });
    case("a group of instances", "E target-type-unfit", |world| {
        group(world, |group| group.target_type = "instance");
    });
    case("no load balancer", "E load-balancer-missing", |world| {
        group(world, |group| group.load_balancer = None);
    });
    case(
        "the target's zone is not enabled",
        "E zone-not-enabled",
        |world| {
            let others = BTreeSet::from(["eu-west-1b", "eu-west-1c"]);
            load_balancer(world, |one| one.zones = others);
        },
    );
    case("no cross-zone in the group", "W cross-zone-off", |world| {
        group(world, |group| group.cross_zone = "false");
        load_balancer(world, |one| one.is_cross_zone = true);
    });
    case("none in the load balancer", "W cross-zone-off", |world| {
        let as_load_balancer = "use_load_balancer_configuration";
        group(world, |group| group.cross_zone = as_load_balancer);
    });
    case(
        "none before the first target",
        "W cross-zone-off",
        |world| {
            world.aws.add(TargetGroup::ipv4(ARN, PORT));
            group(world, make_sound);
            group(world, |group| group.cross_zone = "false");
        },
    );
    case("a short delay", "W deregistration-delay-unfit", |world| {
        group(world, |group| group.deregistration_delay = seconds(60));
    });
    case("a long delay", "W deregistration-delay-unfit", |world| {
        group(world, |group| group.deregistration_delay = seconds(301));
    });
    case(
        "kept connections",
        "W connections-not-terminated",
        |world| {
            group(world, |group| group.is_connection_terminated = false);
        },
    );
    case(
        "a health check every 30 s",
        "W health-check-slow",
        |world| {
            group(world, |group| group.health_check_interval = seconds(30));
        },
    );
    case(
        "a target that nobody reaches",
        "E target-unhealthy",
        |world| {
            dictate(world, A, "unhealthy");
        },
    );
    case(
        "one of two that nobody reaches",
        "W target-unhealthy",
        |world| {
            world.answer(dns::addresses([A, B]));
            world.aws.register(ARN, B, PORT);
            dictate(world, A, "unhealthy");
        },
    );
    case("somebody else's target", "W target-foreign", |world| {
        world.aws.register(ARN, B, PORT);
    });
    case("one that nobody reaches", "W target-foreign", |world| {
        world.aws.register(ARN, B, PORT);
        dictate(world, B, "unhealthy");
    });
    case("a target on another port", "W target-foreign", |world| {
        world.aws.register(ARN, A, 7000);
    });
    case("a difficulty of the service", "E call-failed", |world| {
        world.aws.inject_always("DescribeTargetHealth", UNAVAILABLE);
    });
    case("a service without answer", "E call-failed", |world| {
        let action = "DescribeTargetGroupAttributes";
        world.aws.inject_always(action, Fault::Hang);
    });
    let thrice = "E call-failed, E call-failed, E call-failed";
    case("nothing can be reached", thrice, |world| {
        for of in ["Groups", "GroupAttributes", "Health"] {
            let action = format!("DescribeTarget{of}");
            world.aws.inject_always(&action, Fault::Hang);
        }
        world.answer(Answer::Silent);
    });
    let all = "W connections-not-terminated, W health-check-slow";
    case("all that a new group has wrong", all, |world| {
        world.aws.add(TargetGroup::ipv4(ARN, PORT));
        world.aws.register(ARN, A, PORT);
    });
    cases
}

#[tokio::test(start_paused = true)]
async fn each_broken_set_up_has_its_finding_and_none_that_it_does_not_imply() {
    for (name, expected, break_it) in broken() {
        let mut world = sound().await;
        break_it(&mut world);
        assert_eq!(diagnosed(&world).await.join(", "), expected, "{name}");
    }
    for answer in [Answer::NxDomain, Answer::Empty, Answer::Silent] {
        let world = sound().await;
        world.answer(answer);
        assert_eq!(diagnosed(&world).await, ["E endpoint-unresolved"]);
    }
    for protocol in ["QUIC", "TCP_QUIC", "GENEVE"] {
        let world = sound().await;
        group(&world, |group| group.protocol = protocol);
        assert_eq!(diagnosed(&world).await, ["E protocol-unfit"]);
    }
    for action in [
        "DescribeTargetGroups",
        "DescribeTargetHealth",
        "DescribeTargetGroupAttributes",
        "DescribeLoadBalancers",
        "DescribeLoadBalancerAttributes",
    ] {
        let world = sound().await;
        world.aws.inject_always(action, DENIED);
        assert_eq!(diagnosed(&world).await, ["E permission-missing"]);
    }
}

#[test]
fn the_page_tells_of_each_finding() {
    let found = broken().into_iter().map(|(_, found, _)| found);
    let found = found.flat_map(|found| found.split(", "));
    let mut found: BTreeSet<_> = found.map(|finding| &finding[2..]).collect();
    found.extend(["endpoint-unresolved", "endpoint-answers-in-part"]);
    found.extend(["tag-invalid", "fleet-too-large", "fleet-examined-in-part"]);
    found.extend([
        "dns-servers-disagree",
        "permission-missing",
        "protocol-unfit",
    ]);
    let page = include_str!("../../docs/diagnose.md").lines();
    let told = page.filter_map(|line| line.strip_prefix("### "));
    let told = told.map(|title| title.trim_matches('`'));
    assert_eq!(told.collect::<BTreeSet<_>>(), found);
}

/// Makes a fleet of this many groups, each with the name and the target of the sound one.
async fn fleet(groups: u64) -> World {
    let mut world = sound().await;
    world.set("ENDPOINTS", "");
    world.set("TARGET_GROUP_ARNS", "");
    world.set("FLEET", "redis");
    world.set("ALLOWED_CIDRS", "10.0.0.0/8");
    let sound = world.aws.target_group(ARN, |group| group.clone());
    for index in 0..groups {
        let arn = group_arn(index);
        let mut group = sound.clone();
        group.arn.clone_from(&arn);
        world.aws.add(group);
        tag(&world, &arn, ENDPOINT);
    }
    world
}

fn tag(world: &World, arn: &str, endpoints: &str) {
    let tags = [
        ("nlb-hostname-target/fleet", "redis"),
        ("nlb-hostname-target/endpoints", endpoints),
    ];
    world.aws.tag(arn, tags);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_is_diagnosed_as_far_as_time_allows() {
    assert_eq!(diagnosed(&fleet(3).await).await, [""; 0]);
    let world = fleet(3).await;
    tag(&world, &group_arn(1), "10.0.0.1");
    world.aws.remove(&group_arn(2));
    world
        .aws
        .target_group(&group_arn(0), |group| group.load_balancer = None);
    let findings = world.function().diagnose().await;
    assert_eq!(ids(&findings), ["E tag-invalid", "E load-balancer-missing"]);
    assert_eq!(findings.findings[0].target_group_arn, Some(group_arn(1)));
    for (fault, expected) in [
        (DENIED, "E permission-missing"),
        (UNAVAILABLE, "E call-failed"),
    ] {
        let world = fleet(3).await;
        world.aws.inject_always("GetResources", fault);
        assert_eq!(diagnosed(&world).await, [expected]);
    }
    let world = fleet(120).await;
    world.aws.limit(0.0);
    assert_eq!(diagnosed(&world).await, ["I fleet-examined-in-part"]);
    let expected = ["E fleet-too-large", "I fleet-examined-in-part"];
    assert_eq!(diagnosed(&fleet(501).await).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_sound_deployment_has_no_findings() {
    assert_eq!(diagnosed(&sound().await).await, [""; 0]);
    assert_eq!(
        diagnosed(&reader().await).await,
        [""; 0],
        "a reader endpoint"
    );

    let world = sound().await;
    world.point(B);
    world.aws.register(ARN, B, PORT);
    world.aws.deregister(ARN, A, PORT);
    assert_eq!(diagnosed(&world).await, [""; 0], "the old one drains");

    let mut world = sound().await;
    world.aws.register(ARN, "10.0.250.1", PORT);
    world.set("KEEP_CIDRS", "10.0.250.0/24");
    dictate(&world, "10.0.250.1", "unhealthy");
    assert_eq!(diagnosed(&world).await, [""; 0], "a kept target");

    for protocol in ["HTTP", "HTTPS", "TLS", "UDP", "TCP_UDP", "NEXT"] {
        let world = sound().await;
        group(&world, |group| group.protocol = protocol);
        assert_eq!(diagnosed(&world).await, [""; 0], "{protocol}");
    }

    for delay in [120, 300] {
        let world = sound().await;
        group(&world, |group| group.deregistration_delay = seconds(delay));
        assert_eq!(diagnosed(&world).await, [""; 0], "{delay}");
    }

    let world = sound().await;
    load_balancer(&world, |one| one.zones = BTreeSet::from([ZONE]));
    group(&world, |group| group.cross_zone = "false");
    assert_eq!(diagnosed(&world).await, [""; 0], "one zone");

    let world = World::settled_in_memory("2001:db8::7", 5).await;
    world.aws.target_group(ARN, make_sound);
    assert_eq!(diagnosed(&world).await, [""; 0], "IPv6");
    world.aws.inject_always("DescribeTargetGroups", DENIED);
    let denied = ["E permission-missing"];
    assert_eq!(
        diagnosed(&world).await,
        denied,
        "no IPv4 address is asked for"
    );
}

/// The alarms must look back over at least three intervals and two minutes. A cron expression has no interval. Without
/// alarms, nothing is blind.
#[tokio::test(start_paused = true)]
async fn alarms_are_blind_if_three_invocations_do_not_fit() {
    for (expression, minutes, mend) in [
        ("rate(1 minute)", "5", None),
        ("rate(1 minute)", "4", Some("set AlarmMinutes to 5")),
        ("rate(5 minutes)", "5", Some("set AlarmMinutes to 17")),
        ("rate(5 minutes)", "17", None),
        ("rate(1 hour)", "181", Some("set AlarmMinutes to 182")),
        ("rate(7 hours)", "1440", None),
        (
            "rate(8 hours)",
            "1440",
            Some("choose a ScheduleExpression of at most 479 minutes"),
        ),
        ("rate(2 days)", "1440", Some("choose a ScheduleExpression")),
        ("rate(5 minutes)", "", None),
        ("rate(5 minutes)", "soon", None),
        ("rate(99999999 days)", "5", None),
        ("cron(0/5 * * * ? *)", "5", None),
        ("", "5", None),
    ] {
        let mut world = sound().await;
        world.set("SCHEDULE_EXPRESSION", expression);
        world.set("ALARM_MINUTES", minutes);
        let findings = world.function().diagnose().await.findings;
        let found = findings.first().map(|finding| &finding.mend);
        let is_expected = match (found, mend) {
            (None, None) => true,
            (Some(found), Some(mend)) => found.starts_with(mend),
            _ => false,
        };
        assert!(is_expected, "{expression} {minutes}: {findings:?}");
    }
}

/// A mend says what helps in its case.
#[tokio::test(start_paused = true)]
async fn a_mend_leads_somewhere() {
    let mut cases: Vec<(&str, Break)> = Vec::new();
    let mut case = |mend, break_it: Break| cases.push((mend, break_it));
    // The address belongs to an RDS instance that is publicly accessible.
    let attach = "attach the function to the VPC of the database with VpcSubnetIds";
    case(attach, |world| world.point("52.1.2.3"));
    let correct = "correct AllowedCidrs or KeepCidrs";
    case(correct, |world| world.set("ALLOWED_CIDRS", "10.0.2.0/24"));
    // The address is in the second range of a VPC.
    case(correct, |world| {
        world.set("ALLOWED_CIDRS", "10.0.0.0/16");
        world.point("100.64.3.7");
    });
    case(correct, |world| {
        world.set("ALLOWED_CIDRS", "0.0.0.0/0");
        world.set("KEEP_CIDRS", "52.0.0.0/8");
        world.point("52.1.2.3");
    });
    // The security group does not allow port 53.
    let reach = "let the function reach the server on port 53 over UDP and TCP";
    case(reach, |world| world.answer(Answer::Silent));
    let name = "correct Endpoints; for a name that only the VPC knows, set DnsServers";
    case(name, |world| world.answer(Answer::NxDomain));
    // The VPC has no way to Elastic Load Balancing.
    let way = "in a VPC through NAT or the interface endpoint elasticloadbalancing";
    case(way, |world| {
        world.aws.inject_always("DescribeTargetHealth", Fault::Hang);
    });
    case("diagnose again", |world| {
        world.aws.inject_always("DescribeTargetHealth", UNAVAILABLE);
    });
    for (expected, break_it) in cases {
        let mut world = sound().await;
        break_it(&mut world);
        let findings = world.function().diagnose().await.findings;
        assert_eq!(findings.len(), 1, "{expected}: {findings:?}");
        let mend = &findings[0].mend;
        assert!(mend.contains(expected), "{expected}: {mend}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_answers_in_part_is_found_where_misses_are_not_counted() {
    let mut world = reader().await;
    world.set("MISSES_BEFORE_DEREGISTRATION", 0);
    let findings = world.function().diagnose().await;
    assert_eq!(ids(&findings)[0], "W endpoint-answers-in-part");
    assert_eq!(findings.findings[0].endpoint.as_deref(), Some(ENDPOINT));
}

#[tokio::test(start_paused = true)]
async fn a_failover_while_it_looks_is_no_answer_in_part() {
    let world = sound().await;
    let move_it = async {
        tokio::time::sleep(seconds(3)).await;
        world.point(B);
        world.aws.register(ARN, B, PORT);
    };
    let (findings, ()) = tokio::join!(diagnosed(&world), move_it);
    assert_eq!(findings, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn more_than_100_addresses_are_not_allowed() {
    let world = sound().await;
    let addresses: Vec<_> = (0..101).map(|index| format!("10.0.7.{index}")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    world.answer(dns::addresses::<101>(addresses.try_into().unwrap()));
    assert!(
        diagnosed(&world)
            .await
            .contains(&"E address-not-allowed".to_owned())
    );
}

/// Diagnoses a world that has two servers with a zone each.
async fn with_servers(other: &Zone) -> Vec<String> {
    let mut world = sound().await;
    world.ask_too(other);
    diagnosed(&world).await
}

#[tokio::test(start_paused = true)]
async fn dns_servers_that_disagree_are_found() {
    let says = |answer: Answer| {
        let zone = Zone::default();
        zone.set(ENDPOINT, answer);
        zone
    };
    assert_eq!(with_servers(&says(dns::addresses([A]))).await, [""; 0]);
    let disagree = ["W dns-servers-disagree"];
    for answer in [Answer::NxDomain, Answer::ServFail, Answer::Silent] {
        assert_eq!(with_servers(&says(answer)).await, disagree);
    }
    let other = with_servers(&says(dns::addresses([A, B]))).await;
    assert_eq!(other, disagree);
}

#[tokio::test(start_paused = true)]
async fn a_permission_is_missing_once_however_many_groups_there_are() {
    let mut world = sound().await;
    world.add_other();
    world.aws.target_group(OTHER_ARN, make_sound);
    world.aws.register(OTHER_ARN, C, PORT + 1);
    world.aws.inject_always("DescribeTargetHealth", DENIED);
    let findings = world.function().diagnose().await;
    assert_eq!(ids(&findings), ["E permission-missing"]);
    let seen = &findings.findings[0].seen;
    assert!(
        seen.contains("elasticloadbalancing:DescribeTargetHealth"),
        "{seen}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_worst_comes_first() {
    let mut world = sound().await;
    world.follow([(ENDPOINT, ARN), (OTHER_ENDPOINT, OTHER_ARN)]);
    world.aws.target_group(OTHER_ARN, make_sound);
    group(&world, |group| group.is_connection_terminated = false);
    let expected = ["E endpoint-unresolved", "W connections-not-terminated"];
    assert_eq!(diagnosed(&world).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_reconciles_changes_and_publishes_nothing() {
    let world = sound().await;
    world.point(B);
    let function = world.function();
    assert_eq!(ids(&function.diagnose().await), ["W target-foreign"]);
    let actions = world.actions();
    assert!(
        actions.iter().all(|action| action.starts_with("Describe")),
        "{actions:?}"
    );
    assert_eq!(world.group(), ["10.0.1.7:6379 healthy"]);
    // The function remembers nothing of the diagnosis, so the next invocation is like the first.
    let report = function.schedule().await.unwrap();
    assert!(report.target_groups[0].failover);
}

#[tokio::test(start_paused = true)]
async fn as_many_groups_as_a_deployment_has_are_diagnosed_within_their_pace() {
    let mut world = World::settled_in_memory(A, 5).await;
    world.settle_many(25, A);
    for index in 0..25 {
        world
            .aws
            .target_group(&stand_in::world::group_arn(index), make_sound);
    }
    let begin = Instant::now();
    assert_eq!(diagnosed(&world).await, [""; 0]);
    assert!(begin.elapsed() < seconds(55), "{:?}", begin.elapsed());
    for (index, call) in world.aws.take_calls().iter().enumerate() {
        let most = 20.0 + 5.0 * (call.at - begin).as_secs_f64();
        assert!(index as f64 <= most, "{}: {index} of {most}", call.action);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_answered_and_logged_with_what_was_seen_and_the_mend() {
    let world = World::settled_in_memory(A, 5).await;
    world.aws.target_group(ARN, make_sound);
    group(&world, |group| group.is_connection_terminated = false);
    let mut sandbox = world.sandbox().await;
    let answer = sandbox
        .invoke(stand_in::lambda::DIAGNOSE, stand_in::lambda::TIMEOUT)
        .await;
    let key = "deregistration_delay.connection_termination.enabled";
    let findings = json!([{
        "id": "connections-not-terminated",
        "severity": "warning",
        "targetGroupArn": ARN,
        "seen": format!("{key} is not true: clients keep their connections to the old target"),
        "mend": format!(
            "aws elbv2 modify-target-group-attributes --target-group-arn {ARN} --attributes Key={key},Value=true"
        ),
    }]);
    assert_eq!(answer.outcome.unwrap(), json!({ "findings": findings }));
    let logged = lines(&sandbox, "diagnosed");
    assert_eq!(logged[0]["findings"], findings);
}
