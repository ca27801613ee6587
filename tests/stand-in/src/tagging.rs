//! The Resource Groups Tagging API, as far as it lists resources by their tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::elb::Refusal;

/// The tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// Returns the token of the page that a call of `GetResources` asks for. It is empty for the first one.
pub fn page(body: &[u8]) -> String {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let token = asked["PaginationToken"].as_str();
    token.unwrap_or_default().to_owned()
}

/// Answers `GetResources`: the resources that have one of the values of each tag that is asked for, page by page.
/// <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>
pub fn resources(tags: &BTreeMap<String, Tags>, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let per_page = asked["ResourcesPerPage"].as_u64().unwrap_or(50);
    if asked["ResourceTypeFilters"] != json!(["elasticloadbalancing:targetgroup"]) || per_page > 100
    {
        return Err(Refusal {
            code: "InvalidParameterException",
            message: format!("not a list that this stand-in makes: {asked}"),
        });
    }
    let filters = asked["TagFilters"].as_array().cloned().unwrap_or_default();
    let is_asked = |tags: &Tags| {
        filters.iter().all(|filter| {
            let value = tags.get(filter["Key"].as_str().unwrap_or_default());
            let values = filter["Values"].as_array().cloned().unwrap_or_default();
            value.is_some_and(|value| values.is_empty() || values.contains(&json!(value)))
        })
    };
    let all: Vec<_> = tags.iter().filter(|(_, tags)| is_asked(tags)).collect();
    let begin: usize = page(body).parse().unwrap_or(0);
    let end = all.len().min(begin + per_page as usize);
    let mapping = |(arn, tags): &(&String, &Tags)| {
        let tags: Vec<_> = tags
            .iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect();
        json!({"ResourceARN": arn, "Tags": tags})
    };
    let token = match end < all.len() {
        true => end.to_string(),
        false => String::new(),
    };
    let page: Vec<_> = all[begin.min(end)..end].iter().map(mapping).collect();
    let answer = json!({"PaginationToken": token, "ResourceTagMappingList": page});
    Ok(answer.to_string().into_bytes())
}
