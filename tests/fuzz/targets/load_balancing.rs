//! Feeds the function answers from Elastic Load Balancing to the four calls, and to those of a diagnosis.

use std::collections::BTreeSet;

use nlb_hostname_target::report::Report;
use stand_in::aws::Call;

use super::answers::Answer;
use super::described::Described;
use super::world::{NEW, block_on, moving};

const ACTIONS: [&str; 7] = [
    "DescribeLoadBalancerAttributes",
    "DescribeLoadBalancers",
    "DescribeTargetGroupAttributes",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "RegisterTargets",
    "DeregisterTargets",
];

/// Checks that, whatever ELB says, nothing is deregistered that ELB did not describe (I4), and nothing before ELB
/// acknowledged or described the new target (I2). The function reports success only for what succeeded (I9). A
/// diagnosis never fails and changes nothing (section 8). Once ELB answers truthfully again, the group is right (I5).
pub fn run(input: &[u8]) {
    let mut answers = Answer::read_all(input);
    answers.retain(|answer| ACTIONS.contains(&answer.action));
    block_on(async {
        let (world, function) = moving();
        Answer::inject_all(&answers, &world.aws);
        let outcome = function.schedule().await;
        let calls = world.aws.take_calls();
        let told = Told::by(&answers, &calls);
        told.assert_make_before_break();
        if let Ok(report) = &outcome {
            told.assert_truthful(report);
        }
        function.diagnose().await;
        let calls = world.aws.take_calls();
        assert!(!calls.iter().any(Call::is_change), "{calls:?}");

        world.aws.heal();
        let healed = function.schedule().await;
        if !answers.iter().any(is_believed_for_ever) {
            assert!(healed.is_ok(), "{healed:?} after {outcome:?}");
            let group = world.group();
            let is_live = group.contains(&format!("{NEW}:6379 initial"));
            assert!(is_live, "{group:?} after {outcome:?}");
        }
    });
}

/// Returns true if a sandbox believes the answer forever, because it describes only once what the group is.
fn is_believed_for_ever(answer: &Answer) -> bool {
    answer.action == "DescribeTargetGroups" && answer.status.is_success()
}

/// The calls of the function, and what they were told.
struct Told<'a> {
    answers: &'a [Answer<'a>],
    calls: &'a [Call],
    described: Described,
}

type Targets<'a> = BTreeSet<(&'a str, Option<u16>)>;

impl<'a> Told<'a> {
    fn by(answers: &'a [Answer<'a>], calls: &'a [Call]) -> Self {
        let mut described = Described::default();
        let told = answers
            .iter()
            .filter(|answer| answer.is_from_load_balancing());
        for answer in told.filter(|answer| answer.action == "DescribeTargetHealth") {
            described.read(answer.body);
        }
        let is_true = |call: &Call| call.action == "DescribeTargetHealth" && call.outcome == "Ok";
        if calls.iter().any(is_true) {
            described.read_truth();
        }
        Told {
            answers,
            calls,
            described,
        }
    }

    /// Returns true if ELB itself said that this call succeeded.
    fn is_acknowledged(&self, index: usize) -> bool {
        let given = Answer::given(self.answers, self.calls, index);
        given.map_or(
            self.calls[index].outcome == "Ok",
            Answer::is_from_load_balancing,
        )
    }

    /// Returns the targets of those calls of this action before `end` that ELB acknowledged.
    fn acknowledged(&self, action: &str, end: usize) -> Targets<'a> {
        let calls = self.calls[..end].iter().enumerate();
        let calls =
            calls.filter(|(index, call)| call.action == action && self.is_acknowledged(*index));
        targets(calls.map(|(_, call)| call))
    }

    fn assert_make_before_break(&self) {
        for (index, call) in self.calls.iter().enumerate() {
            if call.action != "DeregisterTargets" {
                continue;
            }
            let earlier = &self.calls[..index];
            let registered = self.acknowledged("RegisterTargets", index);
            let asked = targets(
                earlier
                    .iter()
                    .filter(|call| call.action == "RegisterTargets"),
            );
            // I2: after a register that failed, nothing is deregistered.
            assert_eq!(asked, registered, "{call:?} in spite of a failure");
            for (id, port) in targets([call]) {
                assert!(
                    self.described.names(id, port),
                    "{id} {port:?} out of the blue"
                );
            }
            // I2: no action ever leaves the group without a live target.
            let is_live = registered.iter().any(|(id, _)| is_new(id)) || self.described.has_live();
            assert!(is_live, "{call:?} with nothing new");
        }
    }

    fn assert_truthful(&self, report: &Report) {
        let last = |action: &&str| self.calls.iter().rposition(|call| call.action == *action);
        let mut last = ACTIONS.iter().filter_map(last);
        assert!(
            last.all(|index| self.is_acknowledged(index)),
            "{:?}",
            self.calls
        );
        let group = &report.target_groups[0];
        for (action, reported) in [
            ("RegisterTargets", &group.registered),
            ("DeregisterTargets", &group.deregistered),
        ] {
            let acknowledged = self.acknowledged(action, self.calls.len());
            for target in reported {
                let is_it = |(id, port): &(&str, _)| {
                    id.parse() == Ok(target.ip()) && *port == Some(target.port())
                };
                assert!(acknowledged.iter().any(is_it), "{target} is no {action}");
            }
        }
    }
}

/// Returns true if the endpoint is at this address now.
pub fn is_new(id: &str) -> bool {
    id == NEW || id.contains(':')
}

fn targets<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Targets<'a> {
    let targets = calls.into_iter().flat_map(|call| &call.targets);
    targets
        .map(|target| (target.id.as_str(), target.port))
        .collect()
}
