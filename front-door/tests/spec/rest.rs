//! What clients send and get over REST. The protocol is Upstash's: <https://upstash.com/docs/redis/features/restapi>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::peer::{Act, say};
use crate::world::{READ_TOKEN, WRITE_TOKEN, World, event, post, send};

/// Answers each command with itself.
fn echo(_: usize, command: &[&str]) -> Act {
    let text = command.join(" ");
    Act::Say(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
}

#[tokio::test]
async fn one_command_has_one_reply() {
    let world = World::new(echo).await;
    let reply = post(&world.function(), "/", &json!(["SET", "k", "v w"])).await;
    assert_eq!(reply, (200, json!({"result": "SET k v w"})));
}

#[tokio::test]
async fn each_reply_keeps_its_type() {
    for (reply, expected) in [
        ("+OK", json!("OK")),
        ("+QUEUED", json!("QUEUED")),
        (":7", json!(7)),
        (":-9223372036854775808", json!(i64::MIN)),
        ("$-1", Value::Null),
        ("*-1", Value::Null),
        ("$0\r\n", json!("")),
        ("*0", json!([])),
        ("*3\r\n:1\r\n$-1\r\n*1\r\n$1\r\nx", json!([1, null, ["x"]])),
    ] {
        let world = World::new(move |_, _| say(reply)).await;
        let (status, body) = post(&world.function(), "/", &json!(["GET", "k"])).await;
        assert_eq!(
            (status, body),
            (200, json!({"result": expected})),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn arguments_keep_their_text() {
    let world = World::new(echo).await;
    let body =
        r#"["SET", "k", 1.10, -0, 1e400, 12345678901234567890123, true, false, "\u00e9\u0000"]"#;
    let (status, _) = send(&world.function(), &event("/", WRITE_TOKEN, body)).await;
    assert_eq!(status, 200);
    let heard = world.take_heard();
    assert_eq!(
        heard,
        [(
            0,
            "SET k 1.10 -0 1e400 12345678901234567890123 true false é\0".to_owned()
        )]
    );
}

#[tokio::test]
async fn base64_encodes_every_string_but_the_status_ok() {
    let world = World::new(|_, command| match command[0] {
        "SET" => say("+OK"),
        "PING" => say("+PONG"),
        _ => Act::Say(b"*2\r\n$2\r\n\xff\x00\r\n:1\r\n".to_vec()),
    })
    .await;
    let commands = json!([["SET", "k", "v"], ["PING"], ["MGET", "a", "b"]]);
    let mut event = event("/pipeline", WRITE_TOKEN, &commands.to_string());
    event["headers"]["upstash-encoding"] = json!("base64");
    let encoded = [STANDARD.encode("PONG"), STANDARD.encode([0xff, 0])];
    assert_eq!(
        send(&world.function(), &event).await,
        (
            200,
            json!([{"result": "OK"}, {"result": encoded[0]}, {"result": [encoded[1], 1]}])
        )
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_become_a_mark() {
    let world = World::new(|_, _| Act::Say(b"$3\r\na\xffb\r\n".to_vec())).await;
    let reply = post(&world.function(), "/", &json!(["GET", "k"])).await;
    assert_eq!(reply, (200, json!({"result": "a\u{fffd}b"})));
}

#[tokio::test]
async fn a_body_may_come_in_base64() {
    let world = World::new(echo).await;
    let mut event = event(
        "/pipeline/",
        WRITE_TOKEN,
        &STANDARD.encode(r#"[["GET","k"]]"#),
    );
    event["isBase64Encoded"] = json!(true);
    event["headers"]["content-type"] = json!("application/octet-stream");
    let function = world.function();
    assert_eq!(
        send(&function, &event).await,
        (200, json!([{"result": "GET k"}]))
    );
    event["body"] = json!("?");
    let (status, body) = send(&function, &event).await;
    assert_eq!(
        (status, body),
        (
            400,
            json!({"error": "ERR the body is marked as Base64, and is not"})
        )
    );
}

#[tokio::test]
async fn in_a_pipeline_each_command_has_its_own_error() {
    let world = World::new(|_, command| match command[0] {
        "INCR" => say("-ERR value is not an integer or out of range"),
        "LPUSH" => say("-WRONGTYPE Operation against a key holding the wrong kind of value"),
        _ => say("+OK"),
    })
    .await;
    let commands = json!([
        ["SET", "k", "v"],
        ["FLUSHALL"],
        ["INCR", "k"],
        ["LPUSH", "k", "v"],
        ["SET", "k", "w"]
    ]);
    let (status, body) = post(&world.function(), "/pipeline", &commands).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!([
            {"result": "OK"},
            {"error": "NOPERM FLUSHALL is not a command that the front door sends"},
            {"error": "ERR value is not an integer or out of range"},
            {"error": "WRONGTYPE Operation against a key holding the wrong kind of value"},
            {"result": "OK"},
        ])
    );
    let heard: Vec<_> = world
        .take_heard()
        .into_iter()
        .map(|(_, command)| command)
        .collect();
    assert_eq!(heard, ["SET k v", "INCR k", "LPUSH k v", "SET k w"]);
}

/// A cache that lets everybody send transactions.
fn transactions(command: &[&str], last: &'static str) -> Act {
    match command[0] {
        "MULTI" | "DISCARD" => say("+OK"),
        "EXEC" => say(last),
        "INCR" if command.len() > 2 => say("-ERR wrong number of arguments for 'incr' command"),
        _ => say("+QUEUED"),
    }
}

#[tokio::test]
async fn a_transaction_is_sent_as_multi_and_exec() {
    let last = "*2\r\n+OK\r\n-WRONGTYPE Operation against a key";
    let world = World::new(move |_, command| transactions(command, last)).await;
    let commands = json!([["SET", "k", "v"], ["LPUSH", "k", "v"]]);
    let function = world.function();
    assert_eq!(
        post(&function, "/multi-exec", &commands).await,
        (
            200,
            json!([{"result": "OK"}, {"error": "WRONGTYPE Operation against a key"}])
        )
    );
    post(
        &function,
        "/multi-exec",
        &json!([["GET", "k"], ["GET", "l"]]),
    )
    .await;
    let heard: Vec<_> = world
        .take_heard()
        .into_iter()
        .map(|(_, command)| command)
        .collect();
    let expected = "MULTI, DISCARD, MULTI, SET k v, LPUSH k v, EXEC, MULTI, GET k, GET l, EXEC";
    assert_eq!(heard.join(", "), expected);
}

#[tokio::test]
async fn a_transaction_that_is_discarded_has_one_error() {
    let last = "-EXECABORT Transaction discarded because of previous errors.";
    let world = World::new(move |_, command| transactions(command, last)).await;
    let reply = post(
        &world.function(),
        "/multi-exec",
        &json!([["SET", "k", "v"], ["INCR", "k", "2"]]),
    )
    .await;
    let expected = "EXECABORT the transaction was discarded because of its command 2: ERR wrong number of arguments for \
                    'incr' command";
    assert_eq!(reply, (400, json!({"error": expected})));
}

#[tokio::test]
async fn of_a_transaction_one_refusal_refuses_all_before_anything_is_sent() {
    let world = World::new(|_, command| transactions(command, "*0")).await;
    let commands = json!([["SET", "k", "v"], ["KEYS", "*"]]);
    let reply = post(&world.function(), "/multi-exec", &commands).await;
    let expected = json!({"error": "NOPERM KEYS is not a command that the front door sends"});
    assert_eq!(reply, (400, expected));
    assert_eq!(world.take_heard(), []);
}

/// Such a cache would execute the commands one by one.
#[tokio::test]
async fn nothing_is_sent_to_a_cache_that_refuses_multi() {
    let world = World::new(|_, command| match command[0] {
        "MULTI" => say("-NOPERM this user has no permissions to run the 'multi' command"),
        _ => say("+OK"),
    })
    .await;
    let reply = post(
        &world.function(),
        "/multi-exec",
        &json!([["SET", "k", "v"]]),
    )
    .await;
    assert_eq!(
        reply,
        (
            400,
            json!({"error": "EXECABORT the cache refuses a transaction: NOPERM this user has no permissions to run the 'multi' command"})
        )
    );
    assert_eq!(world.take_heard(), [(0, "MULTI".to_owned())]);
}

#[tokio::test]
async fn a_wrong_token_is_refused_whatever_it_asks_for() {
    let world = World::new(echo).await;
    let function = world.function();
    let with = |path: &str, header: Option<&str>, query: &str| {
        let mut event = event(path, "", r#"["GET","k"]"#);
        event["rawQueryString"] = json!(query);
        event["headers"]["authorization"] = json!(header);
        if header.is_none() {
            event["headers"] = json!({});
        }
        event
    };
    let right = format!("Bearer {WRITE_TOKEN}");
    let wrong = [
        "",
        "Bearer",
        "Bearer x",
        "Basic eDp5",
        WRITE_TOKEN,
        &format!("Basic {WRITE_TOKEN}"),
    ];
    for path in ["/", "/pipeline", "/multi-exec", "/nothing"] {
        for header in wrong.map(Some).into_iter().chain([None]) {
            let (status, body) = send(&function, &with(path, header, "")).await;
            assert_eq!(status, 401, "{path} {header:?}");
            assert!(
                body["error"].as_str().unwrap().starts_with("WRONGPASS "),
                "{body}"
            );
        }
        let in_query = with(path, Some(&right), &format!("a=b&_token={WRITE_TOKEN}"));
        assert_eq!(send(&function, &in_query).await.0, 401);
    }
    assert_eq!(world.take_heard(), []);
    let lower_case = with("/", Some(&format!("bearer {WRITE_TOKEN}")), "a=b");
    assert_eq!(send(&function, &lower_case).await.0, 200);
}

#[tokio::test]
async fn without_a_token_rest_refuses_everything() {
    let mut world = World::new(echo).await;
    world.set("READ_TOKEN_SHA256", "");
    world.set("WRITE_TOKEN_SHA256", "");
    let function = world.function();
    assert_eq!(post(&function, "/", &json!(["GET", "k"])).await.0, 401);
    assert_eq!(
        send(&function, &event("/", "", r#"["GET","k"]"#)).await.0,
        401
    );
}

#[tokio::test]
async fn during_a_rotation_both_tokens_are_right() {
    let mut world = World::new(echo).await;
    let [old, new] =
        ["READ_TOKEN_SHA256", "WRITE_TOKEN_SHA256"].map(|name| world.variables[name].clone());
    world.set("READ_TOKEN_SHA256", "");
    world.set("WRITE_TOKEN_SHA256", format!("{old},{new}"));
    let function = world.function();
    for token in [READ_TOKEN, WRITE_TOKEN] {
        let reply = send(&function, &event("/", token, r#"["DEL","k"]"#)).await;
        assert_eq!(reply, (200, json!({"result": "DEL k"})));
    }
}

#[tokio::test]
async fn a_token_that_reads_does_not_write() {
    let world = World::new(echo).await;
    let function = world.function();
    let body = json!([["GET", "k"], ["SET", "k", "v"]]).to_string();
    let reply = send(&function, &event("/pipeline", READ_TOKEN, &body)).await;
    let refused = "NOPERM SET changes the cache, and this client may only read";
    assert_eq!(
        reply,
        (200, json!([{"result": "GET k"}, {"error": refused}]))
    );
    let reply = send(&function, &event("/", READ_TOKEN, r#"["SET","k","v"]"#)).await;
    assert_eq!(reply, (400, json!({"error": refused})));
    assert_eq!(world.take_heard().len(), 1);
}

/// Also what no client sends by mistake.
#[tokio::test]
async fn what_is_no_request_is_refused_in_json_and_not_sent() {
    let mut world = World::new(echo).await;
    world.set("MAX_REQUEST_BYTES", 1024);
    world.set("MAX_COMMANDS", 3);
    let function = world.function();
    let deep = "[".repeat(100_000);
    let long = format!("[\"GET\",\"{}\"]", "k".repeat(1024));
    for (path, body, status) in [
        ("/", "", 400),
        ("/", "[]", 400),
        ("/", "[[]]", 400),
        ("/", "{}", 400),
        ("/", "null", 400),
        ("/", "\"GET\"", 400),
        ("/", "[\"GET\", null]", 400),
        ("/", "[\"GET\", {\"a\": 1}]", 400),
        ("/", "[\"GET\", [\"k\"]]", 400),
        ("/", "[\"GET\", \"k\"", 400),
        ("/", "[\"GET\", \"k\"] x", 400),
        ("/", "[\"GET\", \"\\ud800\"]", 400),
        ("/", "[\"GET\", 01]", 400),
        ("/", "[\"\"]", 400),
        ("/", "[\" GET\", \"k\"]", 400),
        ("/", "[\"GET k\"]", 400),
        ("/", "[\"GET\\u0000\", \"k\"]", 400),
        ("/", "[7]", 400),
        ("/", "[\"OBJECT\", \"HELP\"]", 400),
        ("/", &deep[..1000], 400),
        ("/", &deep, 413),
        ("/", &long, 413),
        ("/pipeline", "[]", 400),
        ("/pipeline", "[[]]", 400),
        ("/pipeline", "[\"GET\", \"k\"]", 400),
        ("/pipeline", "[[\"GET\", \"k\"], []]", 400),
        ("/pipeline", "[[\"GET\", [\"k\"]]]", 400),
        (
            "/pipeline",
            "[[\"PING\"],[\"PING\"],[\"PING\"],[\"PING\"]]",
            413,
        ),
        ("/multi-exec", "[]", 400),
        ("/get/k", "", 404),
        ("/pipeline/more", "[[\"PING\"]]", 404),
        ("//", "[\"PING\"]", 404),
    ] {
        let (found, answer) = send(&function, &event(path, WRITE_TOKEN, body)).await;
        assert_eq!(found, status, "{path} {body:.60} {answer}");
        let error = answer["error"].as_str().expect("an error");
        assert!(!error.contains('\n') && error.len() < 300, "{error}");
    }
    for method in ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "post"] {
        let mut event = event("/", WRITE_TOKEN, "[\"PING\"]");
        event["requestContext"]["http"]["method"] = json!(method);
        assert_eq!(send(&function, &event).await.0, 405, "{method}");
    }
    let mut not_utf8 = event("/", WRITE_TOKEN, &STANDARD.encode(b"[\"GET\",\"\xff\"]"));
    not_utf8["isBase64Encoded"] = json!(true);
    assert_eq!(send(&function, &not_utf8).await.0, 400);
    for event in [
        json!(null),
        json!({}),
        json!([]),
        json!("x"),
        json!({"Records": []}),
        json!({"rawPath": 7}),
    ] {
        let reply = send(&function, &event).await;
        assert_eq!(
            reply,
            (400, json!({"error": "ERR the event is not a request"}))
        );
    }
    assert_eq!(world.take_heard(), []);
}

/// A NUL is six bytes of JSON, and seven in the string that the body is in Lambda's answer.
#[tokio::test]
async fn an_answer_that_is_too_big_in_json_is_an_error() {
    let world = World::new(|_, _| {
        let mut reply = b"$800000\r\n".to_vec();
        reply.extend([0; 800_000]);
        reply.extend(b"\r\n");
        Act::Say(reply)
    })
    .await;
    let function = world.function();
    let (status, body) = post(&function, "/", &json!(["GET", "k"])).await;
    assert_eq!(status, 413);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .starts_with("TOOBIG the answer has 56001"),
        "{body}"
    );
    let mut event = event("/", WRITE_TOKEN, r#"["GET","k"]"#);
    event["headers"]["upstash-encoding"] = json!("base64");
    assert_eq!(send(&function, &event).await.0, 200);
}

#[tokio::test]
async fn the_line_of_the_log_counts_and_says_nothing_of_keys_values_and_tokens() {
    let world = World::new(|_, command| match command[0] {
        "GET" => say("-WRONGTYPE secret"),
        _ => say("+secret"),
    })
    .await;
    let commands = json!([
        ["SET", "secret", "secret"],
        ["GET", "secret"],
        ["secret", "secret"],
        ["SET", "a", "b"]
    ]);
    let event = event("/pipeline", WRITE_TOKEN, &commands.to_string());
    let (_, line) = world.function().handle(&event).await;
    let text = line.to_string();
    assert!(
        !text.contains("secret") && !text.contains("SECRET") && !text.contains(WRITE_TOKEN),
        "{text}"
    );
    assert_eq!(line["commands"], json!({"GET": 1, "OTHER": 1, "SET": 2}));
    assert_eq!(line["codes"], json!(["NOPERM", "WRONGTYPE"]));
    assert_eq!(
        (&line["role"], &line["status"]),
        (&json!("writer"), &json!(200))
    );
    let metrics = ["Requests", "Commands", "Refused", "Failed", "Reconnects"]
        .map(|name| line[name].as_u64().unwrap());
    assert_eq!(metrics, [1, 4, 2, 0, 0]);
    assert!(line["CacheLatency"].as_f64().unwrap() > 0.0);
    let published = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(published["Dimensions"], json!([["FunctionName"]]));
    for metric in published["Metrics"].as_array().unwrap() {
        assert!(
            line[metric["Name"].as_str().unwrap()].is_number(),
            "{metric}"
        );
    }
}
