//! When a request is sent again, and what is said when it is not: a request is sent again only if nothing of it was
//! done, or if it only reads.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use front_door::function::Function;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn;

use crate::peer::{Act, say};
use crate::world::{READ_TOKEN, WRITE_TOKEN, World, event, post, read, send, variables};

fn commands(world: &World) -> Vec<String> {
    let heard = world.take_heard().into_iter();
    heard
        .map(|(connection, command)| format!("{connection}: {command}"))
        .collect()
}

fn error(body: &Value) -> &str {
    body["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {body}"))
}

const READONLY: &str = "-READONLY You can't write against a read only replica.";

#[tokio::test]
async fn a_connection_is_kept_and_each_role_has_its_own() {
    let world = World::new(|_, _| say("+OK")).await;
    let function = world.function();
    for _ in 0..2 {
        post(&function, "/", &json!(["GET", "w"])).await;
        send(&function, &event("/", READ_TOKEN, r#"["GET","r"]"#)).await;
    }
    assert_eq!(
        commands(&world),
        ["0: GET w", "1: GET r", "0: GET w", "1: GET r"]
    );
}

#[tokio::test]
async fn a_write_that_a_replica_refuses_goes_to_the_primary() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0, "SET") => say(READONLY),
        _ => say("+OK"),
    })
    .await;
    let function = world.function();
    let pipeline = json!([["GET", "k"], ["SET", "k", "v"], ["SET", "k", "w"]]);
    let event = event("/pipeline", WRITE_TOKEN, &pipeline.to_string());
    let (response, line) = function.handle(&event).await;
    assert_eq!(line["Reconnects"], 1);
    let (status, body) = read(&response);
    assert_eq!(
        (status, body),
        (
            200,
            json!([{"result": "OK"}, {"result": "OK"}, {"result": "OK"}])
        )
    );
    assert_eq!(
        commands(&world),
        [
            "0: GET k",
            "0: SET k v",
            "0: SET k w",
            "1: GET k",
            "1: SET k v",
            "1: SET k w"
        ]
    );
}

/// The reader's connection leads to the same node.
#[tokio::test]
async fn a_demoted_node_loses_both_connections() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0 | 1, "SET") => say(READONLY),
        _ => say("+OK"),
    })
    .await;
    let function = world.function();
    let read = event("/", READ_TOKEN, r#"["GET","k"]"#);
    send(&function, &read).await;
    post(&function, "/", &json!(["SET", "k", "v"])).await;
    send(&function, &read).await;
    assert_eq!(
        commands(&world),
        ["0: GET k", "1: SET k v", "2: SET k v", "3: GET k"]
    );
}

#[tokio::test]
async fn a_node_that_stays_a_replica_is_said_to_be_one() {
    let world = World::new(|_, _| say(READONLY)).await;
    let event = event("/", WRITE_TOKEN, r#"["SET", "k", "v"]"#);
    let (response, line) = world.function().handle(&event).await;
    assert_eq!((&line["Failed"], &line["Refused"]), (&json!(1), &json!(0)));
    let (status, body) = read(&response);
    assert_eq!(status, 503);
    assert_eq!(
        error(&body),
        "READONLY You can't write against a read only replica."
    );
    assert_eq!(commands(&world), ["0: SET k v", "1: SET k v"]);
}

/// Of a transaction that was discarded nothing was published. A script is never sent again.
#[tokio::test]
async fn a_discarded_transaction_goes_to_the_primary_unless_it_has_a_script() {
    let at_the_end =
        "-EXECABORT Transaction discarded because of: READONLY You can't write against a replica.";
    for (other, queued, executed, expected) in [
        (
            "PUBLISH",
            READONLY,
            "-EXECABORT",
            (200, "0 0 0 0 0 0 1 1 1 1 1 1"),
        ),
        (
            "PUBLISH",
            "+QUEUED",
            at_the_end,
            (200, "0 0 0 0 0 0 1 1 1 1 1 1"),
        ),
        ("EVAL", READONLY, "-EXECABORT", (503, "0 0 0 0 0 0")),
    ] {
        let mut world = World::new(move |connection, command| match (connection, command[0]) {
            (_, "MULTI" | "DISCARD") => say("+OK"),
            (0, "SET") => say(queued),
            (0, "EXEC") => say(executed),
            (_, "EXEC") => Act::Say(b"*2\r\n+OK\r\n:0\r\n".to_vec()),
            _ => say("+QUEUED"),
        })
        .await;
        world.set("ALLOW_SCRIPTS", true);
        let function = world.function();
        let commands = json!([["SET", "k", "v"], [other, "a", "0"]]);
        let (status, _) = post(&function, "/multi-exec", &commands).await;
        let heard = world.take_heard().into_iter();
        let connections: Vec<_> = heard
            .map(|(connection, _)| connection.to_string())
            .collect();
        assert_eq!((status, &*connections.join(" ")), expected, "{other}");
        // Whatever was answered, a replica is not asked again.
        post(&function, "/", &json!(["GET", "k"])).await;
        assert_eq!(commands_of_last(&world), "1: GET k");
    }
}

fn commands_of_last(world: &World) -> String {
    commands(world).pop().expect("a command")
}

/// What was published or scripted is not sent again, but the next request finds the primary.
#[tokio::test]
async fn a_replica_is_left_even_if_nothing_is_sent_again() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0, "SET") => say(READONLY),
        _ => say(":1"),
    })
    .await;
    let function = world.function();
    let pipeline = json!([["PUBLISH", "c", "m"], ["SET", "k", "v"]]);
    post(&function, "/pipeline", &pipeline).await;
    post(&function, "/", &json!(["GET", "k"])).await;
    let expected = ["0: PUBLISH c m", "0: SET k v", "1: GET k"];
    assert_eq!(commands(&world), expected);
}

/// The user of the cache lost a right while the connection was kept. Without `MULTI`, the commands are executed at once.
#[tokio::test]
async fn a_transaction_that_did_not_begin_may_have_been_executed() {
    let multis = AtomicUsize::new(0);
    let world = World::new(move |_, command| match command[0] {
        "MULTI" if multis.fetch_add(1, SeqCst) >= 2 => say("-NOPERM this user has no permissions"),
        "MULTI" | "DISCARD" => say("+OK"),
        "EXEC" if multis.load(SeqCst) > 2 => say("-ERR EXEC without MULTI"),
        "EXEC" => Act::Say(b"*1\r\n:1\r\n".to_vec()),
        _ => say(":1"),
    })
    .await;
    let function = world.function();
    let commands = json!([["INCR", "k"]]);
    assert_eq!(post(&function, "/multi-exec", &commands).await.0, 200);
    let (status, body) = post(&function, "/multi-exec", &commands).await;
    assert_eq!(
        (status, error(&body).split(' ').next()),
        (504, Some("UNKNOWN"))
    );
    let (status, body) = post(&function, "/multi-exec", &commands).await;
    assert_eq!(
        (status, error(&body).split(' ').next()),
        (400, Some("EXECABORT"))
    );
    let last = world.take_heard().pop();
    assert_eq!(last, Some((1, "MULTI".to_owned())));
}

/// A replica publishes, and a script may have done something. Another write's own error is no proof that nothing was done.
#[tokio::test]
async fn what_may_have_done_something_is_not_sent_again() {
    for (other, answer) in [
        (json!(["PUBLISH", "c", "m"]), ":1"),
        (json!(["EVAL", "s", 0]), READONLY),
        (json!(["INCR", "k"]), ":1"),
        (
            json!(["INCR", "k"]),
            "-ERR value is not an integer or out of range",
        ),
    ] {
        let mut world = World::new(move |_, command| match command[0] {
            "SET" => say(READONLY),
            _ => say(answer),
        })
        .await;
        world.set("ALLOW_SCRIPTS", true);
        let (status, body) = post(
            &world.function(),
            "/pipeline",
            &json!([["SET", "k", "v"], other]),
        )
        .await;
        assert_eq!(status, 200);
        assert!(error(&body[0]).starts_with("READONLY "));
        assert_eq!(commands(&world).len(), 2, "{other}");
    }
}

#[tokio::test]
async fn a_transaction_that_a_replica_discards_goes_to_the_primary() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (_, "MULTI" | "DISCARD") => say("+OK"),
        (0, "SET") => say(READONLY),
        (0, "EXEC") => say("-EXECABORT Transaction discarded because of previous errors."),
        (_, "EXEC") => say("*1\r\n+OK"),
        _ => say("+QUEUED"),
    })
    .await;
    let reply = post(
        &world.function(),
        "/multi-exec",
        &json!([["SET", "k", "v"]]),
    )
    .await;
    assert_eq!(reply, (200, json!([{"result": "OK"}])));
}

/// Nothing of the transaction was sent. The first `MULTI` only asks whether there may be one.
#[tokio::test]
async fn a_transaction_whose_connection_is_lost_before_it_begins_is_sent_over_another() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0, "MULTI") | (1, "DISCARD") => Act::Close(Vec::new()),
        (_, "MULTI" | "DISCARD") => say("+OK"),
        (_, "EXEC") => say("*1\r\n:1"),
        _ => say("+QUEUED"),
    })
    .await;
    let reply = post(&world.function(), "/multi-exec", &json!([["INCR", "k"]])).await;
    assert_eq!(reply, (200, json!([{"result": 1}])));
    let heard = commands(&world);
    assert_eq!(
        heard
            .iter()
            .filter(|command| command.ends_with("INCR k"))
            .count(),
        1,
        "{heard:?}"
    );
}

/// The user of the cache may send `MULTI` and not `EXEC`. A refused `EXEC` executes nothing.
#[tokio::test]
async fn a_transaction_whose_end_is_refused_was_not_executed() {
    let world = World::new(|_, command| match command[0] {
        "MULTI" | "DISCARD" => say("+OK"),
        "EXEC" => say("-NOPERM this user has no permissions to run the 'exec' command"),
        _ => say("+QUEUED"),
    })
    .await;
    let (status, body) = post(&world.function(), "/multi-exec", &json!([["INCR", "k"]])).await;
    assert_eq!(status, 400);
    let expected = "EXECABORT the transaction was not executed: NOPERM ";
    assert!(error(&body).starts_with(expected), "{body}");
}

/// The second reply would be taken for that to `DISCARD`, and all behind it for others.
#[tokio::test]
async fn a_reply_too_many_behind_multi_ends_the_connection() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0, "MULTI") => Act::Say(b"+OK\r\n+OK\r\n".to_vec()),
        (_, "MULTI" | "DISCARD") => say("+OK"),
        (_, "EXEC") => Act::Say(b"*1\r\n:1\r\n".to_vec()),
        _ => say("+QUEUED"),
    })
    .await;
    let reply = post(&world.function(), "/multi-exec", &json!([["INCR", "k"]])).await;
    assert_eq!(reply, (200, json!([{"result": 1}])));
    let heard = commands(&world);
    assert_eq!(heard[..2], ["0: MULTI", "1: MULTI"]);
}

/// The user of the cache may send `MULTI` and not `DISCARD`, so the connection would queue what comes next.
#[tokio::test]
async fn a_connection_that_is_left_in_a_transaction_is_not_used_again() {
    let world = World::new(|_, command| match command[0] {
        "DISCARD" => say("-NOPERM this user has no permissions to run the 'discard' command"),
        _ => say("+OK"),
    })
    .await;
    let function = world.function();
    let (status, body) = post(&function, "/multi-exec", &json!([["INCR", "k"]])).await;
    assert_eq!((status, &error(&body)[..10]), (400, "EXECABORT "));
    post(&function, "/", &json!(["GET", "k"])).await;
    assert_eq!(commands(&world), ["0: MULTI", "0: DISCARD", "1: GET k"]);
}

#[tokio::test]
async fn a_transaction_without_a_reply_is_not_sent_again() {
    let world = World::new(|_, command| match command[0] {
        "MULTI" | "DISCARD" => say("+OK"),
        "EXEC" => Act::Close(b"*1".to_vec()),
        _ => say("+QUEUED"),
    })
    .await;
    let (status, body) = post(&world.function(), "/multi-exec", &json!([["INCR", "k"]])).await;
    assert_eq!((status, &error(&body)[..8]), (504, "UNKNOWN "));
    let heard = commands(&world);
    assert_eq!(
        heard
            .iter()
            .filter(|command| command.ends_with("EXEC"))
            .count(),
        1,
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_node_that_loads_its_data_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let world = World::new(move |_, _| match asked.fetch_add(1, SeqCst) {
        0 => say("-LOADING Redis is loading the dataset in memory"),
        1 => {
            say("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
        }
        _ => say(":1"),
    })
    .await;
    let reply = post(&world.function(), "/", &json!(["INCR", "k"])).await;
    assert_eq!(reply, (200, json!({"result": 1})));
    assert_eq!(commands(&world).len(), 3);
}

#[tokio::test]
async fn a_node_that_goes_on_loading_is_unreachable() {
    let mut world = World::new(|_, _| say("-LOADING Redis is loading the dataset in memory")).await;
    world.set("TIMEOUT_MS", 300);
    let begin = Instant::now();
    let (status, body) = post(&world.function(), "/", &json!(["INCR", "k"])).await;
    assert!(begin.elapsed() < Duration::from_millis(600));
    assert_eq!(status, 503);
    assert_eq!(
        error(&body),
        "UNREACHABLE LOADING Redis is loading the dataset in memory; nothing was done, so send it again"
    );
    // At once, after 50 ms and after another 100 ms. The next wait of 200 ms would be too long.
    assert!(commands(&world).len() <= 3);
}

/// Its first command was refused, and its second may have been executed.
#[tokio::test]
async fn a_pipeline_of_which_a_part_is_unknown_is_unknown() {
    let world = World::new(|_, command| match command[1] {
        "a" => say("-LOADING Redis is loading the dataset in memory"),
        _ => Act::Close(Vec::new()),
    })
    .await;
    let pipeline = json!([["INCR", "a"], ["INCR", "b"]]);
    let (status, body) = post(&world.function(), "/pipeline", &pipeline).await;
    assert_eq!(
        (status, error(&body).split(' ').next()),
        (504, Some("UNKNOWN"))
    );
    assert_eq!(commands(&world), ["0: INCR a", "0: INCR b"]);
}

/// One of its commands was executed, so none is sent again.
#[tokio::test]
async fn a_node_that_begins_to_load_is_not_waited_for() {
    let world = World::new(|_, command| match command[1] {
        "a" => say(":1"),
        _ => say("-LOADING Redis is loading the dataset in memory"),
    })
    .await;
    let pipeline = json!([["INCR", "a"], ["INCR", "b"]]);
    let (status, body) = post(&world.function(), "/pipeline", &pipeline).await;
    assert_eq!((status, &body[0]), (200, &json!({"result": 1})));
    assert!(error(&body[1]).starts_with("UNREACHABLE "), "{body}");
    assert_eq!(commands(&world), ["0: INCR a", "0: INCR b"]);
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_is_not_sent_again() {
    for lost in [
        Act::Close(Vec::new()),
        Act::Close(b":".to_vec()),
        say("?garbage"),
    ] {
        let lost_here = lost.clone();
        let world = World::new(move |_, _| lost_here.clone()).await;
        let (status, body) = post(&world.function(), "/", &json!(["INCR", "k"])).await;
        assert_eq!(status, 504, "{lost:?}");
        assert!(error(&body).starts_with("UNKNOWN "), "{body}");
        assert!(
            error(&body).ends_with("; the command may have been executed"),
            "{body}"
        );
        assert_eq!(commands(&world).len(), 1);
    }
}

#[tokio::test]
async fn a_read_whose_reply_is_lost_is_sent_once_more() {
    let world = World::new(|connection, _| match connection {
        0 => Act::Close(b"$5\r\nab".to_vec()),
        _ => say("$2\r\nab"),
    })
    .await;
    let reply = post(&world.function(), "/", &json!(["GET", "k"])).await;
    assert_eq!(reply, (200, json!({"result": "ab"})));
    let world = World::new(|_, _| Act::Close(Vec::new())).await;
    assert_eq!(
        post(&world.function(), "/", &json!(["GET", "k"])).await.0,
        504
    );
    assert_eq!(commands(&world).len(), 2);
}

/// It would be too big again.
#[tokio::test]
async fn a_reading_pipeline_over_the_limit_is_not_sent_again() {
    let mut world = World::new(|_, command| match command[1] {
        "big" => Act::Say(format!("$2000\r\n{}\r\n", "x".repeat(2000)).into_bytes()),
        _ => say(":1"),
    })
    .await;
    world.set("MAX_REPLY_BYTES", 1024);
    let pipeline = json!([["GET", "a"], ["GET", "big"], ["GET", "c"]]);
    let (status, body) = post(&world.function(), "/pipeline", &pipeline).await;
    assert_eq!((status, &body[0]), (200, &json!({"result": 1})));
    let codes = [&body[1], &body[2]].map(|reply| error(reply).split(' ').next().unwrap());
    assert_eq!(codes, ["TOOBIG", "UNKNOWN"]);
    assert!(
        commands(&world)
            .iter()
            .all(|command| command.starts_with("0: "))
    );
}

#[tokio::test]
async fn of_a_pipeline_that_is_cut_the_replies_that_came_count() {
    let world = World::new(|_, command| match command[1] {
        "b" => Act::Close(b":".to_vec()),
        _ => say(":1"),
    })
    .await;
    let pipeline = json!([["INCR", "a"], ["INCR", "b"], ["INCR", "c"]]);
    let (status, body) = post(&world.function(), "/pipeline", &pipeline).await;
    assert_eq!((status, &body[0]), (200, &json!({"result": 1})));
    for reply in [&body[1], &body[2]] {
        assert!(error(reply).starts_with("UNKNOWN "), "{reply}");
    }
    let heard = commands(&world);
    assert!(
        heard.iter().all(|command| command.starts_with("0: ")),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_pipeline_without_any_reply_fails_as_a_whole() {
    let world = World::new(|_, _| Act::Close(Vec::new())).await;
    let (status, body) = post(
        &world.function(),
        "/pipeline",
        &json!([["INCR", "a"], ["INCR", "b"]]),
    )
    .await;
    assert_eq!(status, 504);
    assert!(error(&body).starts_with("UNKNOWN "));
}

/// A later reply must not be taken for the one that did not come.
#[tokio::test]
async fn a_cache_that_does_not_answer_in_time_loses_its_connection() {
    let mut world = World::new(|connection, command| match (connection, command[1]) {
        (0, "a") => Act::Hang,
        (_, key) => say(&format!("+{key}")),
    })
    .await;
    world.set("TIMEOUT_MS", 200);
    let function = world.function();
    let begin = Instant::now();
    let (status, body) = post(&function, "/", &json!(["GETDEL", "a"])).await;
    assert!(
        (200..400).contains(&begin.elapsed().as_millis()),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(status, 504);
    assert_eq!(
        error(&body),
        "UNKNOWN the cache did not answer in time; the command may have been executed"
    );
    let reply = post(&function, "/", &json!(["GETDEL", "b"])).await;
    assert_eq!(reply, (200, json!({"result": "b"})));
    assert_eq!(commands(&world), ["0: GETDEL a", "1: GETDEL b"]);
}

/// A reply that belongs to no command must not be taken for that to the next one, which may be another client's.
#[tokio::test]
async fn a_reply_too_many_is_nobodys() {
    for pause in [0, 50] {
        let world = World::new(move |_, command| match command[1] {
            "a" => Act::Say(b"+a\r\n+nobody's\r\n".to_vec()),
            key => say(&format!("+{key}")),
        })
        .await;
        let function = world.function();
        for key in ["a", "b"] {
            let reply = post(&function, "/", &json!(["GETDEL", key])).await;
            assert_eq!(reply, (200, json!({"result": key})));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(commands(&world), ["0: GETDEL a", "1: GETDEL b"]);
    }
}

/// A node that lost its power says nothing, not even no. The endpoint is resolved again long before the time is over.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_is_not_waited_for_until_the_end() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let node = socket.listen(1).unwrap();
    let address = node.local_addr().unwrap();
    // Nobody accepts these, and no other one fits in the queue.
    let waiting = [(); 4].map(|()| TcpStream::connect(address));
    let waiting = spawn(async {
        let [a, b, c, d] = waiting;
        tokio::join!(a, b, c, d)
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let gone = spawn(async move {
        tokio::time::sleep(Duration::from_millis(2010)).await;
        waiting.abort();
        drop(node);
    });
    let variables = variables(address);
    let function = Function::new(|name| variables.get(name).cloned());
    let begin = tokio::time::Instant::now();
    let (status, body) = post(&function, "/", &json!(["INCR", "k"])).await;
    assert_eq!(status, 503);
    let refused = format!("UNREACHABLE cannot connect to {address}: Connection refused");
    assert!(error(&body).starts_with(&refused), "{body}");
    assert!(begin.elapsed() > Duration::from_secs(4));
    gone.await.unwrap();
}

#[tokio::test]
async fn a_cache_that_nobody_reaches_is_tried_until_the_time_is_over() {
    let mut world = World::new(|_, _| say("+OK")).await;
    world.set("PORT", 1);
    world.set("TIMEOUT_MS", 300);
    let (status, body) = post(&world.function(), "/", &json!(["INCR", "k"])).await;
    assert_eq!(status, 503);
    let said = error(&body);
    assert!(
        said.starts_with("UNREACHABLE cannot connect to 127.0.0.1:1: "),
        "{said}"
    );
    assert!(
        said.ends_with("; nothing was done, so send it again"),
        "{said}"
    );
}

/// The cache closed the connection while nothing was sent. A write that finds it so is sent over a new one.
#[tokio::test]
async fn a_connection_that_the_cache_closed_is_made_anew_for_a_write() {
    let world = World::new(|connection, command| match (connection, command[0]) {
        (0, "GET") => Act::Close(b"+OK\r\n".to_vec()),
        _ => say(":1"),
    })
    .await;
    let function = world.function();
    assert_eq!(post(&function, "/", &json!(["GET", "k"])).await.0, 200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reply = post(&function, "/", &json!(["INCR", "k"])).await;
    assert_eq!(reply, (200, json!({"result": 1})));
    assert_eq!(commands(&world), ["0: GET k", "1: INCR k"]);
}

/// Lets a connection idle, as in a frozen sandbox.
async fn idle() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_that_idled_is_tried_before_it_is_used() {
    for (answer, expected) in [
        (say("+PONG"), vec!["0: GET k", "0: PING", "0: INCR k"]),
        (Act::Hang, vec!["0: GET k", "0: PING", "1: INCR k"]),
        (
            Act::Say(b"+PONG\r\n:2\r\n".to_vec()),
            vec!["0: GET k", "0: PING", "1: INCR k"],
        ),
        (
            Act::Say(b"-NOPERM no ping\r\n:2\r\n".to_vec()),
            vec!["0: GET k", "0: PING", "1: INCR k"],
        ),
        (
            say("-NOPERM no ping"),
            vec!["0: GET k", "0: PING", "0: INCR k"],
        ),
        (
            Act::Close(Vec::new()),
            vec!["0: GET k", "0: PING", "1: INCR k"],
        ),
    ] {
        let world = World::new(move |_, command| match command[0] {
            "PING" => answer.clone(),
            _ => say(":1"),
        })
        .await;
        let function = world.function();
        post(&function, "/", &json!(["GET", "k"])).await;
        idle().await;
        let begin = Instant::now();
        let reply = post(&function, "/", &json!(["INCR", "k"])).await;
        assert_eq!(reply, (200, json!({"result": 1})));
        assert!(begin.elapsed() < Duration::from_millis(700));
        assert_eq!(commands(&world), expected);
    }
}

#[tokio::test]
async fn replies_over_the_limit_are_cut_and_the_ones_before_count() {
    let mut world = World::new(|_, command| match command[1] {
        "big" => Act::Say(format!("$100000\r\n{}\r\n", "x".repeat(100_000)).into_bytes()),
        "full" => Act::Say(format!("$1015\r\n{}\r\n", "x".repeat(1015)).into_bytes()),
        "over" => Act::Say(format!("$1016\r\n{}\r\n", "x".repeat(1016)).into_bytes()),
        _ => say(":1"),
    })
    .await;
    world.set("MAX_REPLY_BYTES", 1024);
    let function = world.function();
    let pipeline = json!([["INCR", "a"], ["GETDEL", "big"], ["INCR", "c"]]);
    let (status, body) = post(&function, "/pipeline", &pipeline).await;
    assert_eq!((status, &body[0]), (200, &json!({"result": 1})));
    assert!(
        error(&body[1]).starts_with("TOOBIG the replies have more than 1024 bytes"),
        "{body}"
    );
    assert!(error(&body[2]).starts_with("UNKNOWN "), "{body}");
    let (status, body) = post(&function, "/", &json!(["GET", "big"])).await;
    assert_eq!((status, &error(&body)[..6]), (413, "TOOBIG"));
    // The whole reply has 1,024 bytes.
    for _ in 0..2 {
        assert_eq!(post(&function, "/", &json!(["GET", "full"])).await.0, 200);
    }
    let heard = commands(&world);
    assert_eq!(heard[heard.len() - 2..], ["2: GET full", "2: GET full"]);
    // One byte more.
    let (status, body) = post(&function, "/", &json!(["GET", "over"])).await;
    assert_eq!((status, &error(&body)[..6]), (413, "TOOBIG"));
    // The limit is that of all replies together.
    let (status, body) = post(
        &function,
        "/pipeline",
        &json!([["GET", "k"], ["GET", "full"]]),
    )
    .await;
    assert_eq!((status, &body[0]), (200, &json!({"result": 1})));
    assert!(error(&body[1]).starts_with("TOOBIG "), "{body}");
}

#[tokio::test]
async fn a_cache_with_several_shards_is_said_to_be_one() {
    for code in ["MOVED", "ASK"] {
        let world = World::new(move |_, _| say(&format!("-{code} 3999 127.0.0.1:6381"))).await;
        let (status, body) = post(&world.function(), "/", &json!(["GET", "k"])).await;
        assert_eq!(status, 400);
        let expected = format!("ERR {code} 3999 127.0.0.1:6381: this cache has several shards");
        assert!(error(&body).starts_with(&expected), "{body}");
    }
}
