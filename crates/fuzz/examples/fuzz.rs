//! Runs the fuzz targets on stable Rust: `scripts/fuzz [EXECUTIONS] [TARGET]…`. An input that makes a target panic is written to `target/fuzz`.
#![allow(clippy::print_stdout)]

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::time::Duration;

use palabre_fuzz::{TARGETS, driver};

/// Minimum duration of an execution that is reported as slow.
const SLOW: Duration = Duration::from_millis(20);

thread_local! {
    static INPUT: RefCell<(&'static str, Vec<u8>)> = const { RefCell::new(("", Vec::new())) };
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let count = arguments.peek().and_then(|count| count.parse().ok());
    arguments.next_if(|_| count.is_some());
    let chosen: Vec<String> = arguments.collect();
    fs::create_dir_all("target/fuzz")?;
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        INPUT.with_borrow(|(target, input)| {
            let path = format!("target/fuzz/panic-{target}");
            println!("{target}: a panic; the input is in '{path}': {:?}", fs::write(&path, input));
        });
        default(panic);
    }));
    println!("| target | executions | seconds | slowest in ms |\n| --- | --- | --- | --- |");
    for target in TARGETS.iter().filter(|target| chosen.is_empty() || chosen.iter().any(|name| name == target.name)) {
        let before = |input: &[u8]| {
            INPUT.with_borrow_mut(|kept| {
                kept.0 = target.name;
                kept.1.clear();
                kept.1.extend_from_slice(input);
            });
        };
        let slow = |input: &[u8], took| {
            if took > SLOW {
                let path = format!("target/fuzz/slow-{}", target.name);
                println!("{}: {took:?}; the input is in '{path}': {:?}", target.name, fs::write(&path, input));
            }
        };
        let outcome = driver::run(target, count.unwrap_or(100_000), before, slow)?;
        let (seconds, slowest) = (outcome.time.as_secs_f64(), outcome.slowest.as_secs_f64() * 1000.0);
        println!("| {} | {} | {seconds:.0} | {slowest:.2} |", target.name, outcome.executions);
    }
    Ok(())
}
