//! What counts as an answer. The SDK takes whatever comes with a status of success for success: of a
//! call that changes something it reads nothing, and of a list that breaks off it reads the beginning,
//! where the state may be missing that would say that a target drains. Either would deregister the
//! last target that serves: after the page of a proxy that never passed RegisterTargets on, or by a
//! description that is not whole.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// What the body of a success has to be, if there is one; any other fails the call.
#[derive(Debug)]
pub enum Answer {
    /// A document that does not break off, as of Elastic Load Balancing, where it is named after the
    /// call: `RegisterTargetsResponse`.
    Xml,
    /// A CBOR map, as of CloudWatch. <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
    Cbor,
}

/// The body is something else.
#[derive(Debug, thiserror::Error)]
#[error("the body is no answer to the call")]
pub struct Unreadable;

impl Answer {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            Answer::Xml => {
                let body = body.trim_ascii_end();
                body.ends_with(b"Response>") && !body.ends_with(b"</ErrorResponse>")
            }
            // The first three bits of a map's first byte: RFC 8949, section 3.1.
            Answer::Cbor => body.first().is_some_and(|byte| byte >> 5 == 5),
        }
    }
}

#[dyn_dispatch_hint]
impl Intercept for Answer {
    fn name(&self) -> &'static str {
        "Answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        match response.status().is_success() && !body.is_empty() && !self.is(body) {
            true => Err(Unreadable.into()),
            false => Ok(()),
        }
    }
}
