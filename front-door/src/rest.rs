//! REST: the Upstash protocol, as far as its SDKs use it, over a function URL.
//! <https://upstash.com/docs/redis/features/restapi>

mod body;
mod token;

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::cache::Reply;
use crate::commands::Role;
use crate::config::{Limits, Tokens};
use crate::error::Error;
use crate::reply::{Encoding, Face, Written, admit, text_of};
use crate::request::Request;

/// The encoded answer may have this many bytes. Lambda refuses more than 6 MB.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const MAX_ANSWER_BYTES: usize = 5_500_000;

/// The event of a function URL, as far as it is read.
/// <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    /// The names are in lower case.
    #[serde(default)]
    headers: HashMap<String, String>,
    request_context: RequestContext,
    #[serde(default)]
    body: String,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Debug, Deserialize)]
struct RequestContext {
    http: Http,
}

#[derive(Debug, Deserialize)]
struct Http {
    method: String,
}

/// What the function URL sends back.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    pub status_code: u16,
    headers: Map<String, Json>,
    body: String,
}

/// What the client reads about a command, or about a request that failed as a whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Answer<'a> {
    Result(Written<'a>),
    Error(String),
}

/// Where a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Command,
    Pipeline,
    MultiExec,
}

/// A request that may go to the cache.
#[derive(Debug)]
pub struct Call {
    pub role: Role,
    pub request: Request,
    path: Path,
    encoding: Encoding,
}

impl Event {
    /// Reads a request. The token is checked first, so that a stranger learns nothing else.
    ///
    /// # Errors
    /// Fails if the token is wrong, if there is nothing at the path, or if the body is no request.
    pub fn read(&self, tokens: &Tokens, limits: &Limits) -> Result<Call, Error> {
        let header = |name| self.headers.get(name).map(String::as_str);
        let role = token::role(tokens, header("authorization"), &self.raw_query_string)?;
        let path = match self.raw_path.strip_suffix('/').unwrap_or(&self.raw_path) {
            "" => Path::Command,
            "/pipeline" => Path::Pipeline,
            "/multi-exec" => Path::MultiExec,
            _ => return Err(Error::NotFound),
        };
        if self.request_context.http.method != "POST" {
            return Err(Error::MethodNotAllowed);
        }
        let body = self.body(limits)?;
        let commands = match path {
            Path::Command => vec![body::command(&body)?],
            Path::Pipeline | Path::MultiExec => body::commands(&body)?,
        };
        let is_base64 = header("upstash-encoding") == Some("base64");
        Ok(Call {
            role,
            request: Request::new(commands, path == Path::MultiExec, limits)?,
            path,
            encoding: match is_base64 {
                true => Encoding::Base64,
                false => Encoding::Text,
            },
        })
    }

    /// Lambda hands over every body as Base64 whose content type it does not take for text.
    fn body(&self, limits: &Limits) -> Result<Vec<u8>, Error> {
        let body = match self.is_base64_encoded {
            true => STANDARD.decode(&self.body).map_err(|_| {
                Error::Malformed("the body is marked as Base64, and is not".to_owned())
            })?,
            false => self.body.clone().into_bytes(),
        };
        limits.admit(body.len())?;
        Ok(body)
    }
}

impl Call {
    /// Writes the replies.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the answer is larger than what Lambda takes.
    pub fn answer(&self, replies: Result<Vec<Reply>, Error>) -> Result<Response, Error> {
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return Ok(Response::failed(&error)),
        };
        let each = |reply| Answer::of(reply, self.encoding);
        let body = match (self.path, replies.as_slice()) {
            (Path::Command, [Err(error)]) => return Ok(Response::failed(error)),
            (Path::Command, [reply]) => text_of(&each(reply)),
            (_, replies) => text_of(&replies.iter().map(each).collect::<Vec<_>>()),
        };
        // The body is a string in the answer, and is escaped once more.
        admit(Response::new(200, body), MAX_ANSWER_BYTES)
    }
}

impl Response {
    pub fn failed(error: &Error) -> Self {
        let body = text_of(&Answer::Error(text(error)));
        let mut response = Response::new(error.status(), body);
        let header = match error {
            Error::WrongPass(_) => Some(("www-authenticate", "Bearer")),
            Error::MethodNotAllowed => Some(("allow", "POST")),
            _ => None,
        };
        let headers = header.map(|(name, value)| (name.to_owned(), json!(value)));
        response.headers.extend(headers);
        response
    }

    fn new(status_code: u16, body: String) -> Self {
        let headers = [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), json!(value)));
        Response {
            status_code,
            headers: Map::from_iter(headers),
            body,
        }
    }
}

impl<'a> Answer<'a> {
    fn of(reply: &'a Reply, encoding: Encoding) -> Self {
        match reply {
            Ok(value) => Answer::Result(Written(value, encoding, Face::Rest)),
            Err(error) => Answer::Error(text(error)),
        }
    }
}

fn text(error: &Error) -> String {
    format!("{} {error}", error.code())
}
