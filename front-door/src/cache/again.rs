//! Decides what comes after an attempt. A request is sent again only if nothing of it was done, or if it only reads.

use super::connection::Reply;
use crate::commands::Kind;
use crate::error::Error;

/// What comes after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The replies are the answer.
    Answer,
    /// The node is a replica, and has done nothing. The primary is elsewhere.
    FindPrimary,
    /// The node is loading its data, or waits for its primary. It has done nothing.
    Wait,
    /// The request is lost, and may be sent once more.
    Resend,
}

/// True if the node is a replica.
pub fn is_replica(replies: &Result<Vec<Reply>, Error>) -> bool {
    let is_refused = |error: &Error| matches!(error, Error::ReadOnly(_));
    match replies {
        Ok(replies) => replies
            .iter()
            .any(|reply| reply.as_ref().is_err_and(is_refused)),
        Err(error) => is_refused(error),
    }
}

/// Says what comes after commands of these kinds were answered like this. Only a transaction fails as a whole, and then
/// nothing of it was executed, unless its reply was lost.
pub fn next(kinds: &[Kind], replies: &Result<Vec<Reply>, Error>) -> Next {
    let errors: Vec<_> = match replies {
        Ok(replies) => replies.iter().map(|reply| reply.as_ref().err()).collect(),
        Err(error) => vec![Some(error); kinds.len()],
    };
    // What is too big stays so.
    let is_too_big = |error: &Option<&Error>| matches!(error, Some(Error::TooBig(_)));
    if errors.iter().any(is_too_big) {
        return Next::Answer;
    }
    let is_unknown = |error: &Option<&Error>| matches!(error, Some(Error::Unknown(_)));
    if errors.iter().any(is_unknown) {
        return match kinds.iter().all(|kind| *kind == Kind::Read) {
            true => Next::Resend,
            false => Next::Answer,
        };
    }
    let is_waiting = |error: &Option<&Error>| matches!(error, Some(Error::Unreachable(_)));
    if errors.iter().all(is_waiting) {
        return Next::Wait;
    }
    if let Err(Error::ReadOnly(_)) = replies {
        // All of the transaction was discarded.
        return match kinds.contains(&Kind::Script) {
            true => Next::Answer,
            false => Next::FindPrimary,
        };
    }
    let is_undone = |(kind, error): (&Kind, &Option<&Error>)| match kind {
        Kind::Read => true,
        Kind::Write => matches!(error, Some(Error::ReadOnly(_))),
        // A replica publishes, and executes a script up to its first write.
        Kind::Publish | Kind::Script => false,
    };
    match is_replica(replies) && kinds.iter().zip(&errors).all(is_undone) {
        true => Next::FindPrimary,
        false => Next::Answer,
    }
}
