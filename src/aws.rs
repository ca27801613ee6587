//! Configures the AWS SDK. Its time limits, retries and connections are set by hand, because the
//! defaults hurt here: a call has no time limit at all, the first retry waits up to a second, and a
//! connection that went stale while the sandbox was frozen costs another second. The AWS endpoints, Region
//! and credentials follow the SDK's standard variables.

mod acknowledgement;
mod cause;
mod put;

use std::time::Duration;

use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{ConfigLoader, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::plan::EFFECT;
use acknowledgement::Acknowledgement;

pub use cause::{Cause, Failure, cause, failure};
pub use put::put;

/// The failure of a call, with the raw response if there was one.
pub type SdkError<E> = aws_sdk_elasticloadbalancingv2::error::SdkError<E>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit for one call, including all the SDK's retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// The number of attempts of one call, including the first one.
pub const ATTEMPTS: u32 = 3;
pub const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
/// This is shorter than the servers' own idle timeout, so that no request is written to a connection that is
/// being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Takes the AWS endpoints, Region and credentials from the environment, where Lambda puts them. No profile
/// is read, and no metadata service is asked.
pub fn from_env() -> ConfigLoader {
    configure(aws_config::defaults(aws_config::BehaviorVersion::latest()))
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
}

/// Sets the time limits, the retries and the HTTP client.
pub fn configure(loader: ConfigLoader) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(EFFECT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(INITIAL_BACKOFF);
    // We use ring, because the entropy source of aws-lc costs 23 ms of pure CPU at the first handshake. That
    // is a third of a second at a 128 MB function's share of a core.
    let http_client = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    loader
        .timeout_config(timeouts)
        .retry_config(retries)
        .http_client(http_client)
}

/// Makes a client that sends each call once. The SDK does not retry, because a call that is sent again takes
/// its turn again.
pub fn load_balancing(sdk: &SdkConfig) -> aws_sdk_elasticloadbalancingv2::Client {
    let config = aws_sdk_elasticloadbalancingv2::config::Builder::from(sdk);
    let config = config
        .retry_config(RetryConfig::disabled())
        .interceptor(Acknowledgement::Xml);
    aws_sdk_elasticloadbalancingv2::Client::from_conf(config.build())
}

pub fn tagging(sdk: &SdkConfig) -> aws_sdk_resourcegroupstagging::Client {
    let config = aws_sdk_resourcegroupstagging::config::Builder::from(sdk);
    aws_sdk_resourcegroupstagging::Client::from_conf(
        config.interceptor(Acknowledgement::Json).build(),
    )
}

pub fn cloudwatch(sdk: &SdkConfig) -> aws_sdk_cloudwatch::Client {
    let config = aws_sdk_cloudwatch::config::Builder::from(sdk);
    aws_sdk_cloudwatch::Client::from_conf(config.interceptor(Acknowledgement::Cbor).build())
}
