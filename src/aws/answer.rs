//! What counts as an answer to a call that changes something. There is nothing to read in it, and so
//! the SDK takes any body with a good status for one: also the page of a proxy that never passed the
//! call on, after which old targets would be deregistered though the new ones are not there.

use std::fmt;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_xml::decode::Document;

/// What the body has to be, if there is one; any other fails the call.
#[derive(Debug)]
pub enum Answer {
    /// A document whose root is the action's name and `Response`, as of Elastic Load Balancing.
    Xml(&'static str),
    /// A CBOR map, as of CloudWatch. <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
    Cbor,
}

/// The body is something else.
#[derive(Debug)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is no answer to the call")
    }
}

impl std::error::Error for Unreadable {}

impl Answer {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            Answer::Xml(action) => root(body) == Some(format!("{action}Response")),
            // The first three bits of a map's first byte: RFC 8949, section 3.1.
            Answer::Cbor => body.first().is_some_and(|byte| byte >> 5 == 5),
        }
    }
}

/// The name of an XML document's root.
fn root(body: &[u8]) -> Option<String> {
    let mut document = Document::try_from(body).ok()?;
    let root = document.root_element().ok()?;
    Some(root.start_el().local().to_owned())
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
