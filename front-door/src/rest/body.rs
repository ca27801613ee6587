//! Reads the body of a request: arrays of JSON.

use serde_json::value::RawValue;

use crate::error::Error;
use crate::request::Command;

/// Reads one command: `["SET", "key", 1]`.
///
/// # Errors
/// [`Error::Malformed`] if it is anything else.
pub fn command(body: &[u8]) -> Result<Command, Error> {
    const EXPECTED: &str = "the body has to be a command, such as [\"GET\", \"key\"]";
    let parts: Vec<&RawValue> = parsed(body, EXPECTED)?;
    let parts = parts.into_iter().map(part);
    Command::new(parts.collect::<Result<_, _>>()?)
}

/// Reads several commands: `[["GET", "key"], ["DEL", "key"]]`.
///
/// # Errors
/// [`Error::Malformed`] if it is anything else.
pub fn commands(body: &[u8]) -> Result<Vec<Command>, Error> {
    const EXPECTED: &str =
        "the body has to be commands, such as [[\"GET\", \"key\"], [\"DEL\", \"key\"]]";
    let commands: Vec<&RawValue> = parsed(body, EXPECTED)?;
    let commands = commands.into_iter();
    commands.map(|one| command(one.get().as_bytes())).collect()
}

fn parsed<'a>(body: &'a [u8], expected: &str) -> Result<Vec<&'a RawValue>, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Malformed(format!("{expected}: {error}")))
}

/// A number keeps its text, because a cache stores texts, and 1.10 is not 1.1.
fn part(part: &RawValue) -> Result<Vec<u8>, Error> {
    let text = part.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|error| {
                Error::Malformed(format!("an argument is not text in UTF-8: {error}"))
            })?;
            Ok(text.into_bytes())
        }
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => Ok(text.as_bytes().to_vec()),
        _ => Err(Error::Malformed(
            "an argument has to be a text, a number, true or false".to_owned(),
        )),
    }
}
