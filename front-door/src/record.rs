//! The line of the log about a request, which is also its metrics: CloudWatch reads them out of the log, so that a
//! function without a way to CloudWatch publishes too. No argument, key, value or token is in it.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use crate::cache::Sent;
use crate::commands::{Role, name_in_table};
use crate::error::Error;
use crate::request::Command;

const NAMESPACE: &str = "FrontDoor";
const METRICS: [(&str, &str); 6] = [
    ("Requests", "Count"),
    ("Commands", "Count"),
    ("Refused", "Count"),
    ("Failed", "Count"),
    ("Reconnects", "Count"),
    ("CacheLatency", "Milliseconds"),
];

/// What is told about one request.
#[derive(Debug)]
pub struct Record {
    begun: Instant,
    role: Option<Role>,
    commands: BTreeMap<&'static str, u32>,
    request_bytes: usize,
    reply_bytes: usize,
    /// Errors that the client has to mend.
    refused: u32,
    /// Errors that the deployment or the cache has.
    failed: u32,
    codes: BTreeSet<String>,
    reconnects: u32,
    latency: f64,
    fault: Option<String>,
}

impl Record {
    pub fn begin() -> Self {
        Record {
            begun: Instant::now(),
            role: None,
            commands: BTreeMap::new(),
            request_bytes: 0,
            reply_bytes: 0,
            refused: 0,
            failed: 0,
            codes: BTreeSet::new(),
            reconnects: 0,
            latency: 0.0,
            fault: None,
        }
    }

    /// Names the commands of the table. Anything else may be a value in the wrong place.
    pub fn requested(&mut self, role: Role, commands: &[Command]) {
        self.role = Some(role);
        for command in commands {
            let name = name_in_table(command).unwrap_or("OTHER");
            *self.commands.entry(name).or_default() += 1;
            self.request_bytes += command.name.len();
            self.request_bytes += command.arguments.iter().map(Vec::len).sum::<usize>();
        }
    }

    pub fn sent(&mut self, sent: &Sent, took: Duration) {
        self.reconnects = sent.reconnects;
        self.reply_bytes = sent.bytes;
        self.latency = took.as_secs_f64() * 1000.0;
        self.fault.clone_from(&sent.fault);
    }

    pub fn count(&mut self, error: &Error) {
        let is_failure = matches!(
            error,
            Error::InvalidConfig(_)
                | Error::Unreachable(_)
                | Error::Unknown(_)
                | Error::ReadOnly(_)
        );
        match is_failure {
            true => self.failed += 1,
            false => self.refused += 1,
        }
        self.codes.insert(error.code().to_owned());
        if let Error::InvalidConfig(why) = error {
            self.fault = Some(why.clone());
        }
    }

    /// Makes the line. It is an ERROR if somebody has to mend the deployment.
    pub fn end(self, function: &str, status: Option<u16>) -> Json {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let metrics = METRICS.map(|(name, unit)| json!({"Name": name, "Unit": unit}));
        let (level, message) = match self.fault {
            Some(why) => ("ERROR", format!("{why}; no client gets an answer")),
            None => ("INFO", "request".to_owned()),
        };
        json!({
            "level": level,
            "message": message,
            "role": self.role.map(|role| match role {
                Role::Reader => "reader",
                Role::Writer => "writer",
            }),
            "status": status,
            "codes": self.codes,
            "commands": self.commands,
            "requestBytes": self.request_bytes,
            "replyBytes": self.reply_bytes,
            "milliseconds": rounded(self.begun.elapsed().as_secs_f64() * 1000.0),
            "_aws": {
                "Timestamp": u64::try_from(now.map_or(0, |now| now.as_millis())).unwrap_or(0),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["FunctionName"]],
                    "Metrics": metrics,
                }],
            },
            "FunctionName": function,
            "Requests": 1,
            "Commands": self.commands.values().sum::<u32>(),
            "Refused": self.refused,
            "Failed": self.failed,
            "Reconnects": self.reconnects,
            "CacheLatency": rounded(self.latency),
        })
    }
}

fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1000.0).round() / 1000.0
}
