//! The ARN is the name of a target group.

use std::fmt;

/// The ARN of a target group, in any partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetGroupArn(String);

impl TargetGroupArn {
    /// Returns `None` if the text is not the ARN of a target group.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.split(':').collect();
        let [
            "arn",
            partition,
            "elasticloadbalancing",
            region,
            account,
            resource,
        ] = fields[..]
        else {
            return None;
        };
        let ["targetgroup", name, id] = resource.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let is_dashed = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_valid = partition.starts_with("aws")
            && is_dashed(partition)
            && !region.is_empty()
            && is_dashed(region)
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && (1..=32).contains(&name.len())
            && is_dashed(name)
            && id.len() == 16
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then(|| TargetGroupArn(text.to_owned()))
    }

    pub fn region(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }

    /// `targetgroup/name/id`, the value of the dimension `TargetGroup` in ELB's own metrics.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-cloudwatch-metrics.html>
    pub fn dimension(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or_default()
    }
}

impl fmt::Display for TargetGroupArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
