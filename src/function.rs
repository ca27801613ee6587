//! The Lambda function: what it was configured with, and what one sandbox keeps between
//! invocations.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_smithy_async::time::SharedTimeSource;
use hickory_resolver::net::runtime::RuntimeProvider;
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, error_span};

use crate::aws;
use crate::config::Config;
use crate::deployment;
use crate::diagnose::{Findings, Looker, config_invalid, diagnose, discover};
use crate::endpoint::Dns;
use crate::error::{Error, Errors};
use crate::event::{Cause, Event, Request, RequestType};
use crate::invocation::{Invocation, Sandbox};
use crate::metrics::Destination;
use crate::pace::Pace;
use crate::reconcile::Context;
use crate::report::{Output, QueueResult, Report};
use crate::window::{Deadline, Window};

/// The time between the reconciles after a notification. It is short, because the endpoint is about to move.
const NOTIFICATION_INTERVAL: Duration = Duration::from_secs(1);
/// The template's `Timeout`. It takes the place of a deadline that has passed when the invocation begins: the local
/// runtime of cargo-lambda sends one of 1970.
const TIMEOUT: Duration = Duration::from_secs(75);
/// How long a deployment waits before it tries again, because what it needs may not be there yet.
const TRY_AGAIN_INTERVAL: Duration = Duration::from_secs(2);

/// The Lambda function: what it was configured with, and what one sandbox keeps between
/// invocations.
pub struct Function<P: RuntimeProvider> {
    config: Result<Config, Error>,
    /// CloudFormation may be answered under this suffix, even if the rest of the configuration is invalid.
    url_suffix: Result<String, Error>,
    /// The network over which DNS is asked.
    network: P,
    sdk: SdkConfig,
    load_balancing: aws_sdk_elasticloadbalancingv2::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    tagging: aws_sdk_resourcegroupstagging::Client,
    /// The clock for the time of day. Tokio's clock may stand still while a sandbox is frozen.
    clock: SharedTimeSource,
    /// The value is taken for an invocation and put back after it, because a sandbox has one invocation at a time.
    /// An invocation that panics leaves nothing behind, which only delays a change or loses an unpublished metric.
    sandbox: Cell<Sandbox>,
}

impl<P: RuntimeProvider> Function<P> {
    /// Reads the variables through `lookup`. An invalid configuration is the answer to every invocation.
    pub fn new(lookup: impl Fn(&str) -> Option<String>, sdk: &SdkConfig, network: P) -> Self {
        Function {
            config: Config::from_lookup(&lookup),
            url_suffix: Config::url_suffix(&lookup),
            network,
            sdk: sdk.clone(),
            load_balancing: aws::load_balancing(sdk),
            cloudwatch: aws::cloudwatch(sdk),
            tagging: aws::tagging(sdk),
            clock: sdk.time_source().unwrap_or_default(),
            sandbox: Cell::default(),
        }
    }

    /// Calls [`Function::invoke`] with Lambda's event and deadline.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Output, Errors> {
        let left = event.context.deadline().duration_since(SystemTime::now());
        let timeout = Instant::now() + left.unwrap_or(TIMEOUT);
        let function_name = &event.context.env_config.function_name;
        self.invoke(&Event::read(&event.payload), timeout, function_name)
            .await
    }

    /// Does what the event asks for, before Lambda's `timeout`.
    ///
    /// # Errors
    /// Fails if the configuration is invalid, the last reconcile of any group failed, publishing failed, or
    /// CloudFormation could not be answered. All groups are tried first. An invocation that the queue caused
    /// returns no error: its report contains the errors. A diagnosis returns none either, whatever it finds.
    pub async fn invoke(
        &self,
        event: &Event,
        timeout: Instant,
        function_name: &str,
    ) -> Result<Output, Errors> {
        let invocation = async {
            match &event.cause {
                Cause::Deployment(request) => {
                    let deadline = deployment::deadline(timeout);
                    let outcome = self.verify(event, request, deadline, function_name).await;
                    self.answer(request, outcome).await.map(Output::Report)
                }
                Cause::Diagnose => {
                    let findings = self.diagnose(Deadline::before(timeout)).await;
                    findings.log();
                    Ok(Output::Findings(findings))
                }
                Cause::Queue | Cause::Notification | Cause::Schedule => {
                    let (deadline, pace) = (Deadline::before(timeout), Pace::default());
                    let reconciled = self.reconcile_all(event, deadline, function_name, &pace);
                    let (mut report, outcome) = reconciled.await;
                    if event.cause != Cause::Queue {
                        return outcome.map(|()| Output::Report(report));
                    }
                    report.queue_result = Some(QueueResult::new(outcome.err()));
                    Ok(Output::Report(report))
                }
            }
        };
        // Every line of the log says what caused the invocation, whatever level is logged.
        let span = error_span!("invocation", cause = event.cause.name());
        invocation.instrument(span).await
    }

    /// Verifies that the function does its work in this deployment. A permission or a name that is missing may
    /// be there in a moment, so it tries again. A request to delete the resource leaves the targets alone.
    async fn verify(
        &self,
        event: &Event,
        request: &Request,
        deadline: Deadline,
        function_name: &str,
    ) -> Result<Report, Errors> {
        if request.request_type == RequestType::Delete {
            return Ok(Report::default());
        }
        let pace = Pace::default();
        loop {
            let (report, outcome) = self
                .reconcile_all(event, deadline, function_name, &pace)
                .await;
            let outcome = outcome.map(|()| report);
            let is_early = outcome.as_ref().is_err_and(deployment::are_perhaps_early);
            if !is_early || !deadline.leaves(TRY_AGAIN_INTERVAL) {
                return outcome;
            }
            sleep(TRY_AGAIN_INTERVAL).await;
        }
    }

    /// Answers CloudFormation, and then ends like any other invocation.
    async fn answer(
        &self,
        request: &Request,
        outcome: Result<Report, Errors>,
    ) -> Result<Report, Errors> {
        let status = outcome.as_ref().map(drop);
        match deployment::answer(&self.sdk, &self.url_suffix, request, status).await {
            Ok(()) => outcome,
            Err(cause) => {
                let failed = Error::AnswerFailed(cause);
                failed.log();
                Err(match outcome {
                    Ok(_) => Errors::from(failed),
                    Err(errors) => errors.and(failed),
                })
            }
        }
    }

    async fn diagnose(&self, deadline: Deadline) -> Findings {
        let config = match &self.config {
            Ok(config) => config,
            Err(invalid) => return config_invalid(invalid),
        };
        let discovered = discover(&self.tagging, config, deadline.work).await;
        let groups = [&config.target_groups[..], &discovered.groups].concat();
        let looker = Looker {
            config,
            groups: &groups,
            client: &self.load_balancing,
            dns: &Dns::new(&config.dns_servers, &self.network),
            pace: &Pace::default(),
            until: deadline.work,
        };
        Box::pin(diagnose(&looker, discovered.findings)).await
    }

    /// Reconciles every target group, once or for as long as a window says, and reports.
    async fn reconcile_all(
        &self,
        event: &Event,
        deadline: Deadline,
        function_name: &str,
        pace: &Pace,
    ) -> (Report, Result<(), Errors>) {
        let config = match &self.config {
            Ok(config) => config,
            Err(invalid) => {
                invalid.log();
                return (Report::default(), Err(Errors::from(invalid.clone())));
            }
        };
        let is_dry_run = config.is_dry_run || event.is_dry_run;
        let (length, interval) = match event.cause {
            _ if is_dry_run => (Duration::ZERO, config.poll_interval),
            Cause::Queue | Cause::Notification => (config.event_poll, NOTIFICATION_INTERVAL),
            Cause::Schedule => (config.schedule_poll, config.poll_interval),
            Cause::Deployment(_) | Cause::Diagnose => (Duration::ZERO, config.poll_interval),
        };
        let dns = Dns::new(&config.dns_servers, &self.network);
        let invocation = Invocation {
            context: Context {
                config,
                load_balancing: &self.load_balancing,
                dns: &dns,
                clock: &self.clock,
                pace,
                deadline,
                is_dry_run,
            },
            tagging: &self.tagging,
            destination: Destination {
                client: &self.cloudwatch,
                namespace: &config.metric_namespace,
                function_name,
            },
            window: Window::new(length, interval, deadline),
            is_deployment: matches!(event.cause, Cause::Deployment(_)),
        };
        let mut sandbox = self.sandbox.take();
        let (report, outcome) = Box::pin(invocation.run(&mut sandbox)).await;
        self.sandbox.set(sandbox);
        report.log();
        (report, outcome)
    }
}
