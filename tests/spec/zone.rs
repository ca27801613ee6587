//! Tests targets outside the VPC, which need the zone `all`.

use serde_json::json;
use stand_in::aws::Fault;
use stand_in::dns;
use stand_in::world::World;

use crate::reading::{DENIED, error, lines, result};

#[tokio::test(start_paused = true)]
async fn an_address_outside_the_vpc_is_registered_with_the_zone_all() {
    let world = World::empty_in_memory();
    world.point("192.168.7.7");
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 192.168.7.7:6379 ValidationError",
            "RegisterTargets 192.168.7.7:6379@all Ok",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_targets_that_need_it_get_the_zone_all() {
    let world = World::settled_in_memory("10.0.9.9", 5).await;
    world.answer(dns::addresses(["10.0.1.7", "192.168.7.7"]));
    let answer = world.run().await;
    assert_eq!(
        result(&answer)["registered"],
        json!(["10.0.1.7:6379", "192.168.7.7:6379"])
    );
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 10.0.1.7:6379,192.168.7.7:6379 ValidationError",
            "RegisterTargets 10.0.1.7:6379 Ok",
            "RegisterTargets 192.168.7.7:6379 ValidationError",
            "RegisterTargets 192.168.7.7:6379@all Ok",
            "DeregisterTargets 10.0.9.9:6379@eu-west-1a Ok",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn every_target_must_be_registered_before_any_is_deregistered() {
    let world = World::settled_in_memory("10.0.9.9", 5).await;
    world.answer(dns::addresses(["10.0.1.7", "192.168.7.7"]));
    let required = Fault::Error(
        400,
        "ValidationError",
        "The Availability Zone is required for IP address '192.168.7.7' because it is not in the VPC",
    );
    world.aws.inject("RegisterTargets", required);
    world.aws.inject("RegisterTargets", DENIED);
    let mut sandbox = world.sandbox().await;
    let (error_type, message) = error(&sandbox.schedule().await);
    assert_eq!(error_type, "RegisterFailed");
    assert!(
        message.starts_with("cannot register 10.0.1.7:6379 in"),
        "{message}"
    );
    assert_eq!(
        world.group(),
        ["10.0.9.9:6379 healthy", "192.168.7.7:6379 initial"]
    );
    let logged = &lines(&sandbox, "result")[0]["targetGroups"][0];
    assert_eq!(
        logged["registered"],
        json!(["192.168.7.7:6379"]),
        "what ELB acknowledged"
    );
}

#[tokio::test(start_paused = true)]
async fn another_refusal_does_not_try_the_zone_all() {
    let world = World::settled_in_memory("10.0.9.9", 5).await;
    world.answer(dns::addresses(["10.0.1.7", "10.0.2.9"]));
    let refused = Fault::Error(400, "ValidationError", "something else is required");
    world.aws.inject_always("RegisterTargets", refused);
    assert_eq!(error(&world.run().await).0, "RegisterFailed");
    let in_one_call = "RegisterTargets 10.0.1.7:6379,10.0.2.9:6379 ValidationError";
    assert_eq!(world.changes(), [in_one_call]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_refused_alone_for_another_reason_does_not_try_the_zone_all() {
    let world = World::settled_in_memory("10.0.9.9", 5).await;
    world.answer(dns::addresses(["10.0.1.7", "10.0.2.9"]));
    let zone = "The Availability Zone is required for IP address '10.0.1.7'";
    let zone = Fault::Error(400, "ValidationError", zone);
    world.aws.inject("RegisterTargets", zone);
    let denied = Fault::Error(403, "AccessDenied", "not authorized");
    world.aws.inject_always("RegisterTargets", denied);
    assert_eq!(error(&world.run().await).0, "RegisterFailed");
    assert_eq!(
        world.changes(),
        [
            "RegisterTargets 10.0.1.7:6379,10.0.2.9:6379 ValidationError",
            "RegisterTargets 10.0.1.7:6379 AccessDenied",
            "RegisterTargets 10.0.2.9:6379 AccessDenied",
        ]
    );
}

/// The deadline comes while the others wait for their turns.
#[tokio::test(start_paused = true)]
async fn a_target_that_was_refused_is_told_also_where_others_had_no_turn() {
    let world = World::empty_in_memory();
    let addresses = (1..=20).map(|n| format!("192.168.7.{n}").parse().unwrap());
    let addresses = addresses.collect();
    world.answer(dns::Answer::Addresses { ttl: 5, addresses });
    let zone = "The Availability Zone is required for IP address '192.168.7.1' because it is not in the VPC";
    for (code, message) in [
        ("ValidationError", zone),
        ("InvalidTarget", "no such target"),
    ] {
        let refused = Fault::Error(400, code, message);
        world.aws.inject("RegisterTargets", refused);
    }
    let within = std::time::Duration::from_secs(3);
    let errors = world
        .function()
        .invoke_within("{}", within)
        .await
        .unwrap_err();
    assert_eq!(errors.error_type(), "RegisterFailed");
}
