//! Does once what a client does, from TCP to a write.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::client::{Client, Connection};
use crate::failure::{Failure, Step};

/// The key of the write, which nobody has.
const KEY: &str = "drill:nlb-hostname-target";
/// The number of keys that are looked for. They are spread over the slots, so that a shard with a twentieth of the slots
/// is missed once in 500,000 times.
const KEYS: usize = 256;

/// An attempt at one address, and what came of it.
#[derive(Debug)]
pub struct Attempt {
    pub address: SocketAddr,
    /// The user who logged in, if it is not the default one.
    pub user: Option<String>,
    pub is_plaintext: bool,
    pub outcome: Result<(), Failure>,
    /// A PING without TLS if the attempt was made with TLS, and with TLS if it was made without. It is sent only if the
    /// attempt got nowhere.
    pub other_way: Option<Result<(), Failure>>,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Read,
    ReadAndWrite,
}

/// Makes an attempt, and changes nothing in the cache.
pub async fn attempt(address: SocketAddr, client: Client, work: Work) -> Attempt {
    let outcome = match client.connect(address).await {
        Ok(mut connection) => connection.work(work).await,
        Err(failure) => Err(failure),
    };
    let got_nowhere = matches!(
        outcome,
        Err(Failure::NotTls
            | Failure::Silent(Step::Handshake | Step::Command)
            | Failure::Closed(_)
            | Failure::Other(Step::Handshake, _))
    );
    let other = got_nowhere.then(|| client.other_way()).flatten();
    let other_way = match other {
        Some(other) => Some(speak(address, &other).await),
        None => None,
    };
    Attempt {
        address,
        is_plaintext: client.tls.is_none(),
        user: client.user,
        outcome,
        other_way,
    }
}

/// Sends PING before any password, to see if the other side answers this client at all.
async fn speak(address: SocketAddr, client: &Client) -> Result<(), Failure> {
    client.open(address).await?.ping().await
}

impl Connection {
    async fn work(&mut self, work: Work) -> Result<(), Failure> {
        if work == Work::ReadAndWrite {
            match self.write().await {
                // The keys show whether the node is a replica, or one shard of several.
                Ok(()) => (),
                Err(Failure::Error(code, _)) if is_redirection(&code) => (),
                Err(failure) => return Err(failure),
            }
        }
        self.look_for_keys().await
    }

    /// Writes a key only if it exists, which it does not. A cache refuses a command by its flags, whatever the command
    /// would do: <https://redis.io/docs/latest/commands/command/#flags>
    async fn write(&mut self) -> Result<(), Failure> {
        let mut set = redis::cmd("SET");
        self.query(set.arg(KEY).arg("").arg("XX")).await
    }

    /// Looks for keys in all parts of the key space.
    async fn look_for_keys(&mut self) -> Result<(), Failure> {
        let mut exists = redis::pipe();
        for number in 0..KEYS {
            exists.cmd("EXISTS").arg(format!("{KEY}:{number}"));
        }
        let mut here = 0;
        let mut elsewhere = Vec::new();
        for outcome in self.query_all(&exists).await? {
            match outcome {
                Ok(()) => here += 1,
                Err(Failure::Error(code, message)) if is_redirection(&code) => {
                    elsewhere.push(message);
                }
                Err(failure) => return Err(failure),
            }
        }
        judge_redirections(here, &elsewhere)
    }
}

fn is_redirection(code: &str) -> bool {
    matches!(code, "MOVED" | "ASK")
}

/// Judges where the keys are: a number of them is here, and for the others the cache names a node, as in
/// `MOVED 3999 10.0.1.7:6379`. A replica in cluster mode sends its clients to its primary, and has no key.
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection>
fn judge_redirections(here: usize, elsewhere: &[String]) -> Result<(), Failure> {
    let Some(first) = elsewhere.first() else {
        return Ok(());
    };
    let nodes = elsewhere.iter().map(|message| message.split(' ').nth(2));
    let shards = BTreeSet::from_iter(nodes).len() + usize::from(here > 0);
    Err(match shards {
        1 => Failure::Error("READONLY".to_owned(), first.clone()),
        _ => {
            let message =
                format!("the cache has at least {shards} shards in cluster mode: {first}");
            Failure::Error("MOVED".to_owned(), message)
        }
    })
}
