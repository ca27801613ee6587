//! This module says what counts as an acknowledgement. The SDK accepts every response with a success status.
//! It does not read the body of a call that changes something. If a list breaks off, it reads the beginning,
//! and the state that marks a target as draining may be missing from it. Either would deregister the last
//! target that serves, because a proxy answered in place of Elastic Load Balancing, or because the
//! description is not complete.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_xml::decode::Document;

/// What the body of a successful response must be. Any other body fails the call, and so does an empty one.
#[derive(Debug)]
pub enum Acknowledgement {
    /// Elastic Load Balancing sends a document whose root element is named after the call:
    /// `RegisterTargetsResponse`.
    Xml,
    /// CloudWatch sends an empty CBOR map, of either length encoding.
    /// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
    Cbor,
}

/// The body is not an acknowledgement of the call.
#[derive(Debug, thiserror::Error)]
#[error("the response body is not an answer to this call")]
pub struct Unreadable;

impl Acknowledgement {
    fn is(&self, body: &[u8], call: &str) -> bool {
        match self {
            Acknowledgement::Xml => str::from_utf8(body)
                .is_ok_and(|text| is_document(text.trim_ascii(), &format!("{call}Response"))),
            Acknowledgement::Cbor => matches!(body, [0xa0] | [0xbf, 0xff]),
        }
    }
}

/// True if the text is one element of this name and nothing else, apart from an XML declaration in front of it.
fn is_document(text: &str, name: &str) -> bool {
    let element = match text.strip_prefix("<?xml ") {
        Some(text) => text
            .split_once("?>")
            .map_or("", |(_, element)| element.trim_ascii()),
        None => text,
    };
    let mut document = Document::new(element);
    element.starts_with(&format!("<{name}"))
        && element.ends_with(&format!("</{name}>"))
        && document
            .next_start_element()
            .is_some_and(|root| root.matches(name))
        && document
            .try_fold(1, |_, token| token.map(|(_, depth)| depth))
            .is_ok_and(|depth| depth == 0)
}

#[dyn_dispatch_hint]
impl Intercept for Acknowledgement {
    fn name(&self) -> &'static str {
        "Acknowledgement"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        let call = config.load::<Metadata>().map_or("", Metadata::name);
        match response.status().is_success() && !self.is(body, call) {
            true => Err(Unreadable.into()),
            false => Ok(()),
        }
    }
}
