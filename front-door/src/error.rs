//! Lists how a request or one of its commands can fail. Each error has a stable code for programs, a message for people,
//! and a status for HTTP.

/// Why a request or a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// A variable is missing or malformed, or the cache asks for something else. The text names it and what was expected.
    #[error("{0}")]
    InvalidConfig(String),
    #[error("there is nothing at this path: commands go to /, /pipeline and /multi-exec")]
    NotFound,
    #[error("commands are sent with POST")]
    MethodNotAllowed,
    /// The token is missing or wrong.
    #[error("{0}")]
    WrongPass(&'static str),
    /// The command is not allowed, or not to this role.
    #[error("{0}")]
    NoPerm(String),
    /// The request or its reply is over its limit.
    #[error("{0}")]
    TooBig(String),
    /// Nothing was sent, or the cache has done nothing of it.
    #[error("{0}; nothing was done, so send it again")]
    Unreachable(String),
    /// The command was sent and not answered.
    #[error("{0}; the command may have been executed")]
    Unknown(String),
    /// The cache is still a replica after a new connection.
    #[error("{0}")]
    ReadOnly(String),
    /// The transaction was discarded.
    #[error("{0}")]
    ExecAbort(String),
    /// The cache's own error.
    #[error("{message}")]
    Cache { code: String, message: String },
}

impl Error {
    /// The code that programs tell errors by.
    pub fn code(&self) -> &str {
        match self {
            Error::Malformed(_)
            | Error::InvalidConfig(_)
            | Error::NotFound
            | Error::MethodNotAllowed => "ERR",
            Error::WrongPass(_) => "WRONGPASS",
            Error::NoPerm(_) => "NOPERM",
            Error::TooBig(_) => "TOOBIG",
            Error::Unreachable(_) => "UNREACHABLE",
            Error::Unknown(_) => "UNKNOWN",
            Error::ReadOnly(_) => "READONLY",
            Error::ExecAbort(_) => "EXECABORT",
            Error::Cache { code, .. } => code,
        }
    }

    /// The HTTP status of a request that failed with this error.
    pub fn status(&self) -> u16 {
        match self {
            Error::InvalidConfig(_) => 500,
            Error::NotFound => 404,
            Error::MethodNotAllowed => 405,
            Error::WrongPass(_) => 401,
            Error::TooBig(_) => 413,
            Error::Unreachable(_) | Error::ReadOnly(_) => 503,
            Error::Unknown(_) => 504,
            Error::Malformed(_) | Error::NoPerm(_) | Error::ExecAbort(_) | Error::Cache { .. } => {
                400
            }
        }
    }

    /// Makes the error that the cache answered, from its code and the text behind it.
    pub fn of_cache(code: &str, message: Option<&str>) -> Self {
        let message = message.unwrap_or_default();
        match code {
            "READONLY" => Error::ReadOnly(message.to_owned()),
            // The node has done nothing, and will be ready.
            "LOADING" | "MASTERDOWN" => Error::Unreachable(format!("{code} {message}")),
            // The front door has logged in, if it was told to.
            "NOAUTH" => Error::InvalidConfig(format!(
                "AUTHENTICATION is NONE: expected IAM or SECRET, since the cache asks for a login ({code} {message})"
            )),
            "MOVED" | "ASK" => Error::Cache {
                code: "ERR".to_owned(),
                message: format!(
                    "{code} {message}: this cache has several shards, and the front door needs one shard or cluster \
                     mode disabled"
                ),
            },
            _ => Error::Cache {
                code: code.to_owned(),
                message: message.to_owned(),
            },
        }
    }
}
