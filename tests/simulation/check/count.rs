//! Checks what has to be counted and published, and how fast Elastic Load Balancing may be asked.

use std::time::Duration;

use stand_in::cloudwatch::Datum;

use super::{Broken, must};

/// The numbers of reconciles, failovers, failures and tags that cannot be read.
type Sums = [u64; 4];
pub const RECONCILES: usize = 0;
pub const FAILOVERS: usize = 1;
pub const FAILURES: usize = 2;
pub const BAD_TAGS: usize = 3;
/// Every reconcile is one sample of the first two metrics.
const METRICS: [(&str, usize); 3] = [
    ("Failover", FAILOVERS),
    ("ReconcileFailure", FAILURES),
    ("TagInvalid", BAD_TAGS),
];
const PROMISES: [&str; 4] = [
    "section 6, reconciles",
    "section 6, failovers",
    "section 6, failures",
    "section 9, tags",
];

/// The fewest and the most of them that there can have been in one sandbox, and what CloudWatch acknowledged under
/// `FunctionName` and `TargetGroup`.
#[derive(Debug, Default)]
pub struct Counts {
    pub fewest: Sums,
    pub most: Sums,
    published: [Sums; 2],
    /// The number of invocations that could not list the fleet. That is one failure, of no group.
    pub unlisted: u64,
}

impl Counts {
    pub fn add(&mut self, what: usize, fewest: u64, most: u64) {
        self.fewest[what] += fewest;
        self.most[what] += most;
    }

    pub fn publish(&mut self, data: &[Datum]) {
        for datum in data {
            let is_group = datum
                .dimensions
                .iter()
                .any(|(name, _)| name == "TargetGroup");
            let sums = &mut self.published[usize::from(is_group)];
            for (_, what) in METRICS.iter().filter(|(metric, _)| *metric == datum.metric) {
                sums[*what] += datum.samples.iter().sum::<f64>() as u64;
                if *what == FAILOVERS {
                    sums[RECONCILES] += datum.samples.len() as u64;
                }
            }
        }
    }

    /// Section 6: CloudWatch acknowledged one sample for each reconcile, with what happened in it. Samples may be
    /// missing only if the sandbox was lost.
    pub fn is_published(&self, is_lost: bool) -> Result<(), Broken> {
        let [function, groups] = self.published;
        for (what, promise) in PROMISES.iter().enumerate() {
            let fewest = if is_lost { 0 } else { self.fewest[what] };
            must(function[what] >= fewest, promise, "too few were published")?;
            must(
                function[what] <= self.most[what],
                promise,
                "too many were published",
            )?;
        }
        let is_unlisted = |failures: u64| failures <= self.unlisted;
        let is_same = groups[FAILOVERS] == function[FAILOVERS]
            && groups[BAD_TAGS] == function[BAD_TAGS]
            && groups[RECONCILES] <= function[RECONCILES]
            && function[FAILURES]
                .checked_sub(groups[FAILURES])
                .is_some_and(is_unlisted);
        must(
            is_same,
            "section 6",
            "the groups' samples are not those of the function",
        )
    }
}

/// The numbers of an invocation's calls: reads, and calls that change a group.
#[derive(Debug, Default)]
pub struct Calls([u32; 2]);

impl Calls {
    /// I12: no invocation asks Elastic Load Balancing faster than section 1 says, retries included.
    pub fn add(&mut self, action: &str, since: Duration) -> Result<(), Broken> {
        let (count, burst, a_second) = match action {
            "PutMetricData" | "GetResources" => return Ok(()),
            "RegisterTargets" | "DeregisterTargets" => (&mut self.0[1], 16.0, 3.0),
            _ => (&mut self.0[0], 20.0, 5.0),
        };
        *count += 1;
        let most = burst + a_second * since.as_secs_f64() + 0.01;
        must(f64::from(*count) <= most, "I12", "it comes too early")
    }
}
