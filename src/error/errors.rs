//! The failures of a target group or of a whole invocation, in one message.

use std::collections::HashSet;
use std::fmt;
use std::{slice, vec};

use lambda_runtime::Diagnostic;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Error;

/// How many target groups one line of the log lists, and how many failures one message names. The others are counted.
pub const MOST_IN_A_LINE: usize = 100;

/// The failures of a target group or of a whole invocation. There is at least one. The first one gives the type, and
/// all of them give the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Returns `Ok` if nothing failed.
    pub fn check(errors: impl IntoIterator<Item = Error>) -> Result<(), Errors> {
        let errors: Vec<_> = errors.into_iter().collect();
        let is_well = errors.is_empty().then_some(());
        is_well.ok_or(Errors(errors))
    }

    /// Adds one more failure at the end.
    pub fn and(mut self, another: Error) -> Self {
        self.0.push(another);
        self
    }

    pub fn iter(&self) -> slice::Iter<'_, Error> {
        self.0.iter()
    }

    /// Lambda's `errorType`, which is the first failure's.
    pub fn error_type(&self) -> &'static str {
        self.0[0].error_type()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Errors(vec![error])
    }
}

impl IntoIterator for Errors {
    type Item = Error;
    type IntoIter = vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Says what failed, and once for all failures that share it, what that means for the clients.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An endpoint that feeds several groups fails each of them with the same words.
        let mut seen = HashSet::new();
        let failures = self
            .iter()
            .map(|error| (error.consequence(), error.to_string()));
        let mut failures: Vec<_> = failures
            .filter(|failure| seen.insert(failure.clone()))
            .collect();
        let others = failures.len().saturating_sub(MOST_IN_A_LINE);
        failures.truncate(MOST_IN_A_LINE);
        let mut texts = Vec::new();
        while let Some((consequence, _)) = failures.first().cloned() {
            let alike = failures.extract_if(.., |(one, _)| *one == consequence);
            let alike: Vec<_> = alike.map(|(_, what)| what).collect();
            let consequence = consequence.map(|consequence| format!(" ({consequence})"));
            texts.push(alike.join("; ") + &consequence.unwrap_or_default());
        }
        if others > 0 {
            texts.push(format!("and {others} more"));
        }
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Errors {}

/// Lambda's error object.
impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Errors", 2)?;
        object.serialize_field("errorType", self.error_type())?;
        object.serialize_field("errorMessage", &self.to_string())?;
        object.end()
    }
}

impl From<Errors> for Diagnostic {
    fn from(errors: Errors) -> Self {
        Diagnostic {
            error_type: errors.error_type().to_owned(),
            error_message: errors.to_string(),
        }
    }
}
