//! What has to be counted and published, and how fast Elastic Load Balancing may be asked.

use std::time::Duration;

use stand_in::cloudwatch::Datum;

use super::{Broken, broken};

/// Section 1: so many reads and registrations at first, and so many a second from then on.
const READS: (f64, f64) = (20.0, 5.0);
const REGISTRATIONS: (f64, f64) = (16.0, 3.0);

/// The fewest and the most that there can have been.
#[derive(Debug, Default, Clone, Copy)]
pub struct Between(pub u64, pub u64);

impl Between {
    pub fn add(&mut self, fewest: u64, most: u64) {
        *self = Between(self.0 + fewest, self.1 + most);
    }
}

/// Of one sandbox.
#[derive(Debug, Default)]
pub struct Counts {
    pub reconciles: Between,
    pub failovers: Between,
    pub failures: Between,
    /// Under `FunctionName` and `TargetGroup`.
    published: [Sums; 2],
}

/// What CloudWatch acknowledged, under one dimension.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    reconciles: u64,
    failovers: u64,
    failures: u64,
}

impl Counts {
    pub fn publish(&mut self, data: &[Datum]) {
        for (sums, dimension) in self
            .published
            .iter_mut()
            .zip(["FunctionName", "TargetGroup"])
        {
            sums.add(data, dimension);
        }
    }

    /// Section 6: CloudWatch acknowledged one sample for each reconcile, with what happened in it; all
    /// of them, unless the sandbox was lost.
    pub fn is_published(&self, is_lost: bool) -> Result<(), Broken> {
        let [function, groups] = self.published;
        for (what, published, Between(fewest, most)) in [
            ("reconciles", function.reconciles, self.reconciles),
            ("failovers", function.failovers, self.failovers),
            ("failures", function.failures, self.failures),
        ] {
            if (!is_lost && published < fewest) || published > most {
                let text = format!("{published} {what} were published of {fewest} to {most}");
                return broken("section 6", text);
            }
        }
        let is_same =
            (groups.failovers, groups.failures) == (function.failovers, function.failures);
        match is_same && groups.reconciles <= function.reconciles {
            true => Ok(()),
            false => broken(
                "section 6",
                format!("{groups:?} of the groups, {function:?} of all"),
            ),
        }
    }
}

impl Sums {
    fn add(&mut self, data: &[Datum], dimension: &str) {
        let samples = |metric: &'static str| {
            let is_its = move |datum: &&Datum| {
                datum.metric == metric && datum.dimensions.iter().any(|(name, _)| name == dimension)
            };
            data.iter().filter(is_its).flat_map(|datum| &datum.samples)
        };
        self.reconciles += samples("Failover").count() as u64;
        self.failovers += samples("Failover").sum::<f64>() as u64;
        self.failures += samples("ReconcileFailure").sum::<f64>() as u64;
    }
}

/// The calls of an invocation.
#[derive(Debug, Default)]
pub struct Calls {
    reads: u32,
    registrations: u32,
}

impl Calls {
    /// I12: no invocation asks Elastic Load Balancing faster than section 1 says, retries included.
    pub fn add(&mut self, action: &str, since: Duration) -> Result<(), Broken> {
        let (count, (burst, per_second)) = match action {
            "RegisterTargets" | "DeregisterTargets" => (&mut self.registrations, REGISTRATIONS),
            "DescribeTargetGroups" | "DescribeTargetHealth" => (&mut self.reads, READS),
            _ => return Ok(()),
        };
        *count += 1;
        let most = burst + per_second * since.as_secs_f64();
        match f64::from(*count) > most + 0.01 {
            true => broken(
                "I12",
                format!("{action} is call {count} of at most {most:.1}"),
            ),
            false => Ok(()),
        }
    }
}
