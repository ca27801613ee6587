//! Says who a token belongs to.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::commands::Role;
use crate::config::{Digest, Tokens};
use crate::error::Error;

/// Returns the role of the token in the header `Authorization: Bearer …`. Only digests are kept and compared, in a time
/// that does not depend on them.
///
/// # Errors
/// [`Error::WrongPass`] if the token is missing or wrong, or stands in the query string.
pub fn role(tokens: &Tokens, authorization: Option<&str>, query: &str) -> Result<Role, Error> {
    if query
        .split('&')
        .any(|pair| pair.split('=').next() == Some("_token"))
    {
        return Err(Error::WrongPass(
            "the token has to be in the header Authorization, because a query string lands in logs",
        ));
    }
    let (scheme, token) = authorization
        .and_then(|header| header.split_once(' '))
        .ok_or(Error::WrongPass(
            "the header Authorization: Bearer TOKEN is missing",
        ))?;
    let digest = Digest::from(Sha256::digest(token.trim()));
    let is_among = |digests: &[Digest]| {
        let mut digests = digests.iter();
        digests.any(|one| one.ct_eq(&digest).into())
    };
    let (is_reader, is_writer) = (is_among(&tokens.read), is_among(&tokens.write));
    match scheme.eq_ignore_ascii_case("Bearer") {
        true if is_writer => Ok(Role::Writer),
        true if is_reader => Ok(Role::Reader),
        _ => Err(Error::WrongPass("the token is wrong")),
    }
}
