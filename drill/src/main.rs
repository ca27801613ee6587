//! `drill` sees a cache behind a Network Load Balancer as a client does. It watches until a failover is over, and
//! prints where its time went. If `--once` is given, it tries once and names what a client hangs on. It triggers
//! nothing.

#![forbid(unsafe_code)]

mod arguments;
mod cache;
mod names;
mod once;
mod record;
mod watch;

use std::process::ExitCode;

use arguments::{Arguments, USAGE};
use record::Record;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse() {
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(arguments)) if arguments.is_once => look(&arguments).await,
        Ok(Some(arguments)) => watch(&arguments).await,
        Err(error) => Err(format!("{error}; see drill --help")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drill: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns true if a client can work.
async fn look(arguments: &Arguments) -> Result<bool, String> {
    let found = once::look(arguments).await?;
    if arguments.is_json {
        println!("{}", json(&found));
        return Ok(found.is_sound());
    }
    for finding in &found.findings {
        println!("{}: {}\n  mend: {}", finding.id, finding.seen, finding.mend);
    }
    if found.findings.is_empty() {
        println!("nothing found: a client can write through the load balancer");
    }
    Ok(found.is_sound())
}

/// Returns true if a failover was seen and the client is back.
async fn watch(arguments: &Arguments) -> Result<bool, String> {
    let record = watch::watch(arguments).await?;
    if arguments.is_json {
        println!("{}", json(&record));
    } else if let Some(record) = &record {
        print!("{}", record.table());
    }
    if record.is_none() {
        eprintln!("drill: the name has not moved");
    }
    Ok(record.as_ref().is_some_and(Record::is_back))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("names and numbers")
}
