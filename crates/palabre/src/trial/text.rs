//! What `palabre try` says. The links are the only lines with `https://` in them.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;

use super::place::Place;
use super::roster::Person;
use crate::cli::Try;
use crate::qr;

/// Before anything answers.
pub fn beginning(addresses: &[IpAddr], people: usize) {
    match addresses.split_first() {
        None => say("A room to try, on this machine only.\n"),
        Some((first, others)) => {
            say(&format!("A room to try, for every machine that reaches this one as {first}."));
            if !others.is_empty() {
                let others: Vec<String> = others.iter().map(IpAddr::to_string).collect();
                say(&format!("The links work with these addresses too: {}", others.join(", ")));
            }
            say("Who has a link can come in and listen.\n");
        }
    }
    if people > 2 {
        say("Every page but the first joins with its microphone off.\n");
    }
}

/// Somebody's page answers; the names stand in a column of this width.
pub fn link(person: &Person, width: usize, link: &str, with_code: bool) {
    say(&format!("  {:width$}  {link}", person.display_name));
    if with_code
        && io::stdout().is_terminal()
        && let Some(code) = qr::terminal(link)
    {
        say(&format!("\n{code}"));
    }
}

/// Everybody's page answers.
pub fn ready(place: &Place, options: &Try, windows: bool) {
    let mut lines = vec![String::new()];
    if windows {
        lines.push("Each link opens in a window of its own, which trusts this certificate.".to_owned());
    } else {
        lines
            .push("Open each link in a browser window of its own. The browser doesn't know the certificate".to_owned());
        lines.push("and warns: choose Advanced, then Proceed. On the page, join and allow the microphone.".to_owned());
    }
    if !options.no_voices {
        lines.push("While you are alone, a melody plays and an echo repeats what you say.".to_owned());
    }
    lines.push(String::new());
    lines.push(format!("Warnings appear here; everything is logged in {}", place.log().display()));
    let end =
        if place.is_temporary() { "leaves nothing behind" } else { "keeps keys and certificate for the next time" };
    lines.push(format!("Ctrl-C ends it and {end}."));
    say(&lines.join("\n"));
}

/// A signal came.
pub fn end() {
    if io::stdout().is_terminal() {
        say("\nEnding.");
    }
}

/// A closed terminal is no reason to fail: the room must still be cleared.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
