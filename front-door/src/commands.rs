//! Says which commands may be sent, and by whom. What is not in the table is refused.

mod table;

use std::collections::BTreeSet;

pub use table::TABLE;

use crate::error::Error;
use crate::request::Command;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    /// A message that was sent to subscribers cannot be taken back, and a replica accepts it.
    Publish,
    /// It does anything.
    Script,
}

/// Who sends commands. Each role has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Reader,
    Writer,
}

/// Which commands of the table this deployment allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permission {
    /// `None` allows the whole table.
    pub allowed: Option<BTreeSet<String>>,
    /// These are refused, even if they are allowed too.
    pub denied: BTreeSet<String>,
    pub are_scripts_allowed: bool,
}

impl Permission {
    /// Returns what the command does.
    ///
    /// # Errors
    /// [`Error::NoPerm`] if the command is not in the table, not allowed here, not allowed to this role, or would wait.
    pub fn check(&self, role: Role, command: &Command) -> Result<Kind, Error> {
        let label = command.label();
        let refused = |why: &str| Err(Error::NoPerm(format!("{label} {why}")));
        let Some((name, kind)) = look_up(command) else {
            return refused("is not a command that the front door sends");
        };
        let is_named = |names: &BTreeSet<String>| {
            let container = name.split('|').next().unwrap_or(name);
            names.contains(name) || names.contains(container)
        };
        if is_named(&self.denied) || !self.allowed.as_ref().is_none_or(is_named) {
            return refused("is switched off in this deployment");
        }
        if kind == Kind::Script && !self.are_scripts_allowed {
            return refused("is a script, and scripts are switched off in this deployment");
        }
        if role == Role::Reader && kind != Kind::Read {
            return refused("changes the cache, and this client may only read");
        }
        if blocks(name, &command.arguments) {
            return refused("would wait with BLOCK, which the front door does not");
        }
        Ok(kind)
    }
}

/// Returns true if the table has the command. A container such as `XGROUP` stands for its subcommands.
pub fn is_known(name: &str) -> bool {
    let is_same = |known: &str| known == name || known.split('|').next() == Some(name);
    TABLE.iter().any(|(known, _)| is_same(known))
}

/// Returns the command's name in the table, if it is there.
pub fn name_in_table(command: &Command) -> Option<&'static str> {
    look_up(command).map(|(name, _)| name)
}

/// The command's name in the table. A subcommand is `CONTAINER|SUBCOMMAND` there.
fn look_up(command: &Command) -> Option<(&'static str, Kind)> {
    let label = command.label();
    if label.contains('|') {
        return None;
    }
    let found = |name: &str| {
        let index = TABLE.binary_search_by_key(&name, |(known, _)| known);
        index.ok().map(|index| TABLE[index])
    };
    let subcommand = || command.subcommand().map(|one| format!("{label}|{one}"));
    found(label).or_else(|| found(&subcommand()?))
}

/// `XREAD` and `XREADGROUP` read their options in this way, up to `STREAMS`:
/// <https://github.com/redis/redis/blob/7.4.1/src/t_stream.c>, `xreadCommand`. A key may be named `block`.
fn blocks(name: &str, arguments: &[Vec<u8>]) -> bool {
    if !name.starts_with("XREAD") {
        return false;
    }
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"BLOCK" => return true,
            b"STREAMS" => return false,
            b"COUNT" => _ = arguments.next(),
            b"GROUP" => _ = arguments.nth(1),
            _ => (),
        }
    }
    false
}
