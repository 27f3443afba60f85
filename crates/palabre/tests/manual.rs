//! The manual pages say what the programs say.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use common::{palabre, stdout};

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man")
}

/// To write the page anew: `cargo run -p palabre -- man --out docs/man`.
#[test]
fn the_page_of_the_command_is_the_one_it_prints() {
    let printed = stdout(&palabre().arg("man").output().unwrap());
    let kept = std::fs::read_to_string(pages().join("palabre.1")).unwrap();
    assert!(printed == kept, "docs/man/palabre.1 is out of date: cargo run -p palabre -- man --out docs/man");
}

#[test]
fn completions_exist_for_every_shell_and_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&palabre().args(["completions", shell]).output().unwrap());
        for word in ["status", "restart", "invite", "revoke", "try", "first-port", "new-key"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
