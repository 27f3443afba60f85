//! `palabre completions` and `palabre man`.
//!
//! The manual page combines the command line's definition (every subcommand with its flags) with `manual.roff` (the other sections).
//! docs/man/palabre.1 is a copy, which a test compares.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;
use palabre_host::exit::Failure;

use crate::cli::Cli;
use crate::output::{print, replace};

/// The sections of palabre(1) that are not generated from the command line's definition.
const SECTIONS: &str = include_str!("manual.roff");

/// Prints the completion script for `shell`. The script runs `palabre` with the variable COMPLETE, which prints the candidates.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    const PROGRAM: &str = "palabre";
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string());
    let completer = completer.ok_or_else(|| Failure::refused(format!("no completions for '{shell}'")))?;
    completer.write_registration("COMPLETE", PROGRAM, PROGRAM, PROGRAM, &mut script).map_err(Failure::system)?;
    if shell == Shell::Zsh {
        // zsh runs the file as the function _palabre for the first completion (zshcompsys(1)), which must have candidates too.
        script.extend(b"if [[ $funcstack[1] == _palabre ]]; then _clap_dynamic_completer_palabre \"$@\"; fi\n");
    }
    print(&script)
}

/// Prints the manual page palabre(1), or writes it into the directory `out`.
pub(crate) fn page(out: Option<&Path>) -> Result<(), Failure> {
    let page = render().map_err(Failure::system)?;
    let Some(directory) = out else { return print(page) };
    let path = directory.join("palabre.1");
    replace(&path, &page)
}

fn render() -> io::Result<String> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).title("PALABRE").manual("Palabre").source("palabre").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    writeln!(
        page,
        ".SH SYNOPSIS\n\\fBpalabre\\fR [\\fB\\-\\-config\\fR \\fIDIR\\fR] [\\fB\\-\\-run\\fR \\fIDIR\\fR] [\\fB\\-v\\fR] \\fICOMMAND\\fR"
    )?;
    let (description, rest) = SECTIONS.split_once(".SH STATUS").unwrap_or((SECTIONS, ""));
    page.extend(description.bytes());
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        page.extend(subcommand(command)?.bytes());
    }
    writeln!(page, ".SH STATUS{}", rest.trim_end())?;
    Ok(String::from_utf8_lossy(&page).lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

/// Renders a subcommand as a subsection: usage, description, options, examples.
fn subcommand(command: &Command) -> io::Result<String> {
    let own = command.clone().mut_args(|argument| {
        let hidden = argument.is_global_set() || argument.get_id() == "help";
        argument.hide(hidden)
    });
    let man = Man::new(own.after_help(""));
    let mut synopsis = Vec::new();
    man.render_synopsis_section(&mut synopsis)?;
    let mut text = format!(".SS palabre {}\n", command.get_name()).into_bytes();
    text.extend(with_values(&String::from_utf8_lossy(&synopsis), command).bytes());
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut text = without_headings(&String::from_utf8_lossy(&text));
    if let Some(examples) = command.get_after_help() {
        text.push_str(&format!(".PP\n.nf\n{}\n.fi\n", escaped(&examples.to_string())));
    }
    Ok(text)
}

/// Adds to a synopsis what clap_mangen omits: the values of options, and `...` after an argument that may have several values.
fn with_values(synopsis: &str, command: &Command) -> String {
    let mut text = synopsis.to_owned();
    for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
        let values: Vec<&str> =
            argument.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
        let values = values.join(" ");
        if let Some(long) = argument.get_long() {
            let flag = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
            text = text.replace(&format!("{flag}]"), &format!("{flag} \\fI{values}\\fR]"));
        } else if argument.get_num_args().is_some_and(|range| range.max_values() > 1) {
            for (open, close) in [('<', '>'), ('[', ']')] {
                let one = format!("{open}\\fI{values}\\fR{close}");
                text = text.replace(&one, &format!("{one}..."));
            }
        }
    }
    text
}

/// Replaces section headings by paragraph breaks, since the text becomes part of a subsection.
fn without_headings(text: &str) -> String {
    text.lines().map(|line| if line.starts_with(".SH") { ".PP\n".to_owned() } else { format!("{line}\n") }).collect()
}

fn escaped(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    escaped
        .lines()
        .map(|line| if line.starts_with('.') { format!("\\&{line}\n") } else { format!("{line}\n") })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn page_is_replaced_atomically() {
        let directory = tempfile::tempdir().unwrap();
        let (path, previous) = (directory.path().join("palabre.1"), directory.path().join("previous"));
        std::fs::write(&path, "previous").unwrap();
        // A hard link shows whether the file was replaced or overwritten in place.
        std::fs::hard_link(&path, &previous).unwrap();
        page(Some(directory.path())).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains(".TH"));
        assert_eq!(std::fs::read_to_string(&previous).unwrap(), "previous");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn synopsis_shows_the_values_of_options_and_arguments_with_several_values() {
        let page = render().unwrap();
        assert!(page.contains("\\fBpalabre man\\fR [\\fB\\-\\-out\\fR \\fIDIR\\fR]\n"));
        assert!(page.contains("\\fBpalabre move\\fR <\\fINAME\\fR>... <\\fIROOM\\fR>\n"));
    }

    #[test]
    fn page_has_every_command_and_every_flag() {
        let page = render().unwrap().replace("\\-", "-");
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let section = page.split(&format!(".SS palabre {}\n", command.get_name())).nth(1);
            let section = section.unwrap_or_else(|| panic!("no 'palabre {}'", command.get_name()));
            let section = section.split(".SS ").next().unwrap();
            for flag in command.get_arguments().filter(|flag| !flag.is_global_set()).filter_map(clap::Arg::get_long) {
                assert!(flag == "help" || section.contains(&format!("--{flag}")), "{}: --{flag}", command.get_name());
            }
        }
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{flag}")), "--{flag}");
        }
    }
}
