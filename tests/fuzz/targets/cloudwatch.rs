//! Feeds the function answers from CloudWatch to `PutMetricData`.

use nlb_hostname_target::error::Errors;
use nlb_hostname_target::report::Report;
use stand_in::aws::Call;
use stand_in::cloudwatch::Datum;

use super::answers::Answer;
use super::world::{NEW, OLD, block_on, moving};

/// Checks I10: whatever CloudWatch says, the group has moved, and the failover is counted in the
/// end unless CloudWatch took it or called it invalid (section 6).
pub fn run(input: &[u8]) {
    let mut answers = Answer::read_all(input);
    answers.retain(|answer| answer.action == "PutMetricData");
    block_on(async {
        let (world, function) = moving();
        Answer::inject_all(&answers, &world.aws);
        let outcome = function.schedule().await;
        let moved = [
            format!("{OLD}:6379 draining"),
            format!("{NEW}:6379 initial"),
        ];
        assert_eq!(world.group(), moved);
        let published = published(&world.aws.take_calls(), &answers);
        assert_truthful(&outcome, &published);

        if let Err(errors) = outcome {
            let is_lost = published.contains(&Published::Untruly) || is_invalid(&errors);
            world.aws.heal();
            let healed = function.schedule().await;
            assert!(healed.is_ok(), "{healed:?} after {errors}");
            let data = world.aws.take_data();
            assert!(
                is_lost || failovers(&data) == 1.0,
                "{data:?} after {errors}"
            );
        }
    });
}

/// The truth of what a call was told.
#[derive(Debug, PartialEq)]
enum Published {
    Truly,
    /// The call was told that it succeeded, though nothing took effect.
    Untruly,
    Not,
}

/// Returns what each publication was told, in order.
fn published(calls: &[Call], answers: &[Answer]) -> Vec<Published> {
    let told = |index| match Answer::given(answers, calls, index) {
        None => Published::Truly,
        Some(answer) if answer.is_from_cloudwatch() => Published::Untruly,
        Some(_) => Published::Not,
    };
    let publications = (0..calls.len()).filter(|index| calls[*index].action == "PutMetricData");
    publications.map(told).collect()
}

/// Checks I9: only publishing fails, and only if it really did.
fn assert_truthful(outcome: &Result<Report, Errors>, published: &[Published]) {
    match outcome {
        Ok(_) => assert!(
            published.last().is_some_and(|last| *last != Published::Not),
            "{published:?}"
        ),
        Err(errors) => {
            assert_eq!(errors.error_type(), "PublishFailed", "{errors}");
            let is_true = published.contains(&Published::Not);
            assert!(is_true, "{errors} after {published:?}");
        }
    }
}

/// Returns true if CloudWatch called the data invalid, since invalid data are dropped.
fn is_invalid(errors: &Errors) -> bool {
    let (message, words) = (errors.to_string(), ["Invalid", "Missing", "Validation"]);
    words.iter().any(|word| message.contains(word))
}

fn failovers(data: &[Datum]) -> f64 {
    let failovers = data.iter().filter(|datum| {
        let mut dimensions = datum.dimensions.iter();
        datum.metric == "Failover" && dimensions.any(|(name, _)| name == "FunctionName")
    });
    failovers.flat_map(|datum| &datum.samples).sum()
}
