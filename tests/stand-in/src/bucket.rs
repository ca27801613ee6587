//! Elastic Load Balancing's token buckets. They belong to the whole account and Region: every call takes a token, and a
//! call that finds its bucket empty is refused.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>

use tokio::time::Instant;

use crate::elb::Refusal;

/// The buckets of one account and Region.
#[derive(Debug)]
pub struct Buckets {
    reads: Bucket,
    /// The bucket that `RegisterTargets` and `DeregisterTargets` share.
    registrations: Bucket,
}

#[derive(Debug)]
struct Bucket {
    capacity: f64,
    per_second: f64,
    /// The share of the refill that other tools of the account take, from 0 to 1.
    others: f64,
    tokens: f64,
    at: Instant,
}

impl Buckets {
    /// Makes full buckets with the sizes that AWS documents.
    pub fn full(now: Instant) -> Self {
        Buckets {
            reads: Bucket::full(now, 40.0, 10.0),
            registrations: Bucket::full(now, 20.0, 4.0),
        }
    }

    /// Takes a token for the call, or refuses it.
    pub fn take(&mut self, now: Instant, action: &str) -> Result<(), Refusal> {
        let bucket = match action {
            "RegisterTargets" | "DeregisterTargets" => &mut self.registrations,
            _ => &mut self.reads,
        };
        bucket.refill(now);
        if bucket.tokens < 1.0 {
            return Err(Refusal {
                code: "Throttling",
                message: "Rate exceeded".to_owned(),
            });
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Sets the share of the refill that other tools of the account take from now on. If they take all of it, they also
    /// take what is in the buckets.
    pub fn share(&mut self, now: Instant, others: f64) {
        for bucket in [&mut self.reads, &mut self.registrations] {
            bucket.refill(now);
            bucket.others = others;
            if others >= 1.0 {
                bucket.tokens = 0.0;
            }
        }
    }
}

impl Bucket {
    fn full(now: Instant, capacity: f64, per_second: f64) -> Self {
        Bucket {
            capacity,
            per_second,
            others: 0.0,
            tokens: capacity,
            at: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let refilled = self.tokens + passed * self.per_second * (1.0 - self.others);
        (self.tokens, self.at) = (refilled.min(self.capacity), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(buckets: &mut Buckets, now: Instant, action: &str) -> u32 {
        (0..100)
            .map(|_| u32::from(buckets.take(now, action).is_ok()))
            .sum()
    }

    #[test]
    fn reads_and_registrations_have_buckets_of_their_own() {
        let now = Instant::now();
        let mut buckets = Buckets::full(now);
        assert_eq!(taken(&mut buckets, now, "DescribeTargetHealth"), 40);
        assert_eq!(taken(&mut buckets, now, "DescribeTargetGroups"), 0);
        assert_eq!(taken(&mut buckets, now, "RegisterTargets"), 20);
        assert_eq!(taken(&mut buckets, now, "DeregisterTargets"), 0);
        let later = now + Duration::from_secs(2);
        assert_eq!(taken(&mut buckets, later, "DescribeTargetHealth"), 20);
        assert_eq!(taken(&mut buckets, later, "DeregisterTargets"), 8);
        let much_later = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut buckets, much_later, "DescribeTargetHealth"), 40);
    }

    #[test]
    fn others_take_their_part() {
        let now = Instant::now();
        let mut buckets = Buckets::full(now);
        buckets.share(now, 1.0);
        let minute = now + Duration::from_secs(60);
        assert_eq!(taken(&mut buckets, minute, "RegisterTargets"), 0);
        buckets.share(minute, 0.5);
        let second = minute + Duration::from_secs(1);
        assert_eq!(taken(&mut buckets, second, "RegisterTargets"), 2);
        buckets.share(second, 0.0);
        let second = second + Duration::from_secs(1);
        assert_eq!(taken(&mut buckets, second, "DescribeTargetHealth"), 15);
    }
}
