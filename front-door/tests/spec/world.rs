//! The function with a cache that a test makes, and the requests that clients send it.

use std::collections::HashMap;
use std::net::SocketAddr;

use front_door::function::{Function, Response};
use serde_json::{Value, json};

use crate::peer::{self, Act, Heard};

pub const READ_TOKEN: &str = "a token that reads";
pub const WRITE_TOKEN: &str = "a token that writes";
/// The SHA-256 sums of the tokens, by sha256sum.
const READ_DIGEST: &str = "f73825a0271d5cb1738dae5ea9dce6a0a193af91d8385c4cdea857bfd4a1b984";
const WRITE_DIGEST: &str = "634610e3eb5c32e5595e87834dff5fff786a8fc3789e42c3cae060a52d77aa58";

pub struct World {
    pub variables: HashMap<&'static str, String>,
    pub heard: Heard,
}

impl World {
    /// Starts a cache that does what the script says.
    pub async fn new(script: impl Fn(usize, &[&str]) -> Act + Send + Sync + 'static) -> World {
        let (address, heard) = peer::start(script).await;
        World {
            variables: variables(address),
            heard,
        }
    }

    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.variables.insert(name, value.to_string());
    }

    pub fn function(&self) -> Function {
        Function::new(|name| self.variables.get(name).cloned())
    }

    /// Returns the commands that came since this was asked last, each with the number of its connection.
    pub fn take_heard(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

/// Returns the variables of a function whose cache asks for nothing.
pub fn variables(address: SocketAddr) -> HashMap<&'static str, String> {
    HashMap::from([
        ("ENDPOINT", address.ip().to_string()),
        ("PORT", address.port().to_string()),
        ("AUTHENTICATION", "NONE".to_owned()),
        ("TLS", "false".to_owned()),
        ("READ_TOKEN_SHA256", READ_DIGEST.to_owned()),
        ("WRITE_TOKEN_SHA256", WRITE_DIGEST.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", "front-door".to_owned()),
    ])
}

/// Returns the event of a function URL, as Lambda's documentation has it:
/// <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>
pub fn event(path: &str, token: &str, body: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "authorization": format!("Bearer {token}"),
            "content-type": "application/json",
        },
        "requestContext": {
            "accountId": "anonymous",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "id",
            "stage": "$default",
            "timeEpoch": 1_800_000_000_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

/// Sends an event. Returns the status and the body.
pub async fn send(function: &Function, event: &Value) -> (u16, Value) {
    let (response, _) = function.handle(event).await;
    read(&response)
}

/// Returns the status and the body.
pub fn read(response: &Response) -> (u16, Value) {
    let response = json!(response);
    let status = response["statusCode"].as_u64().expect("a status");
    // What a cache says is nobody else's.
    assert_eq!(response["headers"]["cache-control"], "no-store");
    let body = response["body"].as_str().expect("a body");
    let body = serde_json::from_str(body).expect("a body in JSON");
    (status.try_into().unwrap(), body)
}

/// Sends commands with the token that writes. Returns the status and the body.
pub async fn post(function: &Function, path: &str, body: &Value) -> (u16, Value) {
    send(function, &event(path, WRITE_TOKEN, &body.to_string())).await
}
