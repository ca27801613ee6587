//! Searches for a sequence in which the function does harm. The real handler, the real SDK and the real resolver run in
//! virtual time, through failovers, faults and lost sandboxes that are drawn from a number. If a sequence breaks a
//! promise, its number is enough to see the sequence again, made as small as it gets.

mod check;
mod fault;
mod figures;
mod history;
mod log;
mod network;
mod play;
mod sequence;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

use proptest::strategy::ValueTree;
use proptest::test_runner::{TestCaseError, TestError};

use check::{Stories, Violation, check};
use figures::{FULL_RUN, Figures};
use history::Entry;
use play::play;
use sequence::Sequence;

/// The number of sequences between two lines about the progress of a long simulation.
const A_WHILE: u64 = 10_000;
/// One in this many sequences is played twice, to check that it comes out the same.
const PLAYED_TWICE: u64 = 100;

struct Arguments {
    first: u64,
    sequences: u64,
    /// The story of a violation is told without making it smaller.
    is_brief: bool,
    /// The promises to look for, or parts of the texts of their violations. Without any, all violations count.
    only: Vec<String>,
}

impl Arguments {
    /// Parses the command line. Returns `None` if another test is asked for by its name.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut arguments = Arguments {
            first: 0,
            sequences: FULL_RUN,
            is_brief: false,
            only: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("sequences") => arguments.sequences = parser.value()?.parse()?,
                Long("first") => arguments.first = parser.value()?.parse()?,
                Long("replay") => {
                    (arguments.first, arguments.sequences) = (parser.value()?.parse()?, 1);
                }
                Long("only") => arguments.only.push(parser.value()?.string()?),
                Long("brief") => arguments.is_brief = true,
                Value(_) => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(arguments))
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("no sequence: a test of another name is asked for");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!(
                "{error}; there are --sequences N, --first N, --replay N, --only PROMISE and --brief"
            );
            return ExitCode::FAILURE;
        }
    };
    log::init();
    let begin = Instant::now();
    let (figures, violated) = search(&arguments);
    println!("{figures}\ntook         {:.0?}", begin.elapsed());
    let missing = match figures.sequences >= FULL_RUN {
        true => figures.missing(),
        false => Vec::new(),
    };
    for missing in &missing {
        println!("NOT OFTEN ENOUGH  {missing}");
    }
    let is_kept = violated.is_none();
    match violated {
        None => println!("violations   0"),
        Some(violated) => tell(violated, &arguments),
    }
    match is_kept && missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A sequence that breaks a promise, and what happened when it was first played.
struct Violated {
    number: u64,
    history: Vec<Entry>,
    violation: Violation,
}

/// Plays the sequences on all cores, up to the first one that breaks a promise.
fn search(arguments: &Arguments) -> (Figures, Option<Violated>) {
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first + arguments.sequences;
    scope(|scope| {
        let cores = available_parallelism().map_or(1, usize::from);
        let players = (0..cores).map(|_| scope.spawn(|| play_on(&next, end, &arguments.only)));
        let players: Vec<_> = players.collect();
        let (mut figures, mut violated) = (Figures::default(), Vec::new());
        for player in players {
            let found = player.join().expect("panics are caught");
            figures.merge(found.0);
            violated.extend(found.1);
        }
        let first = violated.into_iter().min_by_key(|violated| violated.number);
        (figures, first)
    })
}

/// Plays one sequence after the other, until one of them breaks a promise.
fn play_on(next: &AtomicU64, end: u64, only: &[String]) -> (Figures, Option<Violated>) {
    let mut figures = Figures::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return (figures, None);
        }
        if (number + 1).is_multiple_of(A_WHILE) {
            eprintln!("sequence {number}");
        }
        let sequence = Sequence::tree(number).0.current();
        let (history, outcome, stories) = examine(&sequence, number, only);
        figures.add(&sequence.setting, &history, stories);
        if let Err(violation) = outcome {
            next.fetch_max(end, Ordering::Relaxed);
            let violated = Violated {
                number,
                history,
                violation,
            };
            return (figures, Some(violated));
        }
    }
}

/// Plays the sequence. Returns what happened, and the promise that was not kept, if there is one.
fn examine(
    sequence: &Sequence,
    number: u64,
    only: &[String],
) -> (Vec<Entry>, Result<(), Violation>, Stories) {
    let play = || catch_unwind(AssertUnwindSafe(|| play(sequence, number)));
    let broken = |promise, text: &str| Violation {
        promise,
        text: text.to_owned(),
        at: Duration::MAX,
    };
    let Ok(history) = play() else {
        return (
            Vec::new(),
            Err(broken("no panic", "it panicked")),
            Stories::new(),
        );
    };
    let (outcome, stories) = check(&sequence.setting, &history, only);
    let is_played_twice = number.is_multiple_of(PLAYED_TWICE);
    if is_played_twice
        && play().ok().map(|again| story::lines(&again)) != Some(story::lines(&history))
    {
        return (
            history,
            Err(broken(
                "replay",
                "it came out otherwise when it was played again",
            )),
            stories,
        );
    }
    (history, outcome, stories)
}

/// Prints the story of a violation, made as small as it gets.
fn tell(violated: Violated, arguments: &Arguments) {
    let number = violated.number;
    let examine = |sequence: &Sequence| {
        let (history, outcome, _) = examine(sequence, number, &arguments.only);
        (history, outcome)
    };
    let (tree, mut runner) = Sequence::tree(number);
    let mut sequence = tree.current();
    let (history, outcome) = examine(&sequence);
    let Err(found) = outcome else {
        let Violation { promise, text, .. } = &violated.violation;
        println!(
            "VIOLATION    {promise} in sequence {number}, and not when it was played again: {text}"
        );
        let found = Some(&violated.violation);
        return println!(
            "{}",
            story::tell(&sequence.setting, &violated.history, found)
        );
    };
    println!(
        "VIOLATION    {} in sequence {number}: {}",
        found.promise, found.text
    );
    if arguments.is_brief {
        let story = story::tell(&sequence.setting, &history, Some(&found));
        return println!("{story}");
    }
    println!("making it smaller");
    let is_kept = |sequence: Sequence| match examine(&sequence).1 {
        Err(violation) if violation.promise == found.promise => {
            Err(TestCaseError::fail(violation.text))
        }
        _ => Ok(()),
    };
    if let Err(TestError::Fail(_, smallest)) = runner.run_one(tree, is_kept) {
        sequence = smallest;
    }
    let (history, outcome) = examine(&sequence);
    println!(
        "{}",
        story::tell(&sequence.setting, &history, outcome.as_ref().err())
    );
    println!("again: cargo test --workspace --test simulation -- --replay {number}");
}
