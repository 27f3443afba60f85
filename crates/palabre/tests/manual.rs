//! Checks that the manual pages agree with the programs.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod log_lines;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{palabre, sibling, stdout};

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man")
}

/// If this test fails, update docs/man/palabre.1 with `cargo run -p palabre -- man --out docs/man`.
#[test]
fn page_in_docs_is_the_printed_one() {
    let printed = stdout(&palabre().arg("man").output().unwrap());
    let kept = std::fs::read_to_string(pages().join("palabre.1")).unwrap();
    assert!(printed == kept, "docs/man/palabre.1 is out of date: cargo run -p palabre -- man --out docs/man");
}

#[test]
fn completions_of_every_shell_have_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&palabre().args(["completions", shell]).output().unwrap());
        for word in ["status", "restart", "invite", "revoke", "try", "first-port", "new-key"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn page_of_a_daemon_has_every_flag() {
    const SECTIONS: [&str; 9] =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SIGNALS", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"];
    for program in ["palabre-mixer", "palabre-listener", "palabre-recorder", "palabre-supervisor", "palabre-exporter"] {
        let help = stdout(&Command::new(sibling(program)).arg("--help").output().unwrap());
        let page = std::fs::read_to_string(pages().join(format!("{program}.8"))).unwrap();
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        assert_eq!(sections, SECTIONS, "{program}");
        let page = page.replace("\\-", "-");
        // The lines of clap's help that describe flags look like `  -v, --verbose...` and `      --rooms <DIR>`.
        let flags = help.lines().filter(|line| line.trim_start().starts_with('-'));
        let flags: Vec<&str> =
            flags.filter_map(|line| line.split([' ', '.']).find(|word| word.starts_with("--"))).collect();
        assert!(flags.contains(&"--help") && flags.len() > 3, "{flags:?}");
        for flag in flags {
            assert!(page.contains(flag), "docs/man/{program}.8 doesn't have {flag}");
        }
    }
}

#[test]
fn palabre_7_lists_every_page() {
    let text = std::fs::read_to_string(pages().join("palabre.7")).unwrap().replace("\\-", "-");
    for page in std::fs::read_dir(pages()).unwrap().map(Result::unwrap) {
        let file = page.file_name().into_string().unwrap();
        let (name, section) = file.rsplit_once('.').unwrap();
        assert!(text.contains(&format!("{name} ({section})")) || file == "palabre.7", "{file} is not in palabre.7");
    }
}
