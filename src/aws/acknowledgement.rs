//! The SDK accepts every response with a success status, and does not read the body of a call that changes
//! something. Two of these responses do harm:
//!
//! - A proxy's page counts as a registration, and the last target that serves is deregistered. To CloudWatch,
//!   it counts as a publication, and the data are lost.
//! - A list of targets that breaks off is read as far as it goes. The state that marks a target as draining
//!   may be missing, and again the last target that serves is deregistered.
//!
//! Every other form that the protocols allow is an acknowledgement.

use aws_smithy_cbor::Decoder;
use aws_smithy_cbor::data::Type;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use roxmltree::Document;

/// What a successful response must be. Any other one fails the call.
#[derive(Debug)]
pub enum Acknowledgement {
    /// Elastic Load Balancing sends a whole document whose root element is named after the call:
    /// `RegisterTargetsResponse`.
    /// <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#response-serialization>
    Xml,
    /// CloudWatch sends a header of AWS's own, and no body, because `PutMetricData` has no output. The protocol's
    /// tests let a service send an empty CBOR map instead.
    /// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html#response-serialization>
    /// <https://github.com/smithy-lang/smithy/blob/main/smithy-protocol-tests/model/rpcv2Cbor/empty-input-output.smithy>
    Cbor,
    /// The Resource Groups Tagging API sends JSON, which the SDK has read by now, and a header of AWS's own. A proxy's
    /// `{}` would read as a fleet without groups.
    /// <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#response-serialization>
    Json,
}

/// The response is not an acknowledgement of the call.
#[derive(Debug, thiserror::Error)]
#[error("the response is not an answer to this call")]
pub struct Unreadable;

impl Acknowledgement {
    fn is(&self, response: &HttpResponse, call: &str) -> bool {
        let body = response.body().bytes().unwrap_or_default();
        match self {
            Acknowledgement::Xml => {
                str::from_utf8(body).is_ok_and(|text| is_document(text, &format!("{call}Response")))
            }
            Acknowledgement::Cbor => {
                is_from_aws(response) && (body.is_empty() || is_empty_map(body))
            }
            Acknowledgement::Json => response.headers().get("x-amzn-requestid").is_some(),
        }
    }
}

/// True if the text is a well-formed document whose root element has this name.
fn is_document(text: &str, name: &str) -> bool {
    Document::parse(text.trim_ascii())
        .is_ok_and(|document| document.root_element().tag_name().name() == name)
}

/// The protocol demands the first header. Recordings of CloudWatch's responses have the second one, which every
/// AWS service sends.
fn is_from_aws(response: &HttpResponse) -> bool {
    let headers = response.headers();
    headers.get("smithy-protocol") == Some("rpc-v2-cbor")
        || headers.get("x-amzn-requestid").is_some()
}

/// True if the body is an empty CBOR map, however its length is encoded.
fn is_empty_map(body: &[u8]) -> bool {
    let mut decoder = Decoder::new(body);
    let is_empty = match decoder.map() {
        Ok(Some(length)) => length == 0,
        Ok(None) => {
            decoder.datatype().is_ok_and(|next| next == Type::Break) && decoder.skip().is_ok()
        }
        Err(_) => false,
    };
    is_empty && decoder.position() == body.len()
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
        let call = config.load::<Metadata>().map_or("", Metadata::name);
        match response.status().is_success() && !self.is(response, call) {
            true => Err(Unreadable.into()),
            false => Ok(()),
        }
    }
}
