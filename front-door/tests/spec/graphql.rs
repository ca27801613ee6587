//! GraphQL: what AppSync hands over, and what it gets back.

use serde_json::{Value, json};

use crate::peer::{Act, say};
use crate::world::World;

/// Returns the context of a direct Lambda resolver, as AWS's documentation has it:
/// <https://docs.aws.amazon.com/appsync/latest/devguide/resolver-context-reference-js.html>
fn event(field: &str, arguments: Value, is_signed: bool) -> Value {
    let identity = json!({
        "accountId": "123456789012",
        "cognitoIdentityAuthProvider": null,
        "cognitoIdentityAuthType": null,
        "cognitoIdentityId": null,
        "cognitoIdentityPoolId": null,
        "sourceIp": ["203.0.113.7"],
        "userArn": "arn:aws:sts::123456789012:assumed-role/role/session",
        "username": "AROAEXAMPLE:session",
    });
    json!({
        "arguments": arguments,
        "identity": if is_signed { identity } else { Value::Null },
        "source": null,
        "request": {
            "headers": {"host": "example.appsync-api.eu-west-1.amazonaws.com"},
            "domainName": null,
        },
        "prev": null,
        "info": {
            "selectionSetList": ["replies", "replies/value"],
            "selectionSetGraphQL": "{\n  replies {\n    value\n  }\n}",
            "parentTypeName": if field == "execute" { "Mutation" } else { "Query" },
            "fieldName": field,
            "variables": {},
        },
        "stash": {},
    })
}

/// Sends commands as a client that signed its request.
async fn send(world: &World, field: &str, arguments: Value) -> Value {
    let event = event(field, arguments, true);
    json!(world.function().handle(&event).await.0)
}

fn values(answer: &Value) -> Vec<&str> {
    let replies = answer["replies"].as_array().expect("replies");
    let value = |reply: &'_ Value| {
        assert_eq!(reply["error"], Value::Null);
        reply["value"].as_str().is_some()
    };
    assert!(replies.iter().all(value), "{answer}");
    replies
        .iter()
        .map(|reply| reply["value"].as_str().unwrap())
        .collect()
}

fn error_of(code: &str, message: &str) -> Value {
    json!({"replies": [], "error": {"code": code, "message": message}})
}

#[tokio::test]
async fn a_value_is_json_and_survives() {
    let world = World::new(|_, command| match command[1] {
        "nil" => say("$-1"),
        "number" => say(":-9007199254740991"),
        "large" => say(":9007199254740992"),
        "small" => say(":-9223372036854775808"),
        "nested" => Act::Say(b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n*0\r\n".to_vec()),
        "quotes" => Act::Say("$6\r\n\"żó\\\r\n".as_bytes().to_vec()),
        _ => say("+OK"),
    })
    .await;
    let keys = ["nil", "number", "large", "small", "nested", "quotes", "k"];
    let commands: Vec<_> = keys.iter().map(|key| json!(["GET", key])).collect();
    let answer = send(&world, "read", json!({"commands": commands})).await;
    assert_eq!(
        values(&answer),
        [
            "null",
            "-9007199254740991",
            "\"9007199254740992\"",
            "\"-9223372036854775808\"",
            "[\"a\",[1,null],[]]",
            "\"\\\"żó\\\\\"",
            "\"OK\"",
        ]
    );
    assert_eq!(answer["error"], Value::Null);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_said_to_be_lost_unless_base64_is_asked_for() {
    let world = World::new(|_, command| match command[1] {
        "binary" => Act::Say(b"$2\r\n\xff\x00\r\n".to_vec()),
        "nested" => Act::Say(b"*1\r\n*1\r\n$1\r\n\xff\r\n".to_vec()),
        _ => say("+OK"),
    })
    .await;
    let commands = json!([
        ["GET", "binary"],
        ["LRANGE", "nested", "0", "1"],
        ["GET", "k"]
    ]);
    let answer = send(&world, "read", json!({"commands": commands})).await;
    assert_eq!(
        values(&answer),
        ["\"\u{fffd}\\u0000\"", "[[\"\u{fffd}\"]]", "\"OK\""]
    );
    let lossy = |answer: &Value| [0, 1, 2].map(|index| answer["replies"][index]["lossy"].clone());
    assert_eq!(lossy(&answer), [true, true, false]);
    let asked = json!({"commands": commands, "replies": "BASE64"});
    let answer = send(&world, "read", asked).await;
    assert_eq!(values(&answer), ["\"/wA=\"", "[[\"/w==\"]]", "\"T0s=\""]);
    assert_eq!(lossy(&answer), [false, false, false]);
}

#[tokio::test]
async fn arguments_in_base64_are_bytes_and_the_name_is_text() {
    let world = World::new(|_, _| say("+OK")).await;
    let asked =
        |argument: &str| json!({"commands": [["SET", "aw==", argument]], "arguments": "BASE64"});
    let answer = send(&world, "execute", asked("YSBi")).await;
    assert_eq!(values(&answer), ["\"OK\""]);
    assert_eq!(world.take_heard(), [(0, "SET k a b".to_owned())]);
    let answer = send(&world, "execute", asked("a b")).await;
    let expected = "the argument 2 of a command is not Base64";
    assert_eq!(answer, error_of("ERR", expected));
    assert_eq!(world.take_heard(), []);
}

#[tokio::test]
async fn each_command_has_its_own_error_and_a_request_has_one() {
    let world = World::new(|_, command| match command[0] {
        "LPUSH" => say("-WRONGTYPE Operation against a key holding the wrong kind of value"),
        _ => say(":1"),
    })
    .await;
    let commands = json!([["INCR", "k"], ["LPUSH", "k", "v"], ["KEYS", "*"]]);
    let answer = send(&world, "execute", json!({"commands": commands})).await;
    let reply =
        |value: Value, error: Value| json!({"value": value, "error": error, "lossy": false});
    let error = |code: &str, message: &str| json!({"code": code, "message": message});
    let wrong_type = "Operation against a key holding the wrong kind of value";
    let refused = "KEYS is not a command that the front door sends";
    let expected = [
        reply(json!("1"), Value::Null),
        reply(Value::Null, error("WRONGTYPE", wrong_type)),
        reply(Value::Null, error("NOPERM", refused)),
    ];
    assert_eq!(answer, json!({"replies": expected, "error": null}));
    world.take_heard();
    let asked = json!({"commands": commands, "atomic": true, "arguments": null, "replies": null});
    let answer = send(&world, "execute", asked).await;
    assert_eq!(answer, error_of("NOPERM", refused));
    assert_eq!(world.take_heard(), []);
}

#[tokio::test]
async fn a_request_without_any_reply_fails_as_a_whole() {
    let world = World::new(|_, _| Act::Close(Vec::new())).await;
    let asked = json!({"commands": [["INCR", "a"], ["INCR", "b"]]});
    let answer = send(&world, "execute", asked).await;
    let expected = "the connection to the cache ended; the command may have been executed";
    assert_eq!(answer, error_of("UNKNOWN", expected));
}

#[tokio::test]
async fn a_transaction_is_one() {
    let world = World::new(|_, command| match command[0] {
        "MULTI" | "DISCARD" => say("+OK"),
        "EXEC" => Act::Say(b"*2\r\n:1\r\n$1\r\nv\r\n".to_vec()),
        _ => say("+QUEUED"),
    })
    .await;
    let asked = json!({"commands": [["INCR", "a"], ["GET", "b"]], "atomic": true});
    let answer = send(&world, "execute", asked).await;
    assert_eq!(values(&answer), ["1", "\"v\""]);
}

/// The directives of the schema say the same. The function asks again.
#[tokio::test]
async fn an_api_key_may_do_what_the_deployment_says() {
    let nothing = "an API key may do nothing here, because ApiKeyAccess is none";
    let reading = "an API key may only use the field read, because ApiKeyAccess is read";
    for (access, read, execute) in [
        ("", Some(nothing), Some(nothing)),
        ("none", Some(nothing), Some(nothing)),
        ("read", None, Some(reading)),
        ("write", None, None),
    ] {
        let mut world = World::new(|_, _| say(":1")).await;
        world.set("API_KEY_ACCESS", access);
        for (field, refused) in [("read", read), ("execute", execute)] {
            let mut event = event(field, json!({"commands": [["GET", "k"]]}), false);
            for is_missing in [false, true] {
                if is_missing {
                    event.as_object_mut().unwrap().remove("identity");
                }
                let answer = json!(world.function().handle(&event).await.0);
                match refused {
                    Some(why) => assert_eq!(answer, error_of("NOPERM", why)),
                    None => assert_eq!(values(&answer), ["1"]),
                }
            }
        }
        let answer = send(&world, "execute", json!({"commands": [["INCR", "k"]]})).await;
        assert_eq!(values(&answer), ["1"]);
    }
}

#[tokio::test]
async fn whoever_reads_does_not_write() {
    let world = World::new(|_, _| say(":1")).await;
    let answer = send(&world, "read", json!({"commands": [["INCR", "k"]]})).await;
    assert_eq!(answer["replies"][0]["error"]["code"], "NOPERM");
    assert_eq!(world.take_heard(), []);
}

#[tokio::test]
async fn limits_are_those_of_a_request() {
    let mut world =
        World::new(|_, _| Act::Say(format!("$900\r\n{}\r\n", "\0".repeat(900)).into())).await;
    world.set("MAX_COMMANDS", 200);
    world.set("MAX_REQUEST_BYTES", 2048);
    for (commands, code, message) in [
        (json!([]), "ERR", "the request has no command"),
        (json!([[]]), "ERR", "a command has no name"),
        (
            json!(vec![["GET", "k"]; 201]),
            "TOOBIG",
            "the request has 201 commands: at most 200 are allowed",
        ),
        (
            json!([["GET", "k".repeat(2046)]]),
            "TOOBIG",
            "the request has 2049 bytes: at most 2048 are allowed",
        ),
    ] {
        let answer = send(&world, "read", json!({"commands": commands})).await;
        assert_eq!(answer, error_of(code, message));
    }
    assert_eq!(world.take_heard(), []);
    // Six bytes of JSON for each NUL, and a backslash more in the text of a text.
    let answer = send(&world, "read", json!({"commands": vec![["GET", "k"]; 200]})).await;
    let message = answer["error"]["message"].as_str().expect("an error");
    assert!(message.starts_with("the answer has 12"), "{message}");
    assert!(
        message.ends_with(" bytes: at most 1000000 are allowed; the commands were sent, and may have been executed"),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_no_request_and_a_bad_configuration_are_answered_as_an_object() {
    let mut world = World::new(|_, _| say(":1")).await;
    let expected = error_of("ERR", "the event is not a request");
    assert_eq!(
        send(&world, "another", json!({"commands": [["GET", "k"]]})).await,
        expected
    );
    assert_eq!(
        send(&world, "read", json!({"commands": [["GET", 1]]})).await,
        expected
    );
    assert_eq!(send(&world, "read", json!({})).await, expected);
    world.set("API_KEY_ACCESS", "all");
    let expected = "API_KEY_ACCESS is \"all\": expected none, read or write";
    let answer = send(&world, "read", json!({"commands": [["GET", "k"]]})).await;
    assert_eq!(answer, error_of("ERR", expected));
}

/// The line has no argument and no value, and a status only where there is one.
#[tokio::test]
async fn the_line_is_that_of_a_request() {
    let world = World::new(|_, _| say("$6\r\nsecret")).await;
    let asked = json!({"commands": [["GET", "key-of-somebody"], ["NOTHING"]]});
    let (_, line) = world.function().handle(&event("read", asked, true)).await;
    assert_eq!(line["role"], "reader");
    assert_eq!(line["status"], Value::Null);
    assert_eq!(line["commands"], json!({"GET": 1, "OTHER": 1}));
    // Names and arguments, and what the cache said.
    assert_eq!(
        (&line["requestBytes"], &line["replyBytes"]),
        (&json!(25), &json!(12))
    );
    assert_eq!(
        (&line["Commands"], &line["Refused"]),
        (&json!(2), &json!(1))
    );
    let text = line.to_string();
    assert!(
        !text.contains("secret") && !text.contains("somebody"),
        "{text}"
    );
}
