//! A transaction is sent as plain `MULTI … EXEC`, so that the reply to each command is seen when it is queued.

use redis::{Cmd, Value, cmd};

use super::connection::{Reply, reply_of};
use crate::error::Error;

/// Puts the commands between `MULTI` and `EXEC`.
pub fn enclose(commands: Vec<Cmd>) -> Vec<Cmd> {
    let mut enclosed = vec![cmd("MULTI")];
    enclosed.extend(commands);
    enclosed.push(cmd("EXEC"));
    enclosed
}

/// Takes the replies of the commands out of those of the transaction.
///
/// # Errors
/// Fails if the transaction was discarded, if it is not known whether it was executed, or if its replies are too big.
pub fn disclose(mut replies: Vec<Reply>) -> Result<Vec<Reply>, Error> {
    let executed = replies.pop().unwrap_or_else(|| Err(unreadable()));
    let mut replies = replies.into_iter();
    if let Some(Err(Error::Cache { code, .. })) = replies.next() {
        // Without it, the cache executes the commands behind it one by one.
        return Err(Error::Unknown(format!("the cache refused MULTI: {code}")));
    }
    let queued = replies.zip(1..);
    let mut refused = queued.filter_map(|(reply, number)| Some((reply.err()?, number)));
    match executed {
        Ok(Value::Array(values)) => Ok(values.into_iter().map(reply_of).collect()),
        Ok(_) => Err(unreadable()),
        Err(Error::Cache { code, message }) if code == "EXECABORT" => Err(match refused.next() {
            Some((error @ (Error::ReadOnly(_) | Error::Unreachable(_)), _)) => error,
            Some((error, number)) => Error::ExecAbort(format!(
                "the transaction was discarded because of its command {number}: {} {error}",
                error.code()
            )),
            None => discarded(message),
        }),
        // The transaction was begun, and EXEC was not executed.
        Err(error @ Error::Cache { .. }) => Err(Error::ExecAbort(format!(
            "the transaction was not executed: {} {error}",
            error.code()
        ))),
        Err(error) => Err(error),
    }
}

/// If the node became a replica after it had queued the commands, it says so in the reply to `EXEC`.
/// <https://github.com/redis/redis/blob/7.4.1/src/multi.c>, `execCommandAbort`.
fn discarded(message: String) -> Error {
    let because = message.split_once("because of: ");
    let because = because.and_then(|(_, because)| because.split_once(' '));
    match because.map(|(code, text)| Error::of_cache(code, Some(text))) {
        Some(error @ (Error::ReadOnly(_) | Error::Unreachable(_))) => error,
        _ => Error::ExecAbort(message),
    }
}

fn unreadable() -> Error {
    Error::Unknown("the reply to the transaction cannot be read".to_owned())
}
