//! `palabre completions` and `palabre man`: both made from the command line's own definition.
//!
//! The page is made of what clap knows (every subcommand with every flag) and of what only we know (`manual.roff`: what
//! the status means, files, exit codes). docs/man/palabre.1 is this page; a test holds it to that.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use palabre_host::exit::Failure;

use crate::cli::Cli;
use crate::output::print;

/// The sections that clap can't know.
const BY_HAND: &str = include_str!("manual.roff");

/// Prints the completions for `shell`.
///
/// # Errors
/// Standard output can't be written.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "palabre", &mut script);
    print(&script)
}

/// Prints the manual page, or writes it into the directory `out`.
///
/// # Errors
/// The page can't be written.
pub fn page(out: Option<&Path>) -> Result<(), Failure> {
    let page = render().map_err(Failure::system)?;
    let Some(directory) = out else { return print(page) };
    let path = directory.join("palabre.1");
    std::fs::write(&path, page)
        .map_err(|error| Failure::system(format!("unable to write '{}': {error}", path.display())))
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
    let (description, rest) = BY_HAND.split_once(".SH STATUS").unwrap_or((BY_HAND, ""));
    page.extend(description.bytes());
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        page.extend(subcommand(command)?.bytes());
    }
    writeln!(page, ".SH STATUS{}", rest.trim_end())?;
    Ok(String::from_utf8_lossy(&page).lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

/// A subcommand as a subsection: usage, what it does, its own options, its examples.
fn subcommand(command: &Command) -> io::Result<String> {
    let own = command.clone().mut_args(|argument| {
        let hidden = argument.is_global_set() || argument.get_id() == "help";
        argument.hide(hidden)
    });
    let man = Man::new(own.after_help(""));
    let mut text = format!(".SS palabre {}\n", command.get_name()).into_bytes();
    for render in [Man::render_synopsis_section, Man::render_description_section, Man::render_options_section] {
        render(&man, &mut text)?;
    }
    let mut text = without_headings(&String::from_utf8_lossy(&text));
    if let Some(examples) = command.get_after_help() {
        text.push_str(&format!(".PP\n.nf\n{}\n.fi\n", escaped(&examples.to_string())));
    }
    Ok(text)
}

/// In a subsection, the sections of a page are paragraphs.
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
    fn every_command_and_every_flag_is_in_the_page() {
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
