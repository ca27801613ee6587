//! Publishes what the loops of an invocation send.

use hickory_resolver::net::runtime::RuntimeProvider;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout_at;

use super::Invocation;
use crate::error::Error;
use crate::metrics::{Metrics, Sample};

impl<P: RuntimeProvider> Invocation<'_, P> {
    /// Publishes at once after a failover, and once more when all loops have ended. Data that the deadline
    /// cuts off are kept.
    pub(super) async fn publish(
        &self,
        metrics: &mut Metrics,
        mut receiver: UnboundedReceiver<Sample>,
    ) -> Vec<Error> {
        if self.context.is_dry_run {
            return Vec::new();
        }
        let mut failures = Vec::new();
        let publishing = self.publish_as_it_comes(metrics, &mut receiver, &mut failures);
        if timeout_at(self.context.deadline.answer, publishing)
            .await
            .is_err()
        {
            while let Ok(sample) = receiver.try_recv() {
                metrics.record(sample);
            }
            let error = metrics.deadline_exceeded(&self.destination, self.context.clock.now());
            error.log();
            failures.push(error);
        }
        failures
    }

    /// Adds to `failures` every error that no later publication makes up for. Samples that are there already
    /// are published together. Once CloudWatch is out of reach, nothing is tried before the end: a call that
    /// hangs would cost its time for every failover.
    async fn publish_as_it_comes(
        &self,
        metrics: &mut Metrics,
        receiver: &mut UnboundedReceiver<Sample>,
        failures: &mut Vec<Error>,
    ) {
        let (mut is_reachable, mut is_over) = (true, false);
        while !is_over {
            let mut is_failover = false;
            let mut next = receiver.recv().await;
            is_over = next.is_none();
            while let Some(sample) = next {
                is_failover |= sample.is_failover == Some(true);
                metrics.record(sample);
                next = receiver.try_recv().ok();
            }
            if is_over || (is_failover && is_reachable) {
                let mut failed = metrics
                    .publish(&self.destination, self.context.clock.now())
                    .await;
                failed.iter().for_each(Error::log);
                is_reachable = failed.iter().all(Error::is_dropped);
                failed.retain(|error| is_over || error.is_dropped());
                failures.append(&mut failed);
            }
        }
    }
}
