//! Watches until a failover is over. It watches the name, the targets, a connection that writes, and the
//! node that the name has left. It prints what changes on standard error.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_config::BehaviorVersion;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use indicatif::ProgressBar;
use nlb_hostname_target::aws;
use nlb_hostname_target::endpoint::{Dns, Resolver};
use probe::{Client, Connection, Failure, Step};
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

use crate::arguments::Arguments;
use crate::cache;
use crate::names::{EITHER, addresses, family, resolve};
use crate::record::{Entry, Record, What, is_over, is_write};

const NAME_WATCHED_EVERY: Duration = Duration::from_secs(1);
/// This is a twentieth of what an account and Region may read from Elastic Load Balancing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>
const TARGETS_WATCHED_EVERY: Duration = Duration::from_secs(2);
const OLD_WATCHED_EVERY: Duration = Duration::from_secs(1);
const WRITTEN_EVERY: Duration = Duration::from_millis(100);
/// The role is read once in this many writes.
const ROLE_READ_EVERY: u64 = 10;
const LOOKED_EVERY: Duration = Duration::from_millis(500);

type LoadBalancing = aws_sdk_elasticloadbalancingv2::Client;

/// Returns what happened, or `None` if the name did not move before the end.
///
/// # Errors
/// The error says what is wrong with an argument, or what cannot be seen at all.
pub async fn watch(arguments: &Arguments) -> Result<Option<Record>, String> {
    let client = cache::client(arguments)?;
    let network = TokioRuntimeProvider::default();
    let resolver = Dns::new(&arguments.dns_servers, &network).resolver()?;
    let watch = Watch {
        arguments,
        begin: Instant::now(),
        entries: RefCell::default(),
        bar: ProgressBar::new_spinner(),
    };
    let found = resolve(&resolver, &arguments.endpoint, &EITHER).await?;
    let family = family(&found);
    watch.write(What::Name(found));
    let group = match &arguments.target_group_arn {
        Some(arn) => Some((load_balancing(arn).await?, arn.as_str())),
        None => None,
    };
    if let Some((load_balancing, arn)) = &group {
        watch.write(What::Targets(targets(load_balancing, arn).await?));
    }
    let limit = arguments.limit.unwrap_or(Duration::MAX);
    tokio::select! {
        () = watch.keep_name(&resolver, family) => (),
        () = watch.keep_targets(group.as_ref()) => (),
        () = watch.keep_writing(&client) => (),
        () = watch.keep_old(&client) => (),
        () = watch.look(group.is_some()) => (),
        _ = ctrl_c() => (),
        () = sleep(limit) => (),
    }
    watch.bar.finish_and_clear();
    let now = watch.begin.elapsed();
    Ok(Record::of(&watch.entries.borrow(), now))
}

/// Makes a client for the ARN's Region, with the credentials that the AWS CLI has.
async fn load_balancing(arn: &str) -> Result<LoadBalancing, String> {
    let region = arn.split(':').nth(3).filter(|region| !region.is_empty());
    let region = region.ok_or_else(|| format!("{arn:?} is not the ARN of a target group"))?;
    let region = aws_config::Region::new(region.to_owned());
    let sdk = aws::configure(aws_config::defaults(BehaviorVersion::latest()))
        .region(region)
        .load()
        .await;
    Ok(LoadBalancing::new(&sdk))
}

/// Describes the targets' states.
async fn targets(client: &LoadBalancing, arn: &str) -> Result<BTreeMap<IpAddr, String>, String> {
    let call = client.describe_target_health().target_group_arn(arn);
    let output = call.send().await.map_err(|error| {
        format!(
            "cannot describe the targets of {arn}: {}",
            aws::cause(&error)
        )
    })?;
    let targets = output.target_health_descriptions.unwrap_or_default();
    let targets = targets.into_iter().filter_map(|described| {
        let address = described.target?.id?.parse().ok()?;
        let state = described.target_health?.state?;
        Some((address, state.as_str().to_owned()))
    });
    Ok(targets.collect())
}

struct Watch<'a> {
    arguments: &'a Arguments,
    begin: Instant,
    entries: RefCell<Vec<Entry>>,
    bar: ProgressBar,
}

impl Watch<'_> {
    fn write(&self, what: What) {
        self.write_at(self.begin.elapsed(), what);
    }

    fn write_at(&self, at: Duration, what: What) {
        self.tell(at, &what);
        let mut entries = self.entries.borrow_mut();
        entries.push(Entry { at, what });
        // A write that failed was sent before other entries happened.
        entries.sort_by_key(|entry| entry.at);
    }

    /// Prints what is new.
    fn tell(&self, at: Duration, what: &What) {
        let entries = self.entries.borrow();
        let last = |is_kind: fn(&What) -> bool| {
            entries
                .iter()
                .map(|entry| &entry.what)
                .rfind(|what| is_kind(what))
        };
        let news = match what {
            What::Name(addresses) => format!("the name is at {}", list(addresses)),
            What::Targets(targets) => format!("the targets are {}", states(targets)),
            What::Written if last(is_write) != Some(what) => "a write succeeds".to_owned(),
            What::Failed { error, .. } if last(is_write) != Some(what) => {
                format!("a write fails: {error}")
            }
            What::Role(role) => format!("the node says that it is a {role}"),
            What::OnOld if last(is_old) != Some(what) => {
                "somebody is connected to the node that the name has left".to_owned()
            }
            What::NobodyOnOld if last(is_old) != Some(what) => {
                "nobody is connected to the node that the name has left".to_owned()
            }
            What::Written | What::Failed { .. } | What::OnOld | What::NobodyOnOld => return,
        };
        self.bar
            .suspend(|| eprintln!("{:7.1} s  {news}", at.as_secs_f64()));
    }

    /// Waits until a failover is over.
    async fn look(&self, is_group_watched: bool) {
        loop {
            sleep(LOOKED_EVERY).await;
            let now = self.begin.elapsed();
            let entries = self.entries.borrow();
            if is_over(&entries, is_group_watched, now) {
                return;
            }
            let written = entries.iter().rfind(|entry| entry.what == What::Written);
            let written = match written {
                Some(entry) => format!("{:.1} s ago", (now - entry.at).as_secs_f64()),
                None => "never".to_owned(),
            };
            let seen = match Record::of(&entries, now) {
                Some(_) => "the name has moved",
                None => "waiting for a failover",
            };
            let now = now.as_secs();
            self.bar.set_message(format!(
                "{now} s: {seen}, last write {written}, Ctrl-C ends it"
            ));
            self.bar.tick();
        }
    }

    async fn keep_name(&self, resolver: &Resolver<TokioRuntimeProvider>, family: RecordType) {
        loop {
            sleep(NAME_WATCHED_EVERY).await;
            // A failed lookup says nothing.
            if let Ok(addresses) = resolve(resolver, &self.arguments.endpoint, &[family]).await {
                self.write_if_new(What::Name(addresses), is_name);
            }
        }
    }

    async fn keep_targets(&self, group: Option<&(LoadBalancing, &str)>) {
        let Some((client, arn)) = group else {
            return std::future::pending().await;
        };
        loop {
            sleep(TARGETS_WATCHED_EVERY).await;
            match targets(client, arn).await {
                Ok(targets) => self.write_if_new(What::Targets(targets), is_targets),
                Err(error) => self.bar.suspend(|| eprintln!("drill: {error}")),
            }
        }
    }

    fn write_if_new(&self, what: What, is_kind: fn(&What) -> bool) {
        let is_new = {
            let entries = self.entries.borrow();
            let last = entries.iter().rfind(|entry| is_kind(&entry.what));
            last.is_none_or(|entry| entry.what != what)
        };
        if is_new {
            self.write(what);
        }
    }

    /// Keeps one connection and writes to it, like a client that does not reconnect for READONLY.
    async fn keep_writing(&self, client: &Client) {
        let mut connection = None;
        for number in 0.. {
            let sent = self.begin.elapsed();
            match self.write_once(client, &mut connection, number).await {
                Ok(()) => self.write(What::Written),
                Err(failure) => {
                    let is_read_only =
                        matches!(&failure, Failure::Error(code, _) if code == "READONLY");
                    if !matches!(failure, Failure::Error(..)) {
                        connection = None;
                    }
                    let error = failure.to_string();
                    let failed = What::Failed {
                        is_read_only,
                        error,
                    };
                    self.write_at(sent, failed);
                }
            }
            // If a node does not report its role, its answer to a write shows it.
            if number % ROLE_READ_EVERY == 0
                && let Some(connected) = &mut connection
                && let Some(role) = cache::role(connected).await
            {
                self.write_if_new(What::Role(role), is_role);
            }
            sleep(WRITTEN_EVERY).await;
        }
    }

    async fn write_once(
        &self,
        client: &Client,
        connection: &mut Option<Connection>,
        number: u64,
    ) -> Result<(), Failure> {
        let connected = match connection {
            Some(connected) => connected,
            None => {
                let found = addresses(self.arguments).await;
                let found = found.map_err(|cause| Failure::Other(Step::Connect, cause))?;
                connection.insert(client.connect(found[0]).await?)
            }
        };
        cache::write(connected, number).await
    }

    /// Watches the old node past the load balancer, if it can be reached.
    async fn keep_old(&self, client: &Client) {
        if client.is_careless() {
            // The address may belong to somebody else by now.
            return std::future::pending().await;
        }
        let (mut connections, mut told) = (BTreeMap::new(), BTreeSet::new());
        loop {
            sleep(OLD_WATCHED_EVERY).await;
            let left = Record::of(&self.entries.borrow(), self.begin.elapsed());
            for address in left.map(|record| record.from).unwrap_or_default() {
                match self.others(client, &mut connections, address).await {
                    Ok(0) => self.write(What::NobodyOnOld),
                    Ok(_) => self.write(What::OnOld),
                    Err(failure) if told.insert(address) => self.bar.suspend(|| {
                        eprintln!("drill: cannot see who is connected to {address}: {failure}");
                    }),
                    Err(_) => (),
                }
            }
        }
    }

    /// Returns how many other clients that node has.
    async fn others(
        &self,
        client: &Client,
        connections: &mut BTreeMap<IpAddr, Connection>,
        address: IpAddr,
    ) -> Result<usize, Failure> {
        let mut connection = match connections.remove(&address) {
            Some(connection) => connection,
            None => {
                let address = SocketAddr::new(address, self.arguments.port);
                let mut connection = client.connect(address).await?;
                cache::name(&mut connection).await?;
                connection
            }
        };
        let others = cache::others(&mut connection).await?;
        connections.insert(address, connection);
        Ok(others)
    }
}

fn is_name(what: &What) -> bool {
    matches!(what, What::Name(_))
}

fn is_targets(what: &What) -> bool {
    matches!(what, What::Targets(_))
}

fn is_role(what: &What) -> bool {
    matches!(what, What::Role(_))
}

fn is_old(what: &What) -> bool {
    matches!(what, What::OnOld | What::NobodyOnOld)
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(", ")
}

fn states(targets: &BTreeMap<IpAddr, String>) -> String {
    let states: Vec<_> = targets
        .iter()
        .map(|(address, state)| format!("{address} {state}"))
        .collect();
    states.join(", ")
}
