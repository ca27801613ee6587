//! The password of the cache in Secrets Manager.

use std::cell::RefCell;
use std::error::Error as _;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::connection::Credentials;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// A secret, and what was read of it.
pub struct Secret {
    arn: String,
    /// The client is made with the first connection, which takes a while.
    client: OnceCell<Client>,
    read: RefCell<Option<Credentials>>,
}

/// A secret in the form that AWS's rotation functions write. It may also be the password alone.
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html>
#[derive(Deserialize)]
struct Document {
    username: Option<String>,
    password: String,
}

impl Secret {
    pub fn new(arn: String) -> Self {
        Secret {
            arn,
            client: OnceCell::new(),
            read: RefCell::default(),
        }
    }

    /// Returns what was read before, or reads it.
    ///
    /// # Errors
    /// The error is why it cannot be read.
    pub async fn get(&self) -> Result<Credentials, String> {
        let read = self.read.borrow().clone();
        match read {
            Some(credentials) => Ok(credentials),
            None => self.read().await,
        }
    }

    /// Reads the secret, which may have been rotated.
    ///
    /// # Errors
    /// The error is why it cannot be read.
    pub async fn read(&self) -> Result<Credentials, String> {
        let arn = &self.arn;
        let client = self.client.get_or_init(client).await;
        // It is boxed, since the compiler gives up on what contains so large a future.
        let output = Box::pin(client.get_secret_value().secret_id(arn).send()).await;
        let output = output.map_err(|error| {
            let cause = match (error.code(), error.message()) {
                (Some(code), Some(message)) => {
                    format!("{code}: {}", message.lines().next().unwrap_or_default())
                }
                (Some(code), None) => code.to_owned(),
                (None, _) => {
                    let causes = std::iter::successors(error.source(), |error| (*error).source());
                    causes.last().map_or(error.to_string(), ToString::to_string)
                }
            };
            format!("cannot read the secret {arn}: {cause}")
        })?;
        let text = output
            .secret_string
            .ok_or(format!("the secret {arn} is not a text"))?;
        let credentials = match serde_json::from_str(&text) {
            Ok(Document { username, password }) => Credentials {
                user: username,
                password,
            },
            Err(_) if text.starts_with('{') => {
                return Err(format!("the secret {arn} has no \"password\""));
            }
            Err(_) => Credentials {
                user: None,
                password: text,
            },
        };
        self.read.replace(Some(credentials.clone()));
        Ok(credentials)
    }
}

/// The address, the Region and the credentials of AWS are where Lambda puts them.
async fn client() -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(50));
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .timeout_config(timeouts)
        .retry_config(retries)
        .http_client(http_client);
    Client::new(&Box::pin(sdk.load()).await)
}
