//! Runs DNS, Elastic Load Balancing and the real function while `make e2e` plays a failover. It obeys lines on standard
//! input. The first line is the setting, in JSON. After it, `point ADDRESS` moves the endpoint, `schedule` and `notify`
//! each invoke the function in a sandbox of its own, and `sample` does one run of AWS's sample. Standard output has a
//! line of JSON, with the time of day in seconds, for the function's variables, for each change of a target's state and
//! for each end of an invocation.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use stand_in::lambda::{NOTIFICATION, SCHEDULE, Sandbox, TIMEOUT};
use stand_in::world::{ARN, PORT, World};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The time between two looks of the load balancer at its target group.
const WATCHED_EVERY: Duration = Duration::from_millis(10);
/// AWS's sample deregisters an address that this many runs in a row did not see.
/// <https://aws.amazon.com/blogs/networking-and-content-delivery/hostname-as-target-for-network-load-balancers/>
const RUNS_BEFORE_DEREGISTRATION: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = stand_in::commands();
    let setting = lines.recv().await.expect("a setting");
    let world = world(&serde_json::from_str(&setting).expect("the setting in JSON")).await;
    say(json!({"what": "served", "variables": world.variables}));
    // The sandboxes are ready before any target is reported, since getting ready takes a window.
    let sandboxes = tokio::join!(sandbox(&world), sandbox(&world));
    tokio::select! {
        () = watch(&world) => (),
        () = lead(&world, sandboxes, lines) => (),
    }
}

/// Makes a world with the endpoint where the setting says. The group's one target is there too, and has long been
/// healthy.
async fn world(setting: &Value) -> World {
    let mut world = World::empty().await;
    let seconds = |name: &str| Duration::from_secs_f64(setting[name].as_f64().expect("seconds"));
    world.set("ALLOWED_CIDRS", "127.0.0.0/8");
    world.ttl = u32::try_from(setting["ttl"].as_u64().expect("a TTL")).expect("a TTL");
    world.aws.target_group(ARN, |group| {
        group.vpc = vec!["127.0.0.0/8".parse().expect("a CIDR")];
        group.registration_lag = seconds("registrationLag");
        group.deregistration_delay = seconds("deregistrationDelay");
        group.is_connection_terminated = setting["isTerminated"] == true;
    });
    world.settle(setting["address"].as_str().expect("an address"));
    let variables = setting["variables"].as_object().expect("variables");
    for (name, value) in variables {
        world.set(name, value.as_str().expect("a variable's text"));
    }
    world
}

fn say(mut line: Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    line["at"] = json!(now.expect("after 1970").as_secs_f64());
    println!("{line}");
}

/// Prints what changes in the group.
async fn watch(world: &World) {
    let mut before = BTreeMap::new();
    loop {
        let targets = world.aws.targets(ARN).into_iter();
        let now: BTreeMap<_, _> = targets
            .map(|target| (target.address.to_string(), target.state))
            .collect();
        for (target, state) in &now {
            if before.get(target) != Some(state) {
                say(json!({"what": "target", "target": target, "state": state}));
            }
        }
        for target in before.keys().filter(|target| !now.contains_key(*target)) {
            say(json!({"what": "target", "target": target, "state": "gone"}));
        }
        before = now;
        sleep(WATCHED_EVERY).await;
    }
}

/// Obeys the lines until standard input ends.
async fn lead(
    world: &World,
    (scheduled, notified): (Sandbox, Sandbox),
    mut lines: mpsc::UnboundedReceiver<String>,
) {
    let (schedules, notifications) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let commands = async {
        let mut sample = Sample {
            resolved: world.group()[0]
                .split(':')
                .next()
                .expect("an address")
                .to_owned(),
            missed: BTreeMap::new(),
        };
        while let Some(line) = lines.recv().await {
            match line.split_once(' ') {
                Some(("point", address)) => {
                    world.point(address);
                    sample.resolved = address.to_owned();
                    say(json!({"what": "moved", "to": address}));
                }
                None if line == "schedule" => schedules.0.send(()).expect("a sandbox"),
                None if line == "notify" => notifications.0.send(()).expect("a sandbox"),
                None if line == "sample" => sample.run(world),
                _ => panic!("{line} is no command"),
            }
        }
    };
    tokio::select! {
        () = commands => (),
        () = invoke(scheduled, SCHEDULE, schedules.1) => (),
        () = invoke(notified, NOTIFICATION, notifications.1) => (),
    }
}

/// Makes a sandbox that has resolved and described already.
async fn sandbox(world: &World) -> Sandbox {
    let mut sandbox = world.sandbox().await;
    sandbox.schedule().await;
    sandbox
}

async fn invoke(mut sandbox: Sandbox, event: &str, mut times: mpsc::UnboundedReceiver<()>) {
    while times.recv().await.is_some() {
        let answer = sandbox.invoke(event, TIMEOUT).await;
        let (Ok(result) | Err(result)) = answer.outcome;
        say(json!({"what": "ended", "result": result}));
    }
    // Only the end of standard input ends the stage.
    std::future::pending().await
}

/// AWS's sample as it is published, without its file in S3. It registers what the name has and the group does not list
/// in any state. It deregisters what the name has not had for [`RUNS_BEFORE_DEREGISTRATION`] runs in a row.
struct Sample {
    /// The address that the name has.
    resolved: String,
    /// For each target of the group, the number of runs in a row in which the name did not have it.
    missed: BTreeMap<String, u32>,
}

impl Sample {
    fn run(&mut self, world: &World) {
        let targets = world.aws.targets(ARN);
        if !targets.iter().any(|target| target.id == self.resolved) {
            world.aws.register(ARN, &self.resolved, PORT);
        }
        self.missed.remove(&self.resolved);
        for target in targets.iter().filter(|target| target.id != self.resolved) {
            let missed = self.missed.entry(target.id.clone()).or_default();
            *missed += 1;
            if *missed == RUNS_BEFORE_DEREGISTRATION {
                world.aws.deregister(ARN, &target.id, target.port);
            }
        }
    }
}
