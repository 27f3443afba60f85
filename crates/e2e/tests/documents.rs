//! The README's first screen, the links in the documents, and the top level of the repository.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of lines of README.md that are visible without scrolling.
const FIRST_SCREEN_LINES: usize = 60;

/// The commands that try Palabre and run all its tests. A block in the first lines of README.md must consist of them.
const COMMANDS: [&str; 2] = ["scripts/try", "scripts/test"];

/// The files and directories in the top level of the repository, without licences and dot-files.
const TOP_LEVEL: [&str; 7] = ["Cargo.lock", "Cargo.toml", "README.md", "crates", "docs", "scripts", "systemd"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("unable to read '{}': {error}", path.display()))
}

/// Returns the lines of each fenced block.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let (mut blocks, mut open): (Vec<Vec<&str>>, Option<Vec<&str>>) = (Vec::new(), None);
    for line in text.lines() {
        match (line.trim_start().starts_with("```"), &mut open) {
            (true, None) => open = Some(Vec::new()),
            (true, Some(_)) => blocks.extend(open.take()),
            (false, Some(block)) => block.push(line),
            (false, None) => {}
        }
    }
    blocks
}

/// Returns the commands of a block, without comments.
fn commands<'a>(block: &[&'a str]) -> Vec<&'a str> {
    let without_comment = |line: &'a str| line.split('#').next().unwrap_or_default().trim();
    block.iter().map(|line| without_comment(line)).filter(|command| !command.is_empty()).collect()
}

/// Returns the targets of a document's links: `[text](target)`, `[name]: target`, `src="target"`, `href="target"`.
fn links(text: &str) -> Vec<String> {
    let mut in_block = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !fence && !in_block
    });
    // Text in backquotes is no link: every second part between backquotes is left out.
    let prose: String = prose.flat_map(|line| line.split('`').step_by(2).chain(["\n"])).collect();
    let mut targets: Vec<String> = ["](", "src=\"", "href=\""]
        .iter()
        .flat_map(|before| prose.split(before).skip(1))
        .filter_map(|rest| Some(rest.split([')', '"', ' ', '\n']).next()?.to_owned()))
        .collect();
    let definitions = prose.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    targets.extend(definitions.filter_map(|(_, target)| Some(target.split_whitespace().next()?.to_owned())));
    targets
}

/// Returns GitHub's anchors for the headings: letters, digits, `-` and `_` in lower case, spaces as `-`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let headings = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !fence && !in_block && line.starts_with('#')
    });
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(|c| !kept(c), "");
    headings.map(|line| anchor(line).replace(' ', "-")).collect()
}

/// Returns the file of a relative link, or `None` for URLs and anchors in the same document.
fn file_of(link: &str) -> Option<&str> {
    let is_address = link.split_once(':').is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
    let path = link.split('#').next().unwrap_or_default();
    (!is_address && !path.is_empty()).then_some(path)
}

#[test]
fn first_screen_shows_the_two_commands() {
    let readme = read(&root().join("README.md"));
    let screen: Vec<&str> = readme.lines().take(FIRST_SCREEN_LINES).collect();
    let found = blocks(&screen.join("\n")).iter().any(|block| commands(block) == COMMANDS);
    assert!(found, "the first {FIRST_SCREEN_LINES} lines of README.md have no block with exactly {COMMANDS:?}");
    for command in COMMANDS {
        let file = fs::metadata(root().join(command)).unwrap_or_else(|error| panic!("'{command}': {error}"));
        assert!(file.is_file() && file.permissions().mode() & 0o111 == 0o111, "'{command}' is not executable");
    }
}

/// Returns README.md and all documents in docs/.
fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    documents.chain([root().join("README.md")]).collect()
}

#[test]
fn links_to_headings_are_not_dead() {
    let mut found = 0;
    let mut dead = Vec::new();
    for document in documents() {
        for link in links(&read(&document)) {
            let Some((path, anchor)) = link.split_once('#') else { continue };
            let is_ours = path.is_empty() || (file_of(&link).is_some() && path.ends_with(".md"));
            if !is_ours {
                continue;
            }
            found += 1;
            let target = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            if !anchors(&read(&target)).contains(anchor) {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(found > 10, "only {found} links were found");
    assert!(dead.is_empty(), "no such heading: {dead:#?}");
}

#[test]
fn relative_links_are_not_dead() {
    let mut found = 0;
    let mut dead = Vec::new();
    for document in documents() {
        let text = read(&document);
        let links = links(&text);
        let files: Vec<&str> = links.iter().filter_map(|link| file_of(link)).collect();
        found += files.len();
        let gone = files.iter().filter(|file| !document.with_file_name(file).exists());
        dead.extend(gone.map(|file| format!("{}: {file}", document.display())));
    }
    assert!(found > 20, "only {found} links were found");
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

/// Installs the documents into `directory`, by the function of scripts/stage that scripts/package and scripts/install use.
fn install_documents(directory: &Path) {
    let mut bash = Command::new("bash");
    bash.args(["-euc", ". scripts/stage; stage_documents \"$1\"", "bash"]).arg(directory).current_dir(root());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn links_in_installed_documents_lead_to_installed_files() {
    let installed = tempfile::tempdir().unwrap();
    install_documents(installed.path());
    let (mut dead, mut found) = (Vec::new(), 0);
    let changelog = root().join("docs/CHANGELOG.md");
    let documents = fs::read_dir(installed.path()).unwrap().map(|entry| entry.unwrap().path());
    let documents: Vec<_> = documents.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    assert!(documents.len() > 5, "{documents:?}");
    for document in documents.iter().chain([&changelog]) {
        let links = links(&read(document));
        let files: Vec<&str> = links.iter().filter_map(|link| file_of(link)).collect();
        found += files.len();
        let gone = files.into_iter().filter(|file| file.starts_with("..") || !installed.path().join(file).is_file());
        dead.extend(gone.map(|file| format!("{}: {file}", document.display())));
    }
    assert!(found > 20, "only {found} links were found");
    assert!(dead.is_empty(), "not installed: {dead:#?}");
}

#[test]
fn documents_that_the_programs_and_manual_pages_name_are_installed() {
    const INSTALLED: &str = "/usr/share/doc/palabre/";
    let installed = tempfile::tempdir().unwrap();
    install_documents(installed.path());
    let output =
        Command::new("git").current_dir(root()).args(["ls-files", "crates", "docs", "systemd"]).output().unwrap();
    let mut found = 0;
    for file in String::from_utf8(output.stdout).unwrap().lines() {
        // Pictures and sound aren't text.
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        let text = text.replace("\\-", "-");
        for rest in text.split(INSTALLED).skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "/._-".contains(*c)).collect();
            let is_generated = name.starts_with("changelog") || name.starts_with("third-party");
            found += 1;
            let name = name.trim_end_matches('.');
            assert!(is_generated || installed.path().join(name).exists(), "{file}: {INSTALLED}{name}");
        }
    }
    assert!(found > 3, "only {found} were found");
}

#[test]
fn top_level_is_as_designed() {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files = String::from_utf8(output.stdout).unwrap();
    let all: BTreeSet<&str> = files.split_terminator('\0').filter_map(|file| file.split('/').next()).collect();
    let (licences, others): (Vec<&str>, Vec<&str>) =
        all.into_iter().filter(|name| !name.starts_with('.')).partition(|name| name.starts_with("LICENSE"));
    assert_eq!(others, TOP_LEVEL);
    assert!(!licences.is_empty());
}

#[test]
fn links_commands_and_anchors_are_found() {
    let text = "\
See [a](docs/a.md#place), [`b`](b.md \"title\"), ![c](c.png) and [d][d]; not `[x](x)`, [e](https://e.org) or [f](#f).
```
[y](y)
scripts/try   # opens links
scripts/test
```
<img src=\"g.svg\"> [h](mailto:h@h.org)

[d]: ../d.md
";
    let links = links(text);
    let files: Vec<&str> = links.iter().filter_map(|link| file_of(link)).collect();
    assert_eq!(files, ["docs/a.md", "b.md", "c.png", "g.svg", "../d.md"]);
    let blocks = blocks(text);
    let heads = anchors("# A tab's memory\n```\n# no\n```\n### `POST /say`, and more_\n");
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), ["a-tabs-memory", "post-say-and-more_"]);
    assert_eq!(commands(&blocks[0][1..]), COMMANDS);
    assert_eq!(commands(&blocks[0]).len(), 3);
}
