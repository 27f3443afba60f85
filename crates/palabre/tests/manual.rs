//! Checks that the manual pages agree with the programs.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod log_lines;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{palabre, sibling, stdout};
use palabre_config::{Key, Participant};
use palabre_testing::not_shown;

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
fn completion_script_of_every_shell_runs_palabre() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&palabre().args(["completions", shell]).output().unwrap());
        assert!(script.contains("COMPLETE") && script.contains("palabre"), "{shell}: {script}");
    }
}

/// Returns a bash(1) that reads lines of arguments from standard input, and prints for each line the completions of the command
/// `palabre --config DIR --run DIR/run` with these arguments.
fn completing_bash(directory: &Path) -> Command {
    const SCRIPT: &str = r#"
source <(palabre completions bash)
while read -r line; do
    read -ra words <<<"$line"
    [[ $line != *. ]] || words[-1]=
    COMP_WORDS=(palabre --config "$1" --run "$1/run" "${words[@]}") COMP_CWORD=$((${#words[@]} + 4)) COMP_TYPE=9 COMPREPLY=()
    _clap_complete_palabre palabre "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "$line -> ${COMPREPLY[*]//$'\013'/ }"
done"#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", SCRIPT, "bash"]).arg(directory);
    let programs = sibling("palabre").parent().unwrap().to_owned();
    bash.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bash
}

/// Returns the standard output of a bash(1) with this standard input. Standard error must be empty.
fn typed(mut bash: Command, lines: &str) -> Option<String> {
    let mut child = bash.spawn().ok()?;
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Some(stdout(&output))
}

#[test]
fn bash_completes_names_of_participants_and_rooms_and_is_silent_without_permission() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("participants.d")).unwrap();
    std::fs::create_dir_all(path.join("run/rooms/workshop")).unwrap();
    for name in ["alice", "bob"] {
        let mut participant = Participant::new(name.parse().unwrap(), 0, Key::generate().unwrap().hash());
        participant.room = "den".parse().unwrap();
        participant.write(path).unwrap();
    }
    // In these lines, a full stop stands for an empty last word.
    let lines = "mute a\nrestart .\nrevoke alice b\nmove alice w\ninvite --room .\nstat\nrevoke --j\n";
    let shown = typed(completing_bash(path), lines).unwrap();
    let flags = "--all --json --help --config --run --verbose";
    let expected = format!(
        "mute a -> alice\nrestart . -> alice bob mixer supervisor {flags}\nrevoke alice b -> bob\nmove alice w -> workshop\n\
         invite --room . -> den workshop\nstat -> status\nrevoke --j -> --json\n"
    );
    assert_eq!(shown, expected);
    let mut other = completing_bash(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    match typed(
        {
            other.uid(54_321).gid(54_321);
            other
        },
        "mute a\ninvite --room .\n",
    ) {
        None => not_shown("completion without permission", "this user can't run a program as another user"),
        Some(shown) => assert_eq!(shown, "mute a -> \ninvite --room . -> \n"),
    }
}

#[test]
fn page_of_a_daemon_has_every_flag() {
    const SECTIONS: [&str; 9] =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SIGNALS", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"];
    for program in [
        "palabre-mixer",
        "palabre-listener",
        "palabre-recorder",
        "palabre-bridge",
        "palabre-signer",
        "palabre-launcher",
        "palabre-supervisor",
        "palabre-exporter",
    ] {
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
