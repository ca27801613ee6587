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
    let queued = replies.into_iter().skip(1).zip(1..);
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
            None => Error::ExecAbort(message),
        }),
        // The transaction was begun, and EXEC was not executed.
        Err(error @ Error::Cache { .. }) => Err(Error::ExecAbort(format!(
            "the transaction was not executed: {} {error}",
            error.code()
        ))),
        Err(error) => Err(error),
    }
}

fn unreadable() -> Error {
    Error::Unknown("the reply to the transaction cannot be read".to_owned())
}
