//! The manual pages say what the programs say.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod log_lines;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{palabre, sibling, stdout};

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

#[test]
fn every_flag_of_a_daemon_is_in_its_page() {
    const SECTIONS: [&str; 9] =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SIGNALS", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"];
    for program in ["palabre-mixer", "palabre-listener", "palabre-recorder", "palabre-supervisor", "palabre-exporter"] {
        let help = stdout(&Command::new(sibling(program)).arg("--help").output().unwrap());
        let page = std::fs::read_to_string(pages().join(format!("{program}.8"))).unwrap();
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        assert_eq!(sections, SECTIONS, "{program}");
        let page = page.replace("\\-", "-");
        // Indented by clap: `-v, --verbose...`, `--rooms <DIR>`.
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
fn every_program_has_a_page_and_every_page_is_known() {
    let text = std::fs::read_to_string(pages().join("palabre.7")).unwrap().replace("\\-", "-");
    for page in std::fs::read_dir(pages()).unwrap().map(Result::unwrap) {
        let file = page.file_name().into_string().unwrap();
        let (name, section) = file.rsplit_once('.').unwrap();
        assert!(text.contains(&format!("{name} ({section})")) || file == "palabre.7", "{file} is not in palabre.7");
    }
}
