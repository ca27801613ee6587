//! Which commands may be sent, and by whom.

use std::collections::BTreeSet;

use front_door::commands::{Kind, Permission, Role, TABLE};
use front_door::error::Error;
use front_door::request::Command;

fn command(words: &str) -> Command {
    Command::new(
        words
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect(),
    )
    .unwrap()
}

fn all() -> Permission {
    Permission {
        are_scripts_allowed: true,
        ..Permission::default()
    }
}

#[test]
fn the_table_is_in_order_and_has_each_command_once() {
    let names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn a_reader_reads_and_a_writer_writes_too() {
    let kinds = |role| {
        [
            "GET k",
            "ping",
            "hGetAll k",
            "SET k v",
            "PUBLISH c m",
            "XGROUP CREATE k g $",
            "EVAL s 0",
        ]
        .map(|words| all().check(role, &command(words)).ok())
    };
    use Kind::{Publish, Read, Script, Write};
    let read = Some(Read);
    assert_eq!(
        kinds(Role::Reader),
        [read, read, read, None, None, None, None]
    );
    let more = [Write, Publish, Write, Script].map(Some);
    assert_eq!(
        kinds(Role::Writer),
        [read, read, read, more[0], more[1], more[2], more[3]]
    );
}

/// These alter the connection, which others share, wait, or reach further than their keys.
#[test]
fn what_is_not_in_the_table_is_refused() {
    for words in [
        "AUTH p",
        "HELLO 3",
        "RESET",
        "SELECT 1",
        "CLIENT KILL x",
        "CLIENT SETINFO LIB-NAME x",
        "MULTI",
        "EXEC",
        "DISCARD",
        "WATCH k",
        "UNWATCH",
        "SUBSCRIBE c",
        "SSUBSCRIBE c",
        "PSUBSCRIBE c",
        "MONITOR",
        "WAIT 1 0",
        "WAITAOF 1 0 0",
        "QUIT",
        "KEYS *",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "CONFIG GET *",
        "DEBUG SLEEP 1",
        "ACL WHOAMI",
        "BLPOP k 0",
        "BLMOVE a b LEFT LEFT 0",
        "SORT k",
        "SORT_RO k",
        "RESTORE k 0 v",
        "MIGRATE h 1 k 0 0",
        "SHUTDOWN",
        "REPLICAOF a 1",
        "FAILOVER",
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "FUNCTION LOAD x",
        "OBJECT HELP",
        "OBJECT",
        "XINFO HELP",
        "XGROUP",
        "MEMORY DOCTOR",
        "MEMORY",
        "PUBSUB CHANNELS",
        "CLUSTER INFO",
        "INFO",
        "ROLE",
        "COMMAND",
        "MODULE LIST",
        "LATENCY RESET",
        "READONLY",
        "ASKING",
        "PFDEBUG x",
        "PSYNC a b",
        "SPUBLISH c m",
        "GET|SET k",
        "OBJECT|ENCODING k",
        "",
        "GET\0 k",
        "GÉT k",
        "get  k nothing",
        "FT.SEARCH i q",
    ] {
        let refused = all().check(Role::Writer, &command(words));
        match (words, refused) {
            // Its name is GET, and the cache refuses the number of arguments.
            ("get  k nothing", Ok(Kind::Read)) => (),
            (_, Err(Error::NoPerm(_))) => (),
            (_, another) => panic!("{words:?}: {another:?}"),
        }
    }
}

#[test]
fn xread_does_not_wait_and_a_key_may_be_named_block() {
    let is_allowed = |words| all().check(Role::Writer, &command(words)).is_ok();
    for words in [
        "XREAD STREAMS block 0",
        "XREAD COUNT 2 STREAMS block BLOCK 0 0",
        "xread count block streams a 0",
        "XREADGROUP GROUP block BLOCK STREAMS a >",
        "XREADGROUP GROUP g c NOACK STREAMS block >",
    ] {
        assert!(is_allowed(words), "{words}");
    }
    for words in [
        "XREAD BLOCK 0 STREAMS a 0",
        "XREAD COUNT 2 block 0 STREAMS a 0",
        "XREADGROUP GROUP g c BLOCK 1 STREAMS a >",
        "XREADGROUP BLOCK 1 GROUP g c STREAMS a >",
        "XREAD NOACK BLOCK 0 STREAMS a 0",
    ] {
        assert!(!is_allowed(words), "{words}");
    }
}

#[test]
fn a_deployment_narrows_the_table_and_widens_nothing() {
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let permission = Permission {
        allowed: Some(set(&["GET", "SET", "XGROUP", "OBJECT|FREQ", "EVAL", "DEL"])),
        denied: set(&["DEL", "XGROUP|DESTROY"]),
        are_scripts_allowed: false,
    };
    let allowed = [
        "GET k",
        "SET k v",
        "XGROUP CREATE k g $",
        "OBJECT FREQ k",
        "XGROUP DESTROY k g",
        "OBJECT ENCODING k",
        "EVAL s 0",
        "DEL k",
        "HGET k f",
        "FLUSHALL",
    ]
    .map(|words| permission.check(Role::Writer, &command(words)).is_ok());
    assert_eq!(
        allowed,
        [
            true, true, true, true, false, false, false, false, false, false
        ]
    );
}

/// A client may send anything as a name, even something that is secret.
#[test]
fn a_refusal_names_the_command_and_cuts_it() {
    let refused = |words: &str| {
        all()
            .check(Role::Reader, &command(words))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("set k v"),
        "SET changes the cache, and this client may only read"
    );
    assert_eq!(
        refused("FLUSHALL"),
        "FLUSHALL is not a command that the front door sends"
    );
    let long = refused(&"x".repeat(1_000_000));
    assert!(long.len() < 100, "{long}");
    assert!(refused("a\nb\u{7f}").starts_with("A?B? "));
}
