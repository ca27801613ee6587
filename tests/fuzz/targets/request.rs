//! Feeds the front door the body of a request. The first byte says where it is sent.

use front_door::commands::{Kind, Role, TABLE};
use front_door::config::Config;
use front_door::error::Error;
use front_door::request::Command;
use front_door::rest::Event;
use serde::Deserialize;
use serde_json::{Number, Value, json};

/// The SHA-256 sum of the text "token", by sha256sum.
const DIGEST: &str = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
const PATHS: [&str; 3] = ["/", "/pipeline", "/multi-exec"];

/// Checks that what is read is what serde_json reads, and that nothing is allowed that the table does not have.
pub fn run(input: &[u8]) {
    let Some((first, body)) = input.split_first() else {
        return;
    };
    let Ok(body) = str::from_utf8(body) else {
        return;
    };
    let path = PATHS[usize::from(*first) % PATHS.len()];
    let config = config();
    let event = json!({
        "rawPath": path,
        "headers": {"authorization": "Bearer token"},
        "requestContext": {"http": {"method": "POST"}},
        "body": body,
    });
    let event = Event::deserialize(&event).expect("an event");
    let call = match event.read(&config.tokens, &config.limits) {
        Ok(call) => call,
        Err(Error::Malformed(_) | Error::TooBig(_)) => return,
        Err(error) => panic!("{error:?}"),
    };
    // A number that no machine can hold is a text for the cache, and no number for serde_json.
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        assert!(body.contains(['e', 'E']), "{body:?} is not JSON");
        return;
    };
    let expected = match path {
        "/" => vec![value],
        _ => value.as_array().expect("an array").clone(),
    };
    assert_eq!(call.request.commands.len(), expected.len());
    for (command, expected) in call.request.commands.iter().zip(&expected) {
        assert_is_read(command, expected.as_array().expect("an array"));
        for role in [Role::Reader, Role::Writer] {
            if let Ok(kind) = config.permission.check(role, command) {
                assert_is_allowed(role, kind, command);
            }
        }
    }
}

fn config() -> Config {
    let variables = [
        ("ENDPOINT", "cache.example.com"),
        ("AUTHENTICATION", "NONE"),
        ("WRITE_TOKEN_SHA256", DIGEST),
    ];
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::parse(lookup).expect("a configuration")
}

fn assert_is_read(command: &Command, expected: &[Value]) {
    let parts = [&command.name].into_iter().chain(&command.arguments);
    assert_eq!(parts.clone().count(), expected.len());
    for (part, expected) in parts.zip(expected) {
        let text = str::from_utf8(part).expect("UTF-8");
        match expected {
            Value::String(expected) => assert_eq!(text, expected),
            Value::Bool(expected) => assert_eq!(text, expected.to_string()),
            Value::Number(expected) => {
                assert_eq!(text.parse::<Number>().as_ref().ok(), Some(expected))
            }
            another => panic!("{another} was read as {text:?}"),
        }
    }
}

fn assert_is_allowed(role: Role, kind: Kind, command: &Command) {
    assert!(role == Role::Writer || kind == Kind::Read, "{command:?}");
    assert_ne!(kind, Kind::Script, "{command:?}");
    let upper = |part: &Vec<u8>| String::from_utf8_lossy(part).to_ascii_uppercase();
    let name = upper(&command.name);
    let subcommand = command
        .arguments
        .first()
        .map(|one| format!("{name}|{}", upper(one)));
    let is_known = |known: &str| known == name || Some(known) == subcommand.as_deref();
    assert!(
        TABLE.iter().any(|(known, _)| is_known(known)),
        "{command:?}"
    );
}
