//! The function answers one event at a time, and writes one line about it.

use probe::Findings;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::cache::{Cache, Reply};
use crate::commands::Role;
use crate::config::Config;
use crate::diagnose::{config_invalid, diagnose, is_diagnose};
use crate::error::Error;
use crate::record::Record;
use crate::request::Request;
use crate::{graphql, rest};

/// What goes back to the client.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Response {
    Rest(rest::Response),
    GraphQl(graphql::Answer),
    Findings(Findings),
}

/// What a sandbox keeps between two requests.
pub struct Function {
    name: String,
    /// A bad configuration is the answer to every request.
    door: Result<Door, Error>,
}

struct Door {
    config: Config,
    cache: Cache,
}

impl Function {
    /// Reads the configuration. Nothing is connected before the first request.
    pub fn new(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let door = Config::parse(&lookup).and_then(|config| {
            let cache = Cache::new(config.cache.clone(), config.limits)?;
            Ok(Door { config, cache })
        });
        Function {
            name: lookup("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default(),
            door,
        }
    }

    /// Answers an event. Whatever is wrong is in the answer. Also returns the line about it.
    pub async fn handle(&self, event: &Json) -> (Response, Json) {
        if is_diagnose(event) {
            let findings = self.diagnose().await;
            let line =
                json!({"level": "INFO", "message": "diagnosed", "findings": findings.findings});
            return (Response::Findings(findings), line);
        }
        let mut record = Record::begin();
        let is_graphql = graphql::is_event(event);
        let responded = match is_graphql {
            true => self.resolve(event, &mut record).await,
            false => self.respond(event, &mut record).await,
        };
        let response = responded.unwrap_or_else(|error| {
            record.count(&error);
            match is_graphql {
                true => Response::GraphQl(graphql::Answer::failed(&error)),
                false => Response::Rest(rest::Response::failed(&error)),
            }
        });
        let status = match &response {
            Response::Rest(response) => Some(response.status_code),
            Response::GraphQl(_) | Response::Findings(_) => None,
        };
        let line = record.end(&self.name, status);
        (response, line)
    }

    async fn respond(&self, event: &Json, record: &mut Record) -> Result<Response, Error> {
        let door = self.door()?;
        let event = rest::Event::deserialize(event).map_err(|_| no_request())?;
        let call = event.read(&door.config.tokens, &door.config.limits)?;
        let replies = door.execute(call.role, &call.request, record).await;
        call.answer(replies).map(Response::Rest)
    }

    async fn resolve(&self, event: &Json, record: &mut Record) -> Result<Response, Error> {
        let door = self.door()?;
        let event = graphql::Event::deserialize(event).map_err(|_| no_request())?;
        let call = event.read(door.config.api_key_access, &door.config.limits)?;
        let replies = door.execute(call.role, &call.request, record).await;
        call.answer(replies).map(Response::GraphQl)
    }

    async fn diagnose(&self) -> Findings {
        match &self.door {
            Ok(door) => diagnose(&door.config.cache, &door.cache).await,
            Err(invalid) => config_invalid(invalid),
        }
    }

    fn door(&self) -> Result<&Door, Error> {
        self.door.as_ref().map_err(Error::clone)
    }
}

impl Door {
    /// Sends what is allowed, and refuses the rest. Of a transaction, one refusal refuses all.
    ///
    /// # Errors
    /// Fails if a transaction was refused or discarded, or if it is not known what became of it, and if no command was
    /// answered.
    async fn execute(
        &self,
        role: Role,
        request: &Request,
        record: &mut Record,
    ) -> Result<Vec<Reply>, Error> {
        let begun = Instant::now();
        let deadline = begun + self.config.limits.timeout;
        record.requested(role, &request.commands);
        let checked = request.commands.iter().map(|command| {
            let kind = self.config.permission.check(role, command)?;
            Ok((command, kind))
        });
        let checked: Vec<Result<_, Error>> = checked.collect();
        if request.is_atomic
            && let Some(Err(refused)) = checked.iter().find(|one| one.is_err())
        {
            record.count(refused);
            return Err(refused.clone());
        }
        let admitted: Vec<_> = checked.iter().flatten().copied().collect();
        let sent = match admitted.is_empty() {
            true => Ok(Vec::new()),
            false => {
                let sent = self
                    .cache
                    .send(role, &admitted, request.is_atomic, deadline);
                let sent = sent.await;
                record.sent(&sent, begun.elapsed());
                sent.replies
            }
        };
        let mut sent = match sent {
            Err(error) if request.is_atomic => {
                record.count(&error);
                return Err(error);
            }
            Err(error) => vec![Err(error); admitted.len()],
            Ok(replies) => replies,
        }
        .into_iter();
        let replies = checked.into_iter();
        let replies = replies.map(|one| one.and_then(|_| sent.next().unwrap_or_else(missing)));
        let replies: Vec<_> = replies.collect();
        let errors = replies.iter().filter_map(|reply| reply.as_ref().err());
        errors.for_each(|error| record.count(error));
        if !replies.iter().all(is_unanswered) {
            return Ok(replies);
        }
        // If one of them may have been executed, nothing else may be said of the request.
        let errors = || replies.iter().filter_map(|reply| reply.as_ref().err());
        let unknown = errors().find(|error| matches!(error, Error::Unknown(_)));
        match unknown.or_else(|| errors().next()) {
            Some(error) => Err(error.clone()),
            None => Ok(replies),
        }
    }
}

fn is_unanswered(reply: &Reply) -> bool {
    matches!(
        reply,
        Err(Error::Unknown(_) | Error::Unreachable(_) | Error::InvalidConfig(_))
    )
}

fn no_request() -> Error {
    Error::Malformed("the event is not a request".to_owned())
}

fn missing() -> Reply {
    Err(Error::Unknown("the reply is missing".to_owned()))
}
