//! Measures what happens when a zone fails and 25 endpoints move, or a third of a fleet of 500. It measures the real
//! binary on the wall clock, against stand-ins that have the token buckets of Elastic Load Balancing, 40 ms a call and 5 ms for DNS. Each figure
//! has its bound from the contract beside it, and the last lines say what the buckets alone make of it.

use stand_in::fleet;
use stand_in::lambda::Sandbox;
use stand_in::lost_zone::{self, GROUPS, OLD};
use stand_in::world::World;

/// The number of tokens that the bucket of `RegisterTargets` and `DeregisterTargets` holds, and the number that it gets
/// each second.
const BUCKET: (f64, f64) = (20.0, 4.0);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!(
        "{GROUPS} groups and one, and 500 of a fleet, each with an endpoint of its own. Takes twelve minutes.\n"
    );
    println!("{:<44} {:>12} {:>12}", "", "measured", "at most");

    println!("one group, one reconcile");
    let one = world(1).await;
    row("calls to AWS when nothing has moved", idle(&one).await, "2");
    let played = lost_zone::one_group(&one).await;
    row("calls to AWS in a failover", played.calls.len(), "4");
    let first = played.slowest_register().as_millis();
    row("first register, milliseconds", first, "");

    println!("settled, polling once a second for 50 s");
    let played = lost_zone::settled(&mut world(GROUPS).await).await;
    let described = played.count("DescribeTargetHealth");
    row("describe calls", described, "25");
    row("PutMetricData", played.count("PutMetricData"), "1");
    row("refused calls", played.refused(), "0");

    println!("all move at once, one invocation");
    let played = lost_zone::at_once(&world(GROUPS).await).await;
    let last = played.last_deregister().as_secs_f64();
    row("last old one gone, seconds", format!("{last:.1}"), "18");
    row("refused calls", played.refused(), "0");

    println!("all move within 3 s, three cold invocations");
    let played = lost_zone::three_cold(&mut world(GROUPS).await).await;
    let slowest = played.slowest_register().as_secs_f64();
    row("slowest register, seconds", format!("{slowest:.1}"), "12");
    let last = played.last_deregister().as_secs_f64();
    row("last old one gone, seconds", format!("{last:.1}"), "50");
    let share = 100.0 * played.refused_share();
    row("refused calls, %", format!("{share:.1}"), "15");

    fleet_of_500().await;

    let calls = 2.0 * GROUPS as f64;
    let bound = (calls - BUCKET.0) / BUCKET.1;
    println!(
        "\nThe bucket alone would need {bound:.1} s for {calls} registrations and deregistrations."
    );
    println!("DNS and the description let one group's first register go out after 45 ms.");
}

async fn fleet_of_500() {
    let mut world = World::empty().await;
    world.ttl = 5;
    fleet::settle(&mut world, fleet::GROUPS);
    let mut sandboxes = Vec::new();
    for _ in 0..3 {
        sandboxes.push(fleet::warm(&world).await);
    }

    println!("a fleet of 500, of which one moves");
    let played = fleet::one_moves(&world, &mut sandboxes[0], 499).await;
    let answered = played.begin.elapsed().as_secs_f64();
    let registered = played.slowest_register().as_secs_f64();
    row("register, seconds", format!("{registered:.1}"), "4");
    row("describe calls", played.count("DescribeTargetHealth"), "80");
    row("answered, seconds", format!("{answered:.1}"), "20");

    println!("a fleet of 500, of which 167 move at once");
    let played = fleet::a_third_moves(&world, &mut sandboxes).await;
    let slowest = played.slowest_register().as_secs_f64();
    row("slowest register, seconds", format!("{slowest:.1}"), "75");
    let last = played.last_deregister().as_secs_f64();
    row("last old one gone, seconds", format!("{last:.1}"), "170");
    let share = 100.0 * played.refused_share();
    row("refused calls, %", format!("{share:.1}"), "5");
    row("invocations in error", played.errors.len(), "");
    let most = sandboxes.iter().map(memory).fold(0.0, f64::max);
    row(
        "memory of a sandbox at most, MiB",
        format!("{most:.1}"),
        "48",
    );
}

/// Returns the most memory that the sandbox had, in MiB.
fn memory(sandbox: &Sandbox) -> f64 {
    let Sandbox::Process(process) = sandbox else {
        panic!("no process");
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.expect("a number") / 1024.0
}

async fn world(groups: usize) -> World {
    let mut world = World::empty().await;
    world.ttl = 5;
    world.settle_many(groups, OLD);
    world
}

/// Returns the number of calls that a sandbox makes if it knows the group.
async fn idle(world: &World) -> usize {
    let mut sandbox = world.warm_sandbox().await;
    let answer = sandbox.schedule().await;
    answer.outcome.expect("an invocation that succeeded");
    world.aws.take_calls().len()
}

fn row(what: &str, measured: impl ToString, bound: &str) {
    println!("  {what:<42} {:>12} {bound:>12}", measured.to_string());
}
