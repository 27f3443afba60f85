//! A short run of each target.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_fuzz::{TARGETS, driver};

/// Number of executions of each target. They take less than a second in a debug build.
const EXECUTIONS: u64 = 2_000;

#[test]
fn no_input_makes_a_parser_panic() {
    std::thread::scope(|scope| {
        for target in &TARGETS {
            scope.spawn(move || {
                let mut last = Vec::new();
                let run = || {
                    driver::run(target, EXECUTIONS, |input| last = input.to_vec(), |_, _| {}).unwrap();
                };
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                    panic!("'{}' panics at {:?}", target.name, String::from_utf8_lossy(&last));
                }
            });
        }
    });
}

/// Changed copies of an invalid file would test only the beginning of a parser.
#[test]
fn each_file_of_a_corpus_is_valid() {
    let mut invalid = Vec::new();
    for target in &TARGETS {
        for entry in std::fs::read_dir(driver::corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            if !(target.run)(&std::fs::read(&path).unwrap()) {
                invalid.push(path);
            }
        }
    }
    assert_eq!(invalid, Vec::<std::path::PathBuf>::new());
}

#[test]
fn cargo_fuzz_has_the_same_targets() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
    let mut found: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut expected: Vec<_> = TARGETS.iter().map(|target| format!("{}.rs", target.name).into()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected as Vec<std::ffi::OsString>);
}
