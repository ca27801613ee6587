//! GraphQL: AppSync calls the function directly for the two fields of the schema, which is in the template.
//! <https://docs.aws.amazon.com/appsync/latest/devguide/direct-lambda-reference.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cache;
use crate::commands::Role;
use crate::config::{ApiKeyAccess, Limits};
use crate::error::Error;
use crate::reply::{Encoding, Face, Written, admit, is_lossy, text_of};
use crate::request::{Command, Request};

/// The encoded answer may have this many bytes. AppSync is said to refuse more than about 1 MB; no page of AWS's says so.
const MAX_ANSWER_BYTES: usize = 1_000_000;

/// The context that AppSync hands over, as far as it is read.
/// <https://docs.aws.amazon.com/appsync/latest/devguide/resolver-context-reference-js.html>
#[derive(Debug, Deserialize)]
pub struct Event {
    arguments: Arguments,
    #[serde(default)]
    identity: Json,
    info: Info,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    parent_type_name: String,
    field_name: String,
}

/// A client may also send null in the place of a default.
#[derive(Debug, Deserialize)]
struct Arguments {
    commands: Vec<Vec<String>>,
    atomic: Option<bool>,
    arguments: Option<Encoding>,
    replies: Option<Encoding>,
}

/// A request that may go to the cache.
#[derive(Debug)]
pub struct Call {
    pub role: Role,
    pub request: Request,
    replies: Encoding,
}

/// The type `Result` of the schema.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    replies: Vec<Reply>,
    /// What is wrong with the request as a whole.
    error: Option<Failure>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Reply {
    /// A text of JSON, so that integers, nesting and nil survive.
    value: Option<String>,
    error: Option<Failure>,
    lossy: bool,
}

/// The type `Error` of the schema.
#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    code: String,
    message: String,
}

/// True if AppSync sent the event.
pub fn is_event(event: &Json) -> bool {
    event.get("info").is_some()
}

impl Event {
    /// Reads a request.
    ///
    /// # Errors
    /// Fails if the client may not use the field, or if the arguments are no request.
    pub fn read(self, access: ApiKeyAccess, limits: &Limits) -> Result<Call, Error> {
        let role = match (&*self.info.parent_type_name, &*self.info.field_name) {
            ("Query", "read") => Role::Reader,
            ("Mutation", "execute") => Role::Writer,
            _ => return Err(Error::Malformed("the event is not a request".to_owned())),
        };
        self.admit(role, access)?;
        let given = self.arguments;
        let parts = given.commands.iter().flatten();
        limits.admit(parts.map(String::len).sum())?;
        let encoding = given.arguments.unwrap_or(Encoding::Text);
        let commands = given
            .commands
            .into_iter()
            .map(|parts| command(parts, encoding));
        let commands = commands.collect::<Result<_, _>>()?;
        Ok(Call {
            role,
            request: Request::new(commands, given.atomic.unwrap_or(false), limits)?,
            replies: given.replies.unwrap_or(Encoding::Text),
        })
    }

    /// Asks again what the directives of the schema ask. Only a client that signed its request has the ARN of a user.
    fn admit(&self, role: Role, access: ApiKeyAccess) -> Result<(), Error> {
        let user = self.identity["userArn"].as_str().unwrap_or_default();
        let refused = |why: &str| Err(Error::NoPerm(format!("an API key may {why}")));
        match (access, role) {
            _ if !user.is_empty() => Ok(()),
            (ApiKeyAccess::None, _) => refused("do nothing here, because ApiKeyAccess is none"),
            (ApiKeyAccess::Read, Role::Writer) => {
                refused("only use the field read, because ApiKeyAccess is read")
            }
            (ApiKeyAccess::Read, Role::Reader) | (ApiKeyAccess::Write, _) => Ok(()),
        }
    }
}

fn command(parts: Vec<String>, encoding: Encoding) -> Result<Command, Error> {
    let parts = parts.into_iter().enumerate();
    let parts = parts.map(|(number, part)| match (encoding, number) {
        (Encoding::Text, _) | (Encoding::Base64, 0) => Ok(part.into_bytes()),
        (Encoding::Base64, _) => STANDARD.decode(part).map_err(|_| {
            Error::Malformed(format!("the argument {number} of a command is not Base64"))
        }),
    });
    Command::new(parts.collect::<Result<_, _>>()?)
}

impl Call {
    /// Writes the replies.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the answer is larger than what AppSync takes.
    pub fn answer(&self, replies: Result<Vec<cache::Reply>, Error>) -> Result<Answer, Error> {
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return Ok(Answer::failed(&error)),
        };
        let replies = replies.iter().map(|reply| Reply::of(reply, self.replies));
        let answer = Answer {
            replies: replies.collect(),
            error: None,
        };
        admit(answer, MAX_ANSWER_BYTES)
    }
}

impl Answer {
    pub fn failed(error: &Error) -> Self {
        Answer {
            error: Some(Failure::of(error)),
            ..Answer::default()
        }
    }
}

impl Reply {
    fn of(reply: &cache::Reply, encoding: Encoding) -> Self {
        match reply {
            Ok(value) => Reply {
                value: Some(text_of(&Written(value, encoding, Face::GraphQl))),
                error: None,
                lossy: encoding == Encoding::Text && is_lossy(value),
            },
            Err(error) => Reply {
                value: None,
                error: Some(Failure::of(error)),
                lossy: false,
            },
        }
    }
}

impl Failure {
    fn of(error: &Error) -> Self {
        Failure {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}
