//! Lambda starts this binary. It has one thread, and one [`Function`] for the life of the sandbox.

#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use front_door::function::Function;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if variable("AWS_LAMBDA_RUNTIME_API").is_none_or(|address| address.is_empty()) {
        eprintln!("front-door runs as an AWS Lambda function: AWS_LAMBDA_RUNTIME_API is not set");
        return ExitCode::FAILURE;
    }
    let function = Function::new(variable);
    let answer = async |event: LambdaEvent<Value>| {
        let (response, line) = function.handle(&event.payload).await;
        println!("{line}");
        Ok::<_, lambda_runtime::Error>(response)
    };
    match lambda_runtime::run(service_fn(answer)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the Lambda runtime ended: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Text that is not Unicode gets a replacement character. No variable allows that, so the text is refused as malformed.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
