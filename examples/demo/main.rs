//! Tells a story on a terminal: the real handler keeps a target group in step with a DNS name through a failover, a DNS
//! outage and a fail-back. It talks to the stand-ins of the tests, so no AWS account is needed. It ends with a failure
//! if any step did not hold.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anstream::println;
use anstyle::{AnsiColor, Style};
use lambda_runtime::Diagnostic;
use stand_in::aws::Call;
use stand_in::dns::{Answer, Asked, addresses, cname};
use stand_in::elb::{TargetDescription, TargetGroup};
use stand_in::world::{ARN, ENDPOINT, Function, World};
use tokio::time::{Instant, sleep};

/// The delay is long enough for the fail-back to come while the old target drains.
const DEREGISTRATION_DELAY: Duration = Duration::from_secs(30);
/// The TTL of the answers that are doubted. The story waits that long, and 8.5 s more.
const SHORT_TTL: u32 = 2;
/// The last drain is short, so that the story has an end.
const LAST_DEREGISTRATION_DELAY: Duration = Duration::from_secs(16);
/// The interval of the schedule. The story skips it.
const A_MINUTE: Duration = Duration::from_secs(60);
/// The pauses after a line and after a step, for somebody who reads along.
const LINE_PAUSE: Duration = Duration::from_millis(250);
const STEP_PAUSE: Duration = Duration::from_millis(2500);

const TITLE: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const NAME: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const LEAVING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

const QUIET: &[&str] = &["Failover 0", "ReconcileFailure 0", "NoHealthyTarget 0"];
const FAILOVER: &[&str] = &["Failover 1", "ReconcileFailure 0", "NoHealthyTarget 0"];
/// The plan was held back in one reconcile, while the only desired target drained, and believed in the next.
const FAIL_BACK: &[&str] = &["Failover 1", "ReconcileFailure 0", "NoHealthyTarget 1"];
const FAILURE: &[&str] = &["Failover 0", "ReconcileFailure 1"];

/// An event, and what the next reconcile must come to.
struct Step {
    title: &'static str,
    text: &'static str,
    happens: fn(&World),
    /// A text that says what the step shows.
    proof: &'static str,
    /// `success`, or the error's type.
    answer: &'static str,
    changes: &'static [&'static str],
    /// The metrics of the function that are published.
    published: &'static [&'static str],
    group: &'static [&'static str],
}

const STEPS: [Step; 6] = [
    Step {
        title: "The first registration",
        text: "The group is empty, and the endpoint is at node A, 10.0.1.7.",
        happens: |world| world.answer(cname("node-a.example.com")),
        proof: "the first target is registered, which is no failover",
        answer: "success",
        changes: &["RegisterTargets 10.0.1.7:6379"],
        published: QUIET,
        group: &["10.0.1.7:6379 healthy"],
    },
    Step {
        title: "A quiet minute",
        text: "Nothing moved: one description, and the metrics that say so.",
        happens: |_| (),
        proof: "nothing was changed",
        answer: "success",
        changes: &[],
        published: QUIET,
        group: &["10.0.1.7:6379 healthy"],
    },
    Step {
        title: "The failover",
        text: "The cluster promotes node B: the endpoint moves to 10.0.2.9.",
        happens: |world| world.answer(cname("node-b.example.com")),
        proof: "the new target was registered before the old one was deregistered",
        answer: "success",
        changes: &[
            "RegisterTargets 10.0.2.9:6379",
            "DeregisterTargets 10.0.1.7:6379",
        ],
        published: FAILOVER,
        group: &["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"],
    },
    Step {
        title: "A DNS outage",
        text: "The resolver answers SERVFAIL, which is no reason to send clients away.",
        happens: |world| world.answer(Answer::ServFail),
        proof: "nothing was changed, and the failure was counted and answered",
        answer: "ResolveFailed",
        changes: &[],
        published: FAILURE,
        group: &["10.0.1.7:6379 draining", "10.0.2.9:6379 healthy"],
    },
    Step {
        title: "The fail-back",
        text: "The endpoint returns to node A, whose target still drains. That may be a stale answer of a DNS\n   \
               cache: the function asks every second, and believes it once its TTL and a margin of 8.5 s are over.",
        happens: fail_back,
        proof: "the answer was believed in the end, and the draining target registered again",
        answer: "success",
        changes: &[
            "RegisterTargets 10.0.1.7:6379",
            "DeregisterTargets 10.0.2.9:6379",
        ],
        published: FAIL_BACK,
        group: &["10.0.1.7:6379 healthy", "10.0.2.9:6379 draining"],
    },
    Step {
        title: "The end of the drain",
        text: "Node B's target leaves by itself, and nothing is left to do.",
        happens: |_| (),
        proof: "the group is what DNS says",
        answer: "success",
        changes: &[],
        published: QUIET,
        group: &["10.0.1.7:6379 healthy"],
    },
];

/// Moves the endpoint back. The TTL is short, and so is the last drain.
fn fail_back(world: &World) {
    let (ttl, addresses) = (SHORT_TTL, vec![[10, 0, 1, 7].into()]);
    let answer = Answer::Addresses { ttl, addresses };
    world.zone.set("node-a.example.com", answer);
    world.answer(Answer::Cname {
        ttl,
        target: "node-a.example.com".to_owned(),
        is_split: false,
    });
    let change = |group: &mut TargetGroup| group.deregistration_delay = LAST_DEREGISTRATION_DELAY;
    world.aws.target_group(ARN, change);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut story = Story::begin().await;
    for (number, step) in (1..).zip(&STEPS) {
        println!(
            "\n{TITLE}{number}. {}{TITLE:#}\n   {}",
            step.title, step.text
        );
        (step.happens)(&story.world);
        if number == STEPS.len() {
            story.wait_for_the_drain().await;
        }
        let is_held = story.run(step).await;
        story.held.push(is_held);
    }
    story.end()
}

struct Story {
    world: World,
    function: Function,
    begin: Instant,
    held: Vec<bool>,
}

impl Story {
    async fn begin() -> Self {
        let world = World::empty().await;
        for (node, address) in [("node-a", "10.0.1.7"), ("node-b", "10.0.2.9")] {
            let name = format!("{node}.example.com");
            world.zone.set(&name, addresses([address]));
        }
        world.aws.target_group(ARN, |group| {
            group.registration_lag = Duration::ZERO;
            group.deregistration_delay = DEREGISTRATION_DELAY;
        });
        println!(
            "{TITLE}nlb-hostname-target{TITLE:#}: a target group follows {NAME}{ENDPOINT}{NAME:#}"
        );
        println!(
            "{FAINT}The real handler; DNS, ELB and CloudWatch are stand-ins on loopback, where an"
        );
        println!(
            "invocation comes at once and a target is healthy at once. A schedule invokes once a minute.{FAINT:#}"
        );
        Story {
            function: world.function_over_sockets(),
            world,
            begin: Instant::now(),
            held: Vec::new(),
        }
    }

    /// Invokes the function, shows what came of it, and returns true if that is what must be.
    async fn run(&self, expected: &Step) -> bool {
        self.world.clock.forward(A_MINUTE);
        let outcome = self.function.schedule().await;
        let (answer, detail) = match outcome {
            Ok(_) => ("success".to_owned(), String::new()),
            Err(errors) => {
                let Diagnostic {
                    error_type,
                    error_message,
                } = errors.into();
                (error_type, error_message)
            }
        };
        let (asked, calls) = (self.world.zone.take_asked(), self.world.aws.take_calls());
        self.show_timeline(&asked, &calls).await;
        let changes = calls.iter().filter(|call| !call.targets.is_empty());
        let changes: Vec<_> = changes.map(action).collect();
        let published = self.published();
        let group = self.world.group();
        line(&format!(
            "answered   {}",
            weighed(&answer, answer != "success")
        ))
        .await;
        if !detail.is_empty() {
            line(&format!("           {FAINT}{detail}{FAINT:#}")).await;
        }
        let data = published
            .iter()
            .map(|datum| weighed(datum, datum.ends_with('1')));
        let data: Vec<_> = data.collect();
        line(&format!("published  {}", data.join(", "))).await;
        line(&format!("the group  {}", coloured(&group))).await;
        line(&format!("clients    reach {}", serving(&group))).await;

        let is_held = answer == expected.answer
            && changes == expected.changes
            && published == expected.published
            && group == expected.group;
        show_verdict(is_held, expected);
        pause(STEP_PAUSE).await;
        is_held
    }

    async fn wait_for_the_drain(&self) {
        let is_draining = || {
            let group = self.world.group();
            group.iter().any(|target| target.ends_with("draining"))
        };
        println!(
            "   {FAINT}waiting for at most {} s{FAINT:#}",
            LAST_DEREGISTRATION_DELAY.as_secs()
        );
        while is_draining() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn show_timeline(&self, asked: &[Asked], calls: &[Call]) {
        let questions = asked.iter().map(|asked| {
            let question = format!("{} {} -> {}", asked.name, asked.record_type, asked.answer);
            (asked.at, "DNS", question)
        });
        let calls = calls.iter().map(|call| {
            let service = if call.data.is_empty() { "ELB" } else { "CW " };
            (
                call.at,
                service,
                format!("{} -> {}", action(call), call.outcome),
            )
        });
        let mut timeline: Vec<_> = questions.chain(calls).collect();
        timeline.sort_by_key(|(at, ..)| *at);
        let mut last = String::new();
        for (at, service, text) in timeline {
            let seconds = (at - self.begin).as_secs_f64();
            let again = match service {
                _ if text != last => "",
                "DNS" => ", asked again",
                _ => ", tried again",
            };
            line(&format!(
                "{FAINT}{seconds:7.3} s{FAINT:#}  {NAME}{service}{NAME:#}  {text}{again}"
            ))
            .await;
            last = text;
        }
    }

    /// Returns the sum of each metric of the function, in the order in which they came. A step can have data of two
    /// minutes.
    fn published(&self) -> Vec<String> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        let data = self.world.aws.take_data().into_iter();
        for datum in data.filter(|datum| datum.dimensions[0].0 == "FunctionName") {
            let sum: f64 = datum.samples.iter().sum();
            match sums.iter_mut().find(|(metric, _)| *metric == datum.metric) {
                Some((_, of_metric)) => *of_metric += sum,
                None => sums.push((datum.metric, sum)),
            }
        }
        sums.iter()
            .map(|(metric, sum)| format!("{metric} {sum}"))
            .collect()
    }

    fn end(self) -> ExitCode {
        println!();
        println!("{TITLE}Summary{TITLE:#}");
        for ((number, step), is_held) in (1..).zip(&STEPS).zip(&self.held) {
            let (style, word) = if *is_held {
                (GOOD, "held  ")
            } else {
                (BAD, "FAILED")
            };
            println!("   {style}{word}{style:#}  {number}. {}", step.title);
        }
        let held = self.held.iter().filter(|is_held| **is_held).count();
        let (steps, seconds) = (STEPS.len(), self.begin.elapsed().as_secs_f64());
        println!("   {held} of {steps} steps held, in {seconds:.1} s");
        if held < steps {
            return ExitCode::FAILURE;
        }
        println!();
        println!("The group followed the name through a failover and back, and stood still while");
        println!("DNS failed. Next: sam build && sam deploy --guided, as the README tells.");
        ExitCode::SUCCESS
    }
}

fn action(call: &Call) -> String {
    let target = |target: &TargetDescription| match target.port {
        Some(port) => format!("{}:{port}", target.id),
        None => target.id.clone(),
    };
    let words = std::iter::once(call.action.clone()).chain(call.targets.iter().map(target));
    words.collect::<Vec<_>>().join(" ")
}

/// Prints one line of a step, at a pace that can be read.
async fn line(text: &str) {
    println!("   {text}");
    pause(LINE_PAUSE).await;
}

/// Pauses only for somebody who reads along.
async fn pause(pause: Duration) {
    if std::io::stdout().is_terminal() {
        sleep(pause).await;
    }
}

fn coloured(group: &[String]) -> String {
    let coloured = |target: &String| {
        let style = if target.ends_with("draining") {
            LEAVING
        } else {
            GOOD
        };
        format!("{style}{target}{style:#}")
    };
    group.iter().map(coloured).collect::<Vec<_>>().join(", ")
}

/// Returns the targets that new connections go to.
fn serving(group: &[String]) -> String {
    let healthy = group
        .iter()
        .filter_map(|target| target.strip_suffix(" healthy"));
    healthy.collect::<Vec<_>>().join(", ")
}

fn weighed(text: &str, is_heavy: bool) -> String {
    if is_heavy {
        format!("{LEAVING}{text}{LEAVING:#}")
    } else {
        text.to_owned()
    }
}

fn show_verdict(is_held: bool, expected: &Step) {
    let Step {
        proof,
        answer,
        changes,
        published,
        group,
        ..
    } = expected;
    if is_held {
        println!("   {GOOD}ok:{GOOD:#} {proof}");
    } else {
        println!("   {BAD}it must be{BAD:#} {answer}, {changes:?}, {published:?}, {group:?}");
    }
}
