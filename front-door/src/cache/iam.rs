//! Logging in with IAM: the password is a token that is signed here, without a secret and without a call.
//! <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html>

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;

use super::connection::Credentials;
use crate::commands::Role;
use crate::config::Iam;

/// A token is valid for 15 minutes. It is signed anew for each connection.
const VALID: Duration = Duration::from_secs(900);

impl Iam {
    /// Signs the token of a role's user.
    ///
    /// # Errors
    /// The error is why it cannot be signed.
    pub fn credentials(&self, role: Role, now: SystemTime) -> Result<Credentials, String> {
        let user = match role {
            Role::Reader => &self.reader_user,
            Role::Writer => &self.writer_user,
        };
        let password = self.token(user, now);
        Ok(Credentials {
            user: Some(user.clone()),
            password: password.map_err(|error| format!("cannot sign the token: {error}"))?,
        })
    }

    /// A token is a presigned request to the cache, as if that were a web service, without its scheme.
    fn token(&self, user: &str, now: SystemTime) -> Result<String, Box<dyn std::error::Error>> {
        let url = format!("http://{}/?Action=connect&User={user}", self.cache_name);
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(VALID);
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("elasticache")
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let headers = [("host", self.cache_name.as_str())].into_iter();
        let request = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(&[]))?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        let mut signed = http::Request::get(&url).body(())?;
        instructions.apply_to_request_http1x(&mut signed);
        let signed = signed.uri().to_string();
        Ok(signed.trim_start_matches("http://").to_owned())
    }
}
