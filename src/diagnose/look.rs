//! Gathers what the diagnosis can see, with calls that change nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use futures_util::future::join_all;
use hickory_resolver::net::runtime::RuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use tokio::join;
use tokio::time::{Instant, sleep_until};

use super::seen::{Attributes, Group, LoadBalancer, Look, Name, Seen, Server, Unseen};
use crate::aws::SdkError;
use crate::config::{Config, TargetGroupConfig};
use crate::endpoint::{Dns, Endpoint};
use crate::pace::{Pace, Urgency};
use crate::target_group::{Attempts, Limits, Stop};

/// The number of lookups of each name. A name that answers in part shows it over several lookups.
const LOOKUPS: u32 = 12;
/// The time between two lookups of a name: a cache gives the same answer until its TTL is over.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);

/// What a diagnosis works with.
pub struct Looker<'a, P: RuntimeProvider> {
    pub config: &'a Config,
    /// The groups to look at.
    pub groups: &'a [TargetGroupConfig],
    pub client: &'a Client,
    pub dns: &'a Dns<'a, P>,
    pub pace: &'a Pace,
    /// No call is sent after this time, and no lookup except the first of each name.
    pub until: Instant,
}

impl<'a, P: RuntimeProvider> Looker<'a, P> {
    pub(super) async fn look(&self) -> Seen<'a> {
        let groups = self.groups.iter();
        let groups = join_all(groups.map(|group| self.group(group))).await;
        let mut names: Vec<(&Endpoint, RecordType, u32)> = Vec::new();
        for group in &groups {
            let Some(record_type) = group.record_type() else {
                continue;
            };
            let misses = group.config.settings.misses;
            for endpoint in &group.config.endpoints {
                let is_it = |name: &&mut (_, _, _)| (name.0, name.1) == (endpoint, record_type);
                match names.iter_mut().find(is_it) {
                    Some((_, _, fewest)) => *fewest = misses.min(*fewest),
                    None => names.push((endpoint, record_type, misses)),
                }
            }
        }
        let names = names.into_iter();
        let names =
            names.map(|(endpoint, record_type, misses)| self.name(endpoint, record_type, misses));
        Seen {
            names: join_all(names).await,
            groups,
        }
    }

    async fn group(&self, config: &'a TargetGroupConfig) -> Group<'a> {
        let arn = config.arn.to_string();
        let descriptions = async {
            let call = self.client.describe_target_groups().target_group_arns(&arn);
            let action = "DescribeTargetGroups";
            let output = self.ask(action, async || call.clone().send().await).await?;
            let description = output.target_groups.unwrap_or_default().into_iter().next();
            description.ok_or_else(|| Unseen {
                action,
                cause: "the answer does not contain the target group"
                    .to_owned()
                    .into(),
            })
        };
        let attributes = async {
            let call = self.client.describe_target_group_attributes();
            let call = call.target_group_arn(&arn);
            let action = "DescribeTargetGroupAttributes";
            let output = self.ask(action, async || call.clone().send().await).await?;
            let attributes = output.attributes.unwrap_or_default().into_iter();
            let attributes = attributes.map(|one| (one.key, one.value));
            Ok(Attributes::new(attributes))
        };
        let targets = async {
            let call = self.client.describe_target_health().target_group_arn(&arn);
            let action = "DescribeTargetHealth";
            let output = self.ask(action, async || call.clone().send().await).await?;
            Ok(output.target_health_descriptions.unwrap_or_default())
        };
        let (description, attributes, targets) = join!(descriptions, attributes, targets);
        let arns = description
            .as_ref()
            .map(|one| one.load_balancer_arns().to_vec());
        let arns = arns.unwrap_or_default().into_iter();
        Group {
            config,
            load_balancers: join_all(arns.map(|arn| self.load_balancer(arn))).await,
            description,
            attributes,
            targets,
        }
    }

    async fn load_balancer(&self, arn: String) -> Look<LoadBalancer> {
        let zones = async {
            let call = self
                .client
                .describe_load_balancers()
                .load_balancer_arns(&arn);
            let action = "DescribeLoadBalancers";
            let output = self.ask(action, async || call.clone().send().await).await?;
            let described = output.load_balancers.unwrap_or_default().into_iter();
            let zones = described.flat_map(|one| one.availability_zones.unwrap_or_default());
            Ok(zones.filter_map(|zone| zone.zone_name).collect())
        };
        let attributes = async {
            let call = self.client.describe_load_balancer_attributes();
            let call = call.load_balancer_arn(&arn);
            let action = "DescribeLoadBalancerAttributes";
            let output = self.ask(action, async || call.clone().send().await).await?;
            let attributes = output.attributes.unwrap_or_default().into_iter();
            let attributes = attributes.map(|one| (one.key, one.value));
            Ok(Attributes::new(attributes))
        };
        let (zones, attributes): (Look<BTreeSet<_>>, _) = join!(zones, attributes);
        Ok(LoadBalancer {
            zones: zones?,
            arn,
            attributes,
        })
    }

    /// Resolves the name several times, each time on all servers at once.
    async fn name(&self, endpoint: &'a Endpoint, record_type: RecordType, misses: u32) -> Name<'a> {
        let resolver = self.dns.resolver();
        let servers = async {
            let resolver = resolver?;
            let mut servers: Vec<Server> = Vec::new();
            let mut next = Instant::now();
            for _ in 0..LOOKUPS {
                sleep_until(next).await;
                self.pace.lookups.turns(1).await;
                next = Instant::now() + LOOKUP_INTERVAL;
                let answers = resolver.resolve_everywhere(endpoint, record_type).await;
                let is_answered = answers.iter().any(|(_, known)| matches!(known, Ok(Ok(_))));
                for (address, known) in answers {
                    match servers.iter_mut().find(|server| server.address == address) {
                        Some(server) => server.lookups.push(known),
                        None => servers.push(Server {
                            address,
                            lookups: vec![known],
                        }),
                    }
                }
                if !is_answered || next > self.until {
                    break;
                }
            }
            Ok(servers)
        };
        Name {
            endpoint,
            record_type,
            misses,
            servers: servers.await,
        }
    }

    /// Sends a call that reads, at the invocation's pace.
    async fn ask<T, E>(
        &self,
        action: &'static str,
        send: impl AsyncFn() -> Result<T, SdkError<E>>,
    ) -> Look<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (act_by, last_call) = (self.until, self.until);
        let limits = Limits { act_by, last_call };
        let mut attempts = Attempts::default();
        let sent = attempts
            .send(&self.pace.reads, Urgency::Ordinary, limits, send)
            .await;
        sent.map_err(|stop| {
            let cause = match stop {
                Stop::Failed(cause) => cause,
                Stop::Unsent | Stop::Expired => "the invocation ran out of time".to_owned().into(),
            };
            Unseen { action, cause }
        })
    }
}

impl Attributes {
    fn new(attributes: impl Iterator<Item = (Option<String>, Option<String>)>) -> Self {
        Attributes(
            attributes
                .filter_map(|(key, value)| key.zip(value))
                .collect(),
        )
    }
}
