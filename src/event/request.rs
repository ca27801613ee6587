//! Reads what CloudFormation asks of the template's custom resource.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html>

use super::fields::Fields;

/// What CloudFormation does with the stack's resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestType {
    Create,
    Update,
    Delete,
}

/// CloudFormation's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub request_type: RequestType,
    /// The answer is to be put here. Anybody who can call the function can choose this URL, so it is not trusted.
    pub response_url: String,
    pub stack_id: String,
    pub request_id: String,
    pub logical_resource_id: String,
    /// The id is constant for the resource, so that no update reads as a replacement. An update and a delete
    /// bring the id that was answered before, or the one that CloudFormation chose without an answer.
    pub physical_resource_id: String,
}

impl Request {
    /// Returns `None` if the event does not say what is to be done and where to answer.
    pub fn read(fields: &Fields) -> Option<Request> {
        let text = |name| fields.get::<String>(name);
        let stack_id = text("StackId").unwrap_or_default();
        let logical_resource_id = text("LogicalResourceId").unwrap_or_default();
        Some(Request {
            request_type: match text("RequestType")?.as_str() {
                "Create" => RequestType::Create,
                "Update" => RequestType::Update,
                "Delete" => RequestType::Delete,
                _ => return None,
            },
            response_url: text("ResponseURL")?,
            request_id: text("RequestId").unwrap_or_default(),
            physical_resource_id: text("PhysicalResourceId")
                .unwrap_or_else(|| format!("{stack_id}/{logical_resource_id}")),
            stack_id,
            logical_resource_id,
        })
    }
}
