//! The project's language, as far as a program can check it: phrases that readers must decode, and the length of sentences.
//!
//! `scripts/test` also runs a spelling checker; `tests/documents.rs` looks for dead links.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Phrases that hide the subject or need decoding, with what to write instead. They match whole words, in any case, also across a
/// line break.
const BANNED: [(&str, &str); 24] = [
    ("whoever", "the participant, the client, the operator, the caller"),
    ("whomever", "the participant, the client, the operator, the caller"),
    ("whosoever", "the participant, the client, the operator, the caller"),
    ("what is later", "chunks that arrive later"),
    ("what is older", "samples older than …"),
    ("what is missing", "name the missing thing"),
    ("what is said", "the samples, the text"),
    ("what was said", "the samples, the text"),
    ("what is heard", "the mix, the stream"),
    ("what is left", "the rest, with its name"),
    ("the one before", "the previous process, chunk, certificate"),
    ("nobody but", "only the …"),
    ("nothing but", "only"),
    ("so much of", "at most …"),
    ("so much is", "at most …"),
    ("so often as", "as often as, or a rate"),
    ("so long as", "while"),
    ("has no meaning", "is invalid"),
    ("loses its meaning", "becomes invalid"),
    ("nor can", "and … cannot"),
    ("nor may", "and … may not"),
    ("stranger", "unauthenticated client"),
    ("strangers", "unauthenticated clients"),
    ("by the kernel's word", "the kernel reports"),
];

/// Files that quote a phrase on purpose.
const QUOTATIONS: [&str; 2] = ["crates/e2e/tests/words.rs", "docs/CHANGELOG.md"];

/// File names and endings with sentences of the project.
const KINDS: [&str; 16] = [
    ".rs",
    ".js",
    ".mjs",
    ".html",
    ".css",
    ".md",
    ".toml",
    ".yml",
    ".service",
    ".target",
    ".preset",
    ".sysctl",
    ".tmpfiles",
    ".roff",
    ".1",
    ".8",
];

/// Maximum words of a sentence in the documents and manual pages.
const WORDS_MAX: usize = 40;

/// Minimum number of words of a long sentence.
const WORDS_LONG: usize = 25;
/// Maximum share of long sentences in a document, in percent.
const LONG_PERCENT_MAX: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Returns the files that Git tracks, by their paths in the repository.
fn tracked() -> Vec<String> {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

fn has_sentences(name: &str) -> bool {
    KINDS.iter().any(|kind| name.ends_with(kind)) || name.starts_with("scripts/") || name.starts_with("docs/man/")
}

/// Returns the words of a text in lower case, each with its line number. Leaves out comment markers.
fn words(text: &str) -> Vec<(usize, String)> {
    let of_line = |(index, line): (usize, &str)| {
        let parts = line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’' | '_')));
        let parts = parts.filter(|part| !part.is_empty()).map(str::to_lowercase);
        parts.map(|part| (index + 1, part)).collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(of_line).collect()
}

/// Returns the line numbers at which the phrase occurs.
fn places(words: &[(usize, String)], phrase: &str) -> Vec<usize> {
    let phrase: Vec<&str> = phrase.split(' ').collect();
    let is_match = |window: &&[(usize, String)]| window.iter().map(|(_, word)| word).eq(phrase.iter());
    words.windows(phrase.len()).filter(is_match).map(|window| window[0].0).collect()
}

#[test]
fn no_banned_phrase_occurs() {
    let mut found = Vec::new();
    for name in tracked().iter().filter(|name| has_sentences(name) && !QUOTATIONS.contains(&name.as_str())) {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        let words = words(&text);
        for (phrase, instead) in BANNED {
            let lines = places(&words, phrase);
            found.extend(lines.iter().map(|line| format!("{name}:{line}: '{phrase}': {instead}")));
        }
    }
    assert!(found.is_empty(), "{} banned phrases:\n{}", found.len(), found.join("\n"));
}

/// Returns the sentences of a Markdown document. A list item, a table cell and a heading end a sentence. Leaves out code blocks and the addresses
/// of links.
fn sentences_of_markdown(text: &str) -> Vec<String> {
    let (mut paragraphs, mut in_block) = (vec![String::new()], false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            in_block = !in_block;
            paragraphs.push(String::new());
            continue;
        }
        if in_block {
            continue;
        }
        let is_item = line.starts_with(['#', '|', '-', '*', '!'])
            || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        if line.is_empty() || is_item {
            paragraphs.push(String::new());
        }
        let line = if line.starts_with('|') { line.replace('|', "\u{1}") } else { line.to_owned() };
        if let Some(last) = paragraphs.last_mut() {
            last.push(' ');
            last.push_str(&without_addresses(&line));
        }
    }
    paragraphs.iter().flat_map(|paragraph| sentences(paragraph)).collect()
}

/// Replaces `[text](address)` by `text`.
fn without_addresses(line: &str) -> String {
    let mut parts = line.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |text, part| text + part.split_once(')').map_or(part, |(_, rest)| rest));
    text.replace('[', "")
}

/// Returns the sentences of a manual page. roff requests that begin a paragraph end a sentence. Leaves out examples (`.nf` to `.fi`).
fn sentences_of_manual(text: &str) -> Vec<String> {
    let (mut paragraphs, mut in_example) = (vec![String::new()], false);
    for line in text.lines() {
        let request = line.split(' ').next().unwrap_or_default();
        match request {
            ".nf" | ".EX" => in_example = true,
            ".fi" | ".EE" => in_example = false,
            _ => {}
        }
        if [".SH", ".SS", ".TP", ".PP", ".IP", ".TH", ".nf", ".fi", ".br", ".EX", ".EE", ".RS", ".RE", ".TQ"]
            .contains(&request)
        {
            paragraphs.push(String::new());
        } else if !in_example && let Some(last) = paragraphs.last_mut() {
            last.push(' ');
            last.push_str(line.strip_prefix(request).filter(|_| request.starts_with('.')).unwrap_or(line));
        }
    }
    paragraphs.iter().flat_map(|paragraph| sentences(paragraph)).collect()
}

/// Splits at the ends of sentences: a full stop, a question mark or a colon before a space, or the end of a table cell.
fn sentences(paragraph: &str) -> Vec<String> {
    let text = paragraph.replace(". ", ".\u{1}").replace("? ", "?\u{1}").replace(": ", ":\u{1}");
    let words = |sentence: &str| sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split('\u{1}').map(words).filter(|sentence| !sentence.is_empty()).collect()
}

fn count(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}

#[test]
fn sentences_of_documents_and_manual_pages_are_short() {
    let mut faults = Vec::new();
    for name in tracked() {
        let is_manual = name.starts_with("docs/man/");
        let is_document = name == "README.md" || (name.starts_with("docs/") && name.ends_with(".md"));
        if !(is_manual || is_document) || QUOTATIONS.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let all = if is_manual { sentences_of_manual(&text) } else { sentences_of_markdown(&text) };
        let too_long = all.iter().filter(|sentence| count(sentence) > WORDS_MAX);
        faults.extend(too_long.map(|sentence| format!("{name}: {} words: {sentence}", count(sentence))));
        let long: Vec<&String> = all.iter().filter(|sentence| count(sentence) > WORDS_LONG).collect();
        if long.len() * 100 > all.len() * LONG_PERCENT_MAX {
            let lines: Vec<String> = long.iter().map(|sentence| format!("  {}: {sentence}", count(sentence))).collect();
            let (long, all) = (long.len(), all.len());
            faults.push(format!(
                "{name}: {long} of {all} sentences have more than {WORDS_LONG} words:\n{}",
                lines.join("\n")
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn phrases_are_found_across_lines_and_sentences_are_counted() {
    let text = "/// Read by\n/// Whoever\n// asks; not the one\n// before.\n";
    let words = words(text);
    assert_eq!(places(&words, "whoever"), [2]);
    assert_eq!(places(&words, "the one before"), [3]);
    assert!(places(&words, "one the").is_empty());
    let document =
        "# A title\n\nTwo words. And [three more](x.md)\nhere: end.\n\n```\nno\n```\n- item one\n| a b | c |\n";
    assert_eq!(
        sentences_of_markdown(document),
        ["# A title", "Two words.", "And three more here:", "end.", "- item one", "a b", "c"]
    );
    assert_eq!(count("- item one"), 2);
    let manual = ".TH X 1\n.SH NAME\nx \\- does\n.B this\n.nf\nno\n.fi\nLast one.\n";
    assert_eq!(sentences_of_manual(manual), ["x \\- does this", "Last one."]);
}
