//! Lambda starts this binary. It has one thread, and one [`Function`] for the life of the sandbox.

#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use lambda_runtime::service_fn;
use nlb_hostname_target::function::Function;
use nlb_hostname_target::{aws, log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if variable("AWS_LAMBDA_RUNTIME_API").is_none_or(|address| address.is_empty()) {
        eprintln!(
            "nlb-hostname-target runs as an AWS Lambda function: AWS_LAMBDA_RUNTIME_API is not set"
        );
        return ExitCode::FAILURE;
    }
    log::init(log::level(variable("AWS_LAMBDA_LOG_LEVEL").as_deref()));
    let sdk = aws::from_env().load().await;
    let function = Function::new(variable, &sdk, TokioRuntimeProvider::default());
    match lambda_runtime::run(service_fn(|event| function.handle(event))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime ended");
            ExitCode::FAILURE
        }
    }
}

/// Text that is not Unicode gets a replacement character. No variable allows that, so the text is refused as malformed.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
