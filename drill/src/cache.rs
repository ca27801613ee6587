//! Says how to connect to the cache, and asks it what only a failover makes interesting.

use probe::{Client, Connection, Failure, connector};
use redis::{FromRedisValue, Value, cmd};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::arguments::Arguments;

/// The key that is written, to see whether a node accepts writes.
const KEY: &str = "drill:nlb-hostname-target";
/// The name of a connection that goes to a node past the load balancer.
const NAME: &str = "drill";
/// The key expires after this many seconds.
const EXPIRES_AFTER: u32 = 60;

/// Makes the client that the arguments describe.
///
/// # Errors
/// The server name is not a valid name, or this machine trusts no authority.
pub fn client(arguments: &Arguments) -> Result<Client, String> {
    let name = &arguments.server_name;
    let server_name = ServerName::try_from(name.clone());
    Ok(Client {
        server_name: server_name.map_err(|_| format!("{name:?} is not a server name"))?,
        tls: (!arguments.is_plaintext).then(connector).transpose()?,
        user: arguments.user.clone(),
        password: arguments.password.clone(),
    })
}

/// Writes a number.
pub async fn write(node: &mut Connection, number: u64) -> Result<(), Failure> {
    let mut set = cmd("SET");
    node.query(set.arg(KEY).arg(number).arg("EX").arg(EXPIRES_AFTER))
        .await
}

/// Returns `master` or `slave`, or nothing if the node does not say it.
pub async fn role(node: &mut Connection) -> Option<String> {
    // The rest of the answer depends on the role.
    let role: Vec<Value> = node.query(&cmd("ROLE")).await.ok()?;
    String::from_redis_value(role.into_iter().next()?).ok()
}

/// Gives the connection the name by which it is left out of [`others`].
pub async fn name(node: &mut Connection) -> Result<(), Failure> {
    node.query(cmd("CLIENT").arg("SETNAME").arg(NAME)).await
}

/// Returns how many other clients are connected to this node.
pub async fn others(node: &mut Connection) -> Result<usize, Failure> {
    let mut list = cmd("CLIENT");
    let list = list.arg("LIST").arg("TYPE").arg("normal");
    let clients: String = node.query(list).await?;
    let own = format!(" name={NAME} ");
    let others = clients.lines().filter(|client| !client.contains(&own));
    Ok(others.count())
}
