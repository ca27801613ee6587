//! Logging in with IAM: the token, and how long a connection lives.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use front_door::commands::Role;
use front_door::config::{Authentication, Config};
use serde_json::json;

use crate::peer::say;
use crate::world::{World, post};

/// What botocore 1.43.106 makes of the same names at 2027-01-15 12:00:00, without its scheme:
/// `SigV4QueryAuth(credentials, "elasticache", "eu-west-1", expires=900)` of
/// `GET http://cache-1/?Action=connect&User=front-door-reader`. The second one has the session token.
const TOKENS: [(&str, &str); 2] = [
    (
        "",
        "cache-1/?Action=connect&User=front-door-reader&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Feu-west-1%2Felasticache%2Faws4_request&X-Amz-Date=20270115T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=cad2499df779d3637c491764749cba07abc88e3dd89d33c8ee4e02fda3575e3d",
    ),
    (
        "IQoJb3JpZ2luX2VjEXAMPLE//+token==",
        "cache-1/?Action=connect&User=front-door-reader&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Feu-west-1%2Felasticache%2Faws4_request&X-Amz-Date=20270115T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=IQoJb3JpZ2luX2VjEXAMPLE%2F%2F%2Btoken%3D%3D&X-Amz-Signature=5d61ab041d82b7f6df0cb1dc18a572bc2f295974c00f7a2620cacee4b276ead8",
    ),
];

fn variables() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("ENDPOINT", "cache.example.com"),
        ("CACHE_NAME", "cache-1"),
        ("READER_USER", "front-door-reader"),
        ("WRITER_USER", "front-door-writer"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        ),
    ])
}

/// The order of what is in a query does not matter.
fn parts(token: &str) -> (&str, BTreeSet<&str>) {
    let (host, query) = token.split_once("/?").expect("a query");
    (host, query.split('&').collect())
}

#[test]
fn the_token_is_the_one_of_another_signer() {
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_014_400);
    for (session, expected) in TOKENS {
        let mut variables = variables();
        variables.insert("AWS_SESSION_TOKEN", session);
        let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let config = Config::parse(lookup).unwrap();
        let Authentication::Iam(iam) = config.cache.authentication else {
            panic!("IAM is the default");
        };
        let reader = iam.credentials(Role::Reader, noon).unwrap();
        assert_eq!(reader.user.as_deref(), Some("front-door-reader"));
        assert_eq!(parts(&reader.password), parts(expected));
        let writer = iam.credentials(Role::Writer, noon).unwrap();
        assert_eq!(writer.user.as_deref(), Some("front-door-writer"));
        assert!(writer.password.contains("User=front-door-writer&"));
        let shown = format!("{iam:?} {reader:?}");
        assert!(
            !shown.contains("wJalr") && !shown.contains("X-Amz"),
            "{shown}"
        );
    }
}

#[test]
fn bad_names_are_told_and_credentials_are_not() {
    let long = "a".repeat(41);
    let id = "expected the ID of the replication group";
    let user = "expected the ID of a user of the cache";
    let lambda = "expected what Lambda sets";
    for (name, value, expected) in [
        ("CACHE_NAME", "", format!("CACHE_NAME is not set: {id}")),
        ("CACHE_NAME", "a.b", format!("CACHE_NAME is \"a.b\": {id}")),
        ("CACHE_NAME", &long, format!("CACHE_NAME is \"{long}\": {id}")),
        ("READER_USER", "1a", format!("READER_USER is \"1a\": {user}")),
        ("WRITER_USER", "a&b", format!("WRITER_USER is \"a&b\": {user}")),
        ("AWS_REGION", "", format!("AWS_REGION is not set: {lambda}")),
        (
            "AWS_SECRET_ACCESS_KEY",
            "",
            format!("AWS_SECRET_ACCESS_KEY is not set: {lambda}"),
        ),
        (
            "TLS",
            "false",
            "TLS is \"false\": expected true, because passwords and tokens must not be sent without TLS"
                .to_owned(),
        ),
    ] {
        let mut variables = variables();
        variables.insert(name, value);
        let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        assert_eq!(Config::parse(lookup).unwrap_err().to_string(), expected);
    }
}

/// ElastiCache ends a connection 12 hours after its login:
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html#auth-iam-limits>
#[tokio::test]
async fn a_connection_is_renewed_before_12_hours_are_over() {
    for (minutes, expected) in [
        (689, vec!["0: GET k", "0: PING", "0: INCR k"]),
        (691, vec!["0: GET k", "1: INCR k"]),
    ] {
        let world = World::new(|_, command| match command[0] {
            "PING" => say("+PONG"),
            _ => say(":1"),
        })
        .await;
        let function = world.function();
        post(&function, "/", &json!(["GET", "k"])).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(minutes * 60)).await;
        tokio::time::resume();
        let reply = post(&function, "/", &json!(["INCR", "k"])).await;
        assert_eq!(reply, (200, json!({"result": 1})));
        let heard = world.take_heard().into_iter();
        let heard: Vec<_> = heard
            .map(|(connection, command)| format!("{connection}: {command}"))
            .collect();
        assert_eq!(heard, expected);
    }
}
