//! The texts that `palabre try` prints to standard output. Only the lines with links contain `https://`, so programs can find them.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;

use crate::options::Options;
use crate::roster::Entry;
use crate::trial_dir::TrialDir;

/// Prints from which machines browsers can connect. Called before the listeners are ready.
pub(crate) fn starting(addresses: &[IpAddr], participants: usize) {
    match addresses.split_first() {
        None => print("A trial room, for this machine only.\n"),
        Some((first, others)) => {
            print(&format!("A trial room, for all machines that can reach {first}."));
            if !others.is_empty() {
                let others: Vec<String> = others.iter().map(IpAddr::to_string).collect();
                print(&format!("The links also work with these addresses: {}", others.join(", ")));
            }
            print("Anyone with a link can join and listen.\n");
        }
    }
    if participants > 2 {
        print("Every page except the first joins with its microphone off.\n");
    }
}

/// Prints the link of a participant whose listener is ready. The display name is padded to `width` characters.
pub(crate) fn link(entry: &Entry, width: usize, link: &str, qr: Option<String>) {
    print(&format!("  {:width$}  {link}", entry.display_name));
    if let Some(qr) = qr.filter(|_| io::stdout().is_terminal()) {
        print(&format!("\n{qr}"));
    }
}

/// Prints instructions for the user. Called when all listeners are ready.
pub(crate) fn ready(trial: &TrialDir, options: &Options, opens_windows: bool) {
    let mut lines = vec![String::new()];
    if opens_windows {
        lines.push("Each link opens in its own window, which trusts the certificate.".to_owned());
    } else {
        lines.push("Open each link in its own browser window. On the page, join and allow the microphone.".to_owned());
        lines.push(
            "If the browser warns that it doesn't know the certificate, choose Advanced, then Proceed.".to_owned(),
        );
    }
    if !options.no_voices {
        lines.push("While only one participant listens, a melody plays and an echo repeats their speech.".to_owned());
    }
    lines.push(String::new());
    lines.push(format!("Warnings appear here; the full log is in {}", trial.log().display()));
    let end = match trial.is_temporary() {
        true => "Ctrl-C ends the trial and removes all its files.",
        false => "Ctrl-C ends the trial and keeps its access keys and its certificate for the next trial.",
    };
    lines.push(end.to_owned());
    print(&lines.join("\n"));
}

/// Prints the name of a machine, above the links of its participants.
pub(crate) fn machine(name: &str) {
    print(&format!("{name}:"));
}

/// Prints what a trial of several machines is. Called before the listeners are ready.
pub(crate) fn machines_starting(count: usize) {
    print(&format!("A trial room on {count} machines, simulated on this computer.\n"));
}

/// Prints instructions for a room on several machines. Called when all listeners are ready.
pub(crate) fn machines_ready(logs: &[std::path::PathBuf]) {
    let mut lines = vec![
        String::new(),
        "Open each link in its own browser window. On the page, join and allow the microphone.".to_owned(),
        "If the browser warns that it doesn't know the certificate, choose Advanced, then Proceed.".to_owned(),
        "While only one participant of the first machine listens, a melody plays, on all machines.".to_owned(),
        String::new(),
        "Warnings appear here; the full logs are in".to_owned(),
    ];
    lines.extend(logs.iter().map(|log| format!("  {}", log.display())));
    lines.push("Ctrl-C ends the trial and removes all its files.".to_owned());
    print(&lines.join("\n"));
}

/// Prints that the trial is ending.
pub(crate) fn ending() {
    if io::stdout().is_terminal() {
        print("\nEnding.");
    }
}

/// Prints a line to standard output. Errors are ignored, because a closed terminal must not prevent the cleanup.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
