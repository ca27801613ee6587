//! Runs DNS, Elastic Load Balancing and CloudWatch for the function that the SAM CLI invokes. It obeys lines on
//! standard input. The first line is the setting, in JSON: an endpoint, a target group's ARN, and the address that both
//! have. Standard output answers it with the variables by which the stand-ins are found. After that, `point ADDRESS`
//! moves the endpoint, and `saw` answers with everything that the stand-ins have seen since the last time.

use serde_json::{Value, json};
use stand_in::dns::addresses;
use stand_in::world::{PORT, World};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = stand_in::commands();
    let setting = lines.recv().await.expect("a setting");
    let setting: Value = serde_json::from_str(&setting).expect("the setting in JSON");
    let text = |name: &str| setting[name].as_str().expect("a text in the setting");
    let (endpoint, arn) = (text("endpoint"), text("targetGroupArn"));

    let mut world = World::empty().await;
    world.follow([(endpoint, arn)]);
    world.zone.set(endpoint, addresses([text("address")]));
    world.aws.settle(arn, text("address"), PORT);
    println!("{}", json!(world.variables));

    while let Some(line) = lines.recv().await {
        match line.split_once(' ') {
            Some(("point", address)) => world.zone.set(endpoint, addresses([address])),
            None if line == "saw" => println!("{}", saw(&world, arn)),
            _ => panic!("{line} is no command"),
        }
    }
}

fn saw(world: &World, arn: &str) -> Value {
    let calls = world.aws.take_calls();
    let changes = calls.iter().filter(|call| call.is_change());
    let changes: Vec<_> = changes.map(ToString::to_string).collect();
    let calls: Vec<_> = calls.iter().map(|call| &call.action).collect();
    json!({
        "lookups": world.zone.take_asked().len(),
        "calls": calls,
        "changes": changes,
        "published": world.data(),
        "put": world.aws.take_answers().len(),
        "group": world.aws.summary(arn),
    })
}
