//! What a request would hang on, told before there is one.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::peer::{Act, say};
use crate::world::{World, event, send};

/// Answers as a cache does that has no key.
fn empty(command: &[&str]) -> Act {
    match command[0] {
        "PING" => say("+PONG"),
        "SET" => say("$-1"),
        "EXISTS" => say(":0"),
        other => say(&format!("-ERR unknown command '{other}'")),
    }
}

async fn diagnose(world: &World) -> Value {
    let event = json!({"diagnose": true});
    let (response, line) = world.function().handle(&event).await;
    let response = json!(response);
    let expected =
        json!({"level": "INFO", "message": "diagnosed", "findings": response["findings"]});
    assert_eq!(line, expected);
    response
}

/// Returns the ids of the errors, and what all findings say.
async fn found(world: &World) -> (Vec<String>, String) {
    let answer = diagnose(world).await;
    let findings = answer["findings"].as_array().expect("a list");
    let id = |finding: &Value| {
        assert_eq!(finding["severity"], "error");
        finding["id"].as_str().expect("an id").to_owned()
    };
    (findings.iter().map(id).collect(), answer.to_string())
}

#[tokio::test]
async fn a_sound_deployment_has_no_finding_and_nothing_is_changed() {
    let world = World::new(|_, command| empty(command)).await;
    assert_eq!(diagnose(&world).await, json!({"findings": []}));
    let heard = world.take_heard();
    let writes = heard
        .iter()
        .filter(|(_, command)| !command.starts_with("EXISTS "));
    let writes: Vec<_> = writes.map(|(_, command)| command.as_str()).collect();
    // XX writes a key only if it exists: https://redis.io/docs/latest/commands/set/
    assert_eq!(writes, ["SET drill:nlb-hostname-target  XX"]);
    assert!(heard.iter().all(|(_, command)| command.contains(" drill:")));
}

#[tokio::test]
async fn what_the_cache_answers_is_named_with_what_mends_it() {
    for (answer, id, says) in [
        (
            "-READONLY You can't write against a read only replica.",
            "readonly",
            "primary endpoint",
        ),
        (
            "-NOAUTH Authentication required.",
            "auth-required",
            "Set Authentication to IAM",
        ),
        (
            "-NOPERM this user has no permissions to run the 'set' command",
            "not-permitted",
            "access string",
        ),
        (
            "-OOM command not allowed when used memory > 'maxmemory'.",
            "failed",
            "OOM command",
        ),
        (
            "-LOADING Redis is loading the dataset in memory",
            "failed",
            "LOADING",
        ),
        ("-CLUSTERDOWN Hash slot not served", "failed", "CLUSTERDOWN"),
    ] {
        let world = World::new(move |_, command| match command[0] {
            "SET" => say(answer),
            _ => empty(command),
        })
        .await;
        let (ids, text) = found(&world).await;
        assert_eq!(ids, [id]);
        assert!(text.contains(says) && text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test]
async fn a_key_on_another_node_shows_shards_and_all_keys_on_one_node_a_replica() {
    let elsewhere = |command: &[&str], is_here: fn(usize) -> bool| {
        let number = command[1]
            .rsplit(':')
            .next()
            .and_then(|text| text.parse().ok());
        match number.is_some_and(is_here) {
            true => empty(command),
            false => say("-MOVED 3999 10.0.2.9:6379"),
        }
    };
    // The write is for a key of another shard, and one of the keys is here.
    let shards = World::new(move |_, command| elsewhere(command, |number| number == 17)).await;
    let (ids, text) = found(&shards).await;
    assert_eq!(ids, ["moved"]);
    assert!(
        text.contains("at least 2 shards") && text.contains("one shard"),
        "{text}"
    );
    // Only a few keys are of another shard, and the write is for this one.
    let few = World::new(move |_, command| match command[0] {
        "SET" => empty(command),
        _ => elsewhere(command, |number| number != 200),
    })
    .await;
    assert_eq!(found(&few).await.0, ["moved"]);
    let replica = World::new(move |_, command| elsewhere(command, |_| false)).await;
    let (ids, text) = found(&replica).await;
    assert_eq!(ids, ["readonly"]);
    assert!(text.contains("MOVED 3999 10.0.2.9:6379"), "{text}");
}

#[tokio::test]
async fn a_cache_that_is_not_there_is_found_within_the_time_of_the_function() {
    let mut world = World::new(|_, command| empty(command)).await;
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.set("PORT", listener.local_addr().unwrap().port());
    drop(listener);
    assert_eq!(found(&world).await.0, ["refused"]);
    // https://www.rfc-editor.org/rfc/rfc6761#section-6.4
    world.set("ENDPOINT", "cache.invalid");
    let (ids, text) = found(&world).await;
    assert_eq!(ids, ["endpoint-unresolved"]);
    assert!(text.contains("Correct Endpoint"), "{text}");

    let silent = World::new(|_, _| Act::Hang).await;
    let begun = std::time::Instant::now();
    let (ids, text) = found(&silent).await;
    assert_eq!(ids, ["silent"]);
    assert!(text.contains("no answer to a command in 3 s"), "{text}");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cache_without_tls_is_told_from_one_that_is_silent() {
    let mut world = World::new(|_, command| empty(command)).await;
    world.set("TLS", true);
    let (ids, text) = found(&world).await;
    assert_eq!(ids, ["plaintext-answered"]);
    assert!(text.contains("without TLS it answers PONG"), "{text}");
}

#[tokio::test]
async fn a_bad_variable_is_the_only_finding() {
    let mut world = World::new(|_, _| Act::Hang).await;
    world.set("AUTHENTICATION", "PASSWORD");
    let (ids, text) = found(&world).await;
    assert_eq!(ids, ["config-invalid"]);
    let expected = r#"AUTHENTICATION is \"PASSWORD\": expected IAM, SECRET or NONE"#;
    assert!(text.contains(expected), "{text}");
}

/// What is not a diagnosis is a request, and a request that cannot be read is refused.
#[tokio::test]
async fn only_who_invokes_the_function_can_ask() {
    let world = World::new(|_, command| empty(command)).await;
    let function = world.function();
    let mut client = event("/", "no token", r#"{"diagnose": true}"#);
    assert_eq!(send(&function, &client).await.0, 401);
    client["diagnose"] = json!(true);
    assert_eq!(send(&function, &client).await.0, 401);
    let (response, _) = function
        .handle(&json!({"diagnose": true, "info": {}}))
        .await;
    assert!(!json!(response)["error"]["code"].is_null());
    for no in [json!(null), json!(false)] {
        assert_eq!(send(&function, &json!({"diagnose": no})).await.0, 400);
    }
    for yes in [json!(1), json!("true"), json!({})] {
        let (response, _) = function.handle(&json!({"diagnose": yes})).await;
        assert_eq!(json!(response), json!({"findings": []}));
    }
}
