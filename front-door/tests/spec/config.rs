//! The variables, and what is said about a bad one.

use serde_json::json;

use crate::peer::say;
use crate::world::{WRITE_TOKEN, World, event, post, read};

#[tokio::test]
async fn a_bad_variable_is_the_answer_to_every_request_and_names_what_was_expected() {
    let sum = "0".repeat(64);
    for (name, value, expected) in [
        ("ENDPOINT", "", "ENDPOINT is not set: expected a host name"),
        (
            "ENDPOINT",
            "a b",
            "ENDPOINT is \"a b\": expected a host name",
        ),
        (
            "PORT",
            "0",
            "PORT is \"0\": expected a port from 1 to 65535",
        ),
        (
            "PORT",
            "+1",
            "PORT is \"+1\": expected a port from 1 to 65535",
        ),
        (
            "AUTHENTICATION",
            "",
            "CACHE_NAME is not set: expected the ID of the replication group",
        ),
        (
            "AUTHENTICATION",
            "PASSWORD",
            "AUTHENTICATION is \"PASSWORD\": expected IAM, SECRET or NONE",
        ),
        (
            "AUTHENTICATION",
            "SECRET",
            "SECRET_ARN is not set: expected the ARN of the secret to log in with",
        ),
        ("TLS", "yes", "TLS is \"yes\": expected true or false"),
        (
            "READ_TOKEN_SHA256",
            "ab",
            "READ_TOKEN_SHA256 is malformed: expected one or two SHA-256 sums of 64 hex digits",
        ),
        (
            "MAX_COMMANDS",
            "1001",
            "MAX_COMMANDS is \"1001\": expected a number from 1 to 1000",
        ),
        (
            "MAX_REPLY_BYTES",
            "1023",
            "MAX_REPLY_BYTES is \"1023\": expected bytes from 1024 to 4194304",
        ),
        (
            "TIMEOUT_MS",
            "8001",
            "TIMEOUT_MS is \"8001\": expected milliseconds from 100 to 8000",
        ),
        (
            "ALLOW_SCRIPTS",
            "1",
            "ALLOW_SCRIPTS is \"1\": expected true or false",
        ),
        (
            "ALLOW_COMMANDS",
            "GET,FLUSHALL",
            "ALLOW_COMMANDS is \"GET,FLUSHALL\": expected names of commands that the front door can send",
        ),
        (
            "DENY_COMMANDS",
            "GET,",
            "DENY_COMMANDS is \"GET,\": expected names of commands that the front door can send",
        ),
    ] {
        let mut world = World::new(|_, _| say("+OK")).await;
        world.set(name, value);
        let function = world.function();
        for _ in 0..2 {
            let (status, body) = post(&function, "/", &json!(["GET", "k"])).await;
            assert_eq!(
                (status, body),
                (500, json!({"error": format!("ERR {expected}")}))
            );
        }
        assert_eq!(world.take_heard(), []);
    }
    for (name, is_valid) in [
        ("READ_TOKEN_SHA256", format!("{sum}, {}", "AB".repeat(32))),
        ("ALLOW_COMMANDS", "get, xgroup, OBJECT|freq".to_owned()),
    ] {
        let mut world = World::new(|_, _| say("+OK")).await;
        world.set(name, is_valid);
        let (status, _) = post(&world.function(), "/", &json!(["GET", "k"])).await;
        assert_eq!(status, 200);
    }
}

/// Only somebody who deploys it anew can mend that.
#[tokio::test]
async fn a_cache_that_asks_for_a_login_is_a_bad_configuration() {
    let world = World::new(|_, _| say("-NOAUTH Authentication required.")).await;
    let expected = "AUTHENTICATION is NONE: expected IAM or SECRET, since the cache asks for a login (NOAUTH Authentication \
                    required.)";
    for (path, body) in [
        ("/", r#"["GET", "k"]"#),
        ("/pipeline", r#"[["GET", "k"], ["SET", "k", "v"]]"#),
        ("/multi-exec", r#"[["SET", "k", "v"]]"#),
    ] {
        let event = event(path, WRITE_TOKEN, body);
        let (response, line) = world.function().handle(&event).await;
        let answer = json!({"error": format!("ERR {expected}")});
        assert_eq!(read(&response), (500, answer));
        assert_eq!(line["level"], "ERROR");
        assert_eq!(
            line["message"],
            format!("{expected}; no client gets an answer")
        );
    }
}

#[tokio::test]
async fn a_token_cannot_both_read_and_write() {
    let mut world = World::new(|_, _| say("+OK")).await;
    let both = world.variables["READ_TOKEN_SHA256"].clone();
    world.set("WRITE_TOKEN_SHA256", both);
    let (status, body) = post(&world.function(), "/", &json!(["GET", "k"])).await;
    assert_eq!(status, 500);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("of other tokens than READ_TOKEN_SHA256")
    );
}

#[tokio::test]
async fn a_password_is_not_sent_without_tls() {
    let mut world = World::new(|_, _| say("+OK")).await;
    world.set("AUTHENTICATION", "SECRET");
    world.set(
        "SECRET_ARN",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cache",
    );
    let (status, body) = post(&world.function(), "/", &json!(["GET", "k"])).await;
    let expected = "ERR TLS is \"false\": expected true, because passwords and tokens must not be sent without TLS";
    assert_eq!((status, body), (500, json!({"error": expected})));
}

/// Somebody may have put the token itself in the place of its digest.
#[tokio::test]
async fn a_token_is_not_told_to_strangers() {
    let mut world = World::new(|_, _| say("+OK")).await;
    world.set("WRITE_TOKEN_SHA256", "the token");
    let event = event("/", "wrong", "[]");
    let (response, line) = world.function().handle(&event).await;
    assert!(!format!("{response:?} {line}").contains("the token"));
}
