//! Tries each request of the fuzzers' corpus without libFuzzer.

#[path = "../../../tests/fuzz/targets/request.rs"]
mod request;

use std::fs::{read, read_dir};
use std::path::Path;

#[test]
fn no_request_of_the_corpus_does_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/request");
    let inputs: Vec<_> = read_dir(corpus).unwrap().collect();
    assert!(inputs.len() > 4);
    for input in inputs {
        let path = input.unwrap().path();
        println!("{}", path.display());
        request::run(&read(path).unwrap());
    }
}
