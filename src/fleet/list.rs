//! Lists the target groups that have a tag, page by page.

use std::time::Duration;

use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::types::{ResourceTagMapping, TagFilter};
use tokio::time::{Instant, timeout_at};

use super::List;
use crate::aws::{self, Cause};
use crate::config::FLEET_TAG;
use crate::error::Error;
use crate::target_group::TargetGroupArn;

/// The limit for all pages. A list that takes longer breaks off.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// The most that the API allows. Its page also says how a type of resource is written.
/// <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>
const PER_PAGE: i32 = 100;

/// Lists the target groups whose tag [`FLEET_TAG`] has this value, with all their tags. The list is eventually
/// consistent: it may name groups that were deleted. A list in part is no list.
///
/// # Errors
/// [`Error::DiscoverFailed`] if a page cannot be read, or if all of them are not there in time.
pub async fn list(client: &Client, fleet: &str, deadline: Instant) -> Result<List, Error> {
    let late = |_| {
        Err(Cause::from(
            "the whole list did not come in time".to_owned(),
        ))
    };
    let until = deadline.min(Instant::now() + LISTED_WITHIN);
    let listed = timeout_at(until, pages(client, fleet)).await;
    let failed = |cause| Error::DiscoverFailed {
        fleet: fleet.to_owned(),
        cause,
    };
    listed.unwrap_or_else(late).map_err(failed)
}

async fn pages(client: &Client, fleet: &str) -> Result<List, Cause> {
    let tag = TagFilter::builder().key(FLEET_TAG).values(fleet).build();
    let call = client.get_resources();
    let call = call.resource_type_filters("elasticloadbalancing:targetgroup");
    let call = call.tag_filters(tag).resources_per_page(PER_PAGE);
    let (mut list, mut token) = (List::new(), None);
    loop {
        let page = call.clone().set_pagination_token(token).send().await;
        let page = page.map_err(|error| aws::cause(&error))?;
        let mappings = page.resource_tag_mapping_list.unwrap_or_default();
        list.extend(mappings.into_iter().filter_map(listed));
        token = page.pagination_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(list);
        }
    }
}

/// Leaves out anything but a target group, which was not asked for.
fn listed(mapping: ResourceTagMapping) -> Option<(TargetGroupArn, super::Tags)> {
    let arn = TargetGroupArn::parse(mapping.resource_arn()?)?;
    let tags = mapping.tags.unwrap_or_default().into_iter();
    Some((arn, tags.map(|tag| (tag.key, tag.value)).collect()))
}
