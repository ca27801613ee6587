//! Tries each input of `tests/fuzz/corpus` without libFuzzer. The fuzzers begin with some of them, and the others once
//! did harm.

#[path = "../fuzz/targets/all.rs"]
mod all;

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::path::Path;

#[test]
fn no_input_of_the_corpus_does_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = |path: &Path| {
        let entries = read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<BTreeSet<_>>()
    };
    let folders = entries(&corpus);
    // The tests of the front door try the requests.
    let names = all::TARGETS.iter().map(|(name, _)| *name);
    let names = names.chain(["request"]);
    let names: BTreeSet<_> = names.map(|name| corpus.join(name)).collect();
    assert_eq!(folders, names, "each kind of input has its target");
    for (name, run) in all::TARGETS {
        for input in entries(&corpus.join(name)) {
            println!("{}", input.display());
            run(&std::fs::read(&input).unwrap());
        }
    }
}
