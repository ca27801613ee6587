//! A problem is what a client hangs on. A pure function judges what came of the attempts.

use crate::attempt::Attempt;
use crate::failure::{Failure, Step};
use crate::finding::Finding;

/// What a client hangs on. What mends it depends on who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Nothing listens on the port.
    Refused,
    /// Nothing answers at this step.
    Silent(Step),
    /// There is an answer with TLS only.
    TlsRequired,
    /// There is an answer without TLS only.
    PlaintextAnswered,
    /// The certificate is for these other names.
    CertificateName(Vec<String>),
    /// This machine does not trust the certificate's issuer.
    CertificateAuthority,
    /// The certificate is wrong in another way.
    CertificateInvalid,
    /// The cache asks for a login.
    AuthRequired,
    /// The password or the user is wrong.
    AuthWrong,
    /// The cache has no password.
    AuthNeedless,
    /// The user may not use a command or a key.
    NotPermitted,
    /// The node is a replica.
    ReadOnly,
    /// The cache is in cluster mode with several shards.
    Moved,
    Failed,
}

impl Problem {
    /// The id of the finding.
    pub fn id(&self) -> &'static str {
        match self {
            Problem::Refused => "refused",
            Problem::Silent(_) => "silent",
            Problem::TlsRequired => "tls-required",
            Problem::PlaintextAnswered => "plaintext-answered",
            Problem::CertificateName(_) => "certificate-name",
            Problem::CertificateAuthority => "certificate-authority",
            Problem::CertificateInvalid => "certificate-invalid",
            Problem::AuthRequired => "auth-required",
            Problem::AuthWrong | Problem::AuthNeedless => "auth-wrong",
            Problem::NotPermitted => "not-permitted",
            Problem::ReadOnly => "readonly",
            Problem::Moved => "moved",
            Problem::Failed => "failed",
        }
    }

    /// True if another user might not have it.
    fn is_of_user(&self) -> bool {
        matches!(self, Problem::AuthWrong | Problem::NotPermitted)
    }

    /// Judges an attempt. Returns the problem, and what was seen of it.
    fn of(attempt: &Attempt) -> Option<(Self, String)> {
        let failure = attempt.outcome.as_ref().err()?;
        let seen = failure.to_string();
        Some(match (answer(attempt), attempt.is_plaintext) {
            (Some(answer), true) => {
                let seen = format!("{seen}; with TLS it answers {answer}");
                (Problem::TlsRequired, seen)
            }
            (Some(answer), false) => {
                let seen = format!("{seen}; without TLS it answers {answer}");
                (Problem::PlaintextAnswered, seen)
            }
            (None, _) => {
                let problem = Problem::of_failure(failure);
                match &attempt.user {
                    Some(user) if problem.is_of_user() => (problem, format!("{user}: {seen}")),
                    _ => (problem, seen),
                }
            }
        })
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Refused => Problem::Refused,
            Failure::Silent(step) => Problem::Silent(*step),
            // Whoever closes the connection answers nothing else at this step either.
            Failure::Closed(step) => Problem::Silent(*step),
            Failure::OtherName(names) => Problem::CertificateName(names.clone()),
            Failure::OtherAuthority => Problem::CertificateAuthority,
            Failure::Certificate(_) => Problem::CertificateInvalid,
            Failure::Error(code, message) => Problem::of_error(code, message),
            Failure::NotTls | Failure::Other(..) => Problem::Failed,
        }
    }

    fn of_error(code: &str, message: &str) -> Self {
        let says = |text| message.contains(text);
        match code {
            "NOAUTH" => Problem::AuthRequired,
            "WRONGPASS" => Problem::AuthWrong,
            // Redis 6 and later say the first, and Redis 5 says the second.
            "ERR" if says("without any password") || says("no password is set") => {
                Problem::AuthNeedless
            }
            "ERR" if says("invalid password") => Problem::AuthWrong,
            "NOPERM" => Problem::NotPermitted,
            "READONLY" => Problem::ReadOnly,
            "MOVED" => Problem::Moved,
            _ => Problem::Failed,
        }
    }
}

/// Returns the answer the other way, if there is one.
fn answer(attempt: &Attempt) -> Option<String> {
    match attempt.other_way.as_ref()? {
        Ok(()) => Some("PONG".to_owned()),
        Err(Failure::Error(code, _)) => Some(code.clone()),
        // The other side speaks TLS, whatever its certificate is worth.
        Err(Failure::OtherName(_) | Failure::OtherAuthority | Failure::Certificate(_))
            if attempt.is_plaintext =>
        {
            Some("its certificate".to_owned())
        }
        Err(_) => None,
    }
}

/// Judges the attempts. Makes one finding for all addresses at which the same is wrong.
pub fn findings(attempts: &[Attempt], mend: impl Fn(&Problem) -> String) -> Vec<Finding> {
    let mut found: Vec<(Problem, String, Vec<String>)> = Vec::new();
    for attempt in attempts {
        let Some((problem, seen)) = Problem::of(attempt) else {
            continue;
        };
        let address = attempt.address.to_string();
        let mut known = found.iter_mut();
        match known.find(|(one, text, _)| (one, text) == (&problem, &seen)) {
            Some((_, _, addresses)) if addresses.contains(&address) => (),
            Some((_, _, addresses)) => addresses.push(address),
            None => found.push((problem, seen, vec![address])),
        }
    }
    let finding = |(problem, seen, addresses): (Problem, String, Vec<String>)| {
        let seen = format!("{}: {seen}", addresses.join(", "));
        Finding::error(problem.id(), seen, mend(&problem))
    };
    found.into_iter().map(finding).collect()
}
