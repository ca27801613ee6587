//! What the fuzzers begin with, and what did harm once: each input of `tests/fuzz/corpus` is tried without libFuzzer.

#[path = "../fuzz/targets/answers.rs"]
mod answers;
#[path = "../fuzz/targets/cloudwatch.rs"]
mod cloudwatch;
#[path = "../fuzz/targets/config.rs"]
mod config;
#[path = "../fuzz/targets/described.rs"]
mod described;
#[path = "../fuzz/targets/dns.rs"]
mod dns;
#[path = "../fuzz/targets/event.rs"]
mod event;
#[path = "../fuzz/targets/load_balancing.rs"]
mod load_balancing;
#[path = "../fuzz/targets/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::path::Path;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 5] = [
    ("cloudwatch", cloudwatch::run),
    ("config", config::run),
    ("dns", dns::run),
    ("event", event::run),
    ("load_balancing", load_balancing::run),
];

#[test]
fn no_input_of_the_corpus_does_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = |path: &Path| {
        let entries = read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<BTreeSet<_>>()
    };
    let folders = entries(&corpus);
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| corpus.join(name)).collect();
    assert_eq!(folders, names, "each kind of input has its target");
    for (name, run) in TARGETS {
        for input in entries(&corpus.join(name)) {
            println!("{}", input.display());
            run(&std::fs::read(&input).unwrap());
        }
    }
}
