//! The configuration. Every variable is parsed once, into a complete [`Config`] or an error that names the variable.

mod variable;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_credential_types::Credentials;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::commands::{Permission, is_known};
use crate::error::Error;
use variable::{Variable, arn, boolean, id, list, port_number, server_name, sha256};

/// No deployment allows more commands in a request.
const MAX_COMMANDS: usize = 1000;

/// A token's SHA-256.
pub type Digest = [u8; 32];

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub cache: CacheConfig,
    pub tokens: Tokens,
    pub api_key_access: ApiKeyAccess,
    pub permission: Permission,
    pub limits: Limits,
}

/// Where the cache is, and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    pub endpoint: ServerName<'static>,
    pub port: u16,
    pub is_tls: bool,
    pub authentication: Authentication,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// The cache asks for nothing.
    None,
    /// The secret of this ARN has the password, or a user's name and password.
    Secret(String),
    Iam(Iam),
}

/// Who logs in with IAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iam {
    /// The ID of the replication group.
    pub cache_name: String,
    /// The IDs of the users, which are their names too.
    pub reader_user: String,
    pub writer_user: String,
    pub region: String,
    pub credentials: Credentials,
}

/// The digests of the tokens. There are up to two for each role, for a rotation. Without any, REST refuses everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    pub read: Vec<Digest>,
    pub write: Vec<Digest>,
}

/// What a client with an API key may do over GraphQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyAccess {
    None,
    Read,
    Write,
}

/// How much one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub commands: usize,
    pub request_bytes: usize,
    pub reply_bytes: usize,
    /// The time for everything: connecting, all attempts and waiting.
    pub timeout: Duration,
}

impl Config {
    /// Parses the variables, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] about the first variable that is missing or malformed.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name| Variable::look_up(name, &lookup);
        Ok(Config {
            cache: CacheConfig::parse(variable)?,
            tokens: Tokens::parse(variable)?,
            api_key_access: ApiKeyAccess::parse(variable)?,
            permission: Permission::parse(variable)?,
            limits: Limits::parse(variable)?,
        })
    }
}

impl CacheConfig {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let endpoint = variable("ENDPOINT").required("a host name", server_name)?;
        let port = variable("PORT").or("6379");
        let port = port.required("a port from 1 to 65535", port_number)?;
        let authentication = Authentication::parse(&variable)?;
        let may_be_open = authentication == Authentication::None;
        let expected = match may_be_open {
            true => "true or false",
            false => "true, because passwords and tokens must not be sent without TLS",
        };
        let is_tls = |text: &str| boolean(text).filter(|is_tls| *is_tls || may_be_open);
        let is_tls = variable("TLS").or("true").required(expected, is_tls)?;
        Ok(CacheConfig {
            endpoint,
            port,
            is_tls,
            authentication,
        })
    }
}

impl Authentication {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let kind = variable("AUTHENTICATION").or("IAM");
        let kind = kind.required("IAM, SECRET or NONE", |text| {
            let kinds = ["IAM", "SECRET", "NONE"];
            kinds.into_iter().find(|kind| *kind == text)
        })?;
        Ok(match kind {
            "IAM" => Authentication::Iam(Iam::parse(variable)?),
            "SECRET" => Authentication::Secret(
                variable("SECRET_ARN").required("the ARN of the secret to log in with", arn)?,
            ),
            _ => Authentication::None,
        })
    }
}

impl Iam {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let user = "the ID of a user of the cache";
        let of_lambda = "what Lambda sets";
        let text = |text: &str| Some(text.to_owned());
        let required = |name| variable(name).secret().required(of_lambda, text);
        let session = variable("AWS_SESSION_TOKEN").secret();
        let session = session.optional(of_lambda, text)?;
        Ok(Iam {
            cache_name: variable("CACHE_NAME").required("the ID of the replication group", id)?,
            reader_user: variable("READER_USER").required(user, id)?,
            writer_user: variable("WRITER_USER").required(user, id)?,
            region: required("AWS_REGION")?,
            credentials: Credentials::new(
                required("AWS_ACCESS_KEY_ID")?,
                required("AWS_SECRET_ACCESS_KEY")?,
                session,
                None,
                "environment",
            ),
        })
    }
}

impl Tokens {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        const EXPECTED: &str = "one or two SHA-256 sums of 64 hex digits";
        let digests = |text: &str| list(sha256)(text).filter(|digests| digests.len() <= 2);
        let read = variable("READ_TOKEN_SHA256").secret();
        let read = read.optional(EXPECTED, digests)?.unwrap_or_default();
        let is_other = |write: &Vec<Digest>| write.iter().all(|digest| !read.contains(digest));
        let write = variable("WRITE_TOKEN_SHA256").secret().optional(
            &format!("{EXPECTED}, of other tokens than READ_TOKEN_SHA256"),
            |text| digests(text).filter(is_other),
        )?;
        Ok(Tokens {
            read,
            write: write.unwrap_or_default(),
        })
    }
}

impl ApiKeyAccess {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let access = variable("API_KEY_ACCESS").or("none");
        access.required("none, read or write", |text| match text {
            "none" => Some(ApiKeyAccess::None),
            "read" => Some(ApiKeyAccess::Read),
            "write" => Some(ApiKeyAccess::Write),
            _ => None,
        })
    }
}

impl Permission {
    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let commands = |name| {
            let expected = "names of commands that the front door can send";
            let known = |text: &str| Some(text.to_ascii_uppercase()).filter(|name| is_known(name));
            let names = variable(name).optional(expected, list(known))?;
            Ok::<_, Error>(names.map(BTreeSet::from_iter))
        };
        Ok(Permission {
            allowed: commands("ALLOW_COMMANDS")?,
            denied: commands("DENY_COMMANDS")?.unwrap_or_default(),
            are_scripts_allowed: variable("ALLOW_SCRIPTS")
                .or("false")
                .required("true or false", boolean)?,
        })
    }
}

impl Limits {
    /// Admits a request of this many bytes.
    ///
    /// # Errors
    /// [`Error::TooBig`] if it has more than allowed.
    pub fn admit(&self, bytes: usize) -> Result<(), Error> {
        match bytes > self.request_bytes {
            true => Err(Error::TooBig(format!(
                "the request has {bytes} bytes: at most {} are allowed",
                self.request_bytes
            ))),
            false => Ok(()),
        }
    }

    fn parse(variable: impl Fn(&'static str) -> Variable) -> Result<Self, Error> {
        let number = |name, default, unit, range| variable(name).or(default).number(unit, range);
        let bytes = |name| number(name, "1048576", "bytes", 1024..=4_194_304);
        Ok(Limits {
            commands: number("MAX_COMMANDS", "100", "a number", 1..=MAX_COMMANDS)?,
            request_bytes: bytes("MAX_REQUEST_BYTES")?,
            reply_bytes: bytes("MAX_REPLY_BYTES")?,
            timeout: Duration::from_millis(
                number("TIMEOUT_MS", "5000", "milliseconds", 100..=8000)? as u64,
            ),
        })
    }
}
