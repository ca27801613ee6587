//! A request: commands that are sent together.

use crate::config::Limits;
use crate::error::Error;

/// One command, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The name as the client wrote it.
    pub name: Vec<u8>,
    pub arguments: Vec<Vec<u8>>,
    label: String,
}

/// Commands that are sent together over one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// There is at least one.
    pub commands: Vec<Command>,
    /// The commands are a transaction: all of them or none.
    pub is_atomic: bool,
}

impl Request {
    /// Makes a request.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there are no commands. [`Error::TooBig`] if there are more than the limits allow.
    pub fn new(commands: Vec<Command>, is_atomic: bool, limits: &Limits) -> Result<Self, Error> {
        match commands.len() {
            0 => Err(Error::Malformed("the request has no command".to_owned())),
            count if count > limits.commands => Err(Error::TooBig(format!(
                "the request has {count} commands: at most {} are allowed",
                limits.commands
            ))),
            _ => Ok(Request {
                commands,
                is_atomic,
            }),
        }
    }
}

impl Command {
    /// Makes a command from its parts, of which the first is the name.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there are no parts.
    pub fn new(parts: Vec<Vec<u8>>) -> Result<Self, Error> {
        let mut parts = parts.into_iter();
        let name = parts.next();
        let name = name.ok_or_else(|| Error::Malformed("a command has no name".to_owned()))?;
        Ok(Command {
            label: printable(&name),
            name,
            arguments: parts.collect(),
        })
    }

    /// The name in upper case, for comparing and for the log. Bytes that are not printable become `?`: a client may
    /// send anything as a name.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The argument in upper case, which is the name of a subcommand.
    pub fn subcommand(&self) -> Option<String> {
        self.arguments.first().map(|argument| printable(argument))
    }
}

/// Also cuts, so that a name of a megabyte does not come back in a message or stand in the log.
fn printable(name: &[u8]) -> String {
    const LONGEST: usize = 40;
    let shown = name.iter().take(LONGEST);
    let shown = shown.map(|byte| match byte {
        b'!'..=b'~' => byte.to_ascii_uppercase() as char,
        _ => '?',
    });
    let rest = if name.len() > LONGEST { "…" } else { "" };
    shown.collect::<String>() + rest
}
