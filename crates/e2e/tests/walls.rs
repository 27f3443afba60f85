//! The walls between the rooms of the house: who may depend on what, by `cargo metadata`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crates that only the named members may depend on directly.
const ONLY: [(&str, &[&str]); 10] = [
    ("rustls", &["palabre-listener"]),
    ("httparse", &["palabre-listener", "palabre-exporter"]),
    ("tungstenite", &["palabre-listener"]),
    ("base64", &["palabre-listener", "palabre-config"]),
    ("hound", &["palabre-sound"]),
    ("rubato", &["palabre-sound"]),
    ("toml", &["palabre-config"]),
    ("toml_edit", &["palabre-config"]),
    ("x509-parser", &["palabre-config"]),
    ("nix", &["palabre-host", "palabre-room", "palabre-mixer"]),
];

/// Members that a member may depend on.
const MEMBERS: [(&str, &[&str]); 10] = [
    ("palabre-sound", &[]),
    ("palabre-room", &[]),
    ("palabre-host", &[]),
    // Only for names and formats, the vocabulary of its files.
    ("palabre-config", &["palabre-room"]),
    ("palabre-mixer", &["palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-recorder", &["palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-listener", &["palabre-config", "palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-supervisor", &["palabre-config", "palabre-host", "palabre-room"]),
    ("palabre-exporter", &["palabre-config", "palabre-host", "palabre-room"]),
    ("palabre", &["palabre-config", "palabre-host", "palabre-room", "palabre-sound"]),
];

/// What must not be anywhere below a program, directly or not.
const NEVER_BELOW: [(&str, &[&str]); 4] = [
    ("palabre-recorder", &["rustls", "httparse", "tungstenite", "toml", "tokio"]),
    ("palabre-mixer", &["rustls", "httparse", "tungstenite", "toml", "tokio"]),
    ("palabre-supervisor", &["rustls", "httparse", "tungstenite", "tokio"]),
    ("palabre-exporter", &["rustls", "tungstenite", "tokio"]),
];

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new(env!("CARGO")).current_dir(root).args(arguments).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Direct dependencies of each member, without those of its tests.
fn direct() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--offline", "--no-deps", "--format-version=1"])).unwrap();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (name(package), dependencies(package))).filter(|(name, _)| name != "palabre-e2e").collect()
}

fn name(package: &serde_json::Value) -> String {
    package["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_library_is_used_only_where_the_design_says() {
    for (member, dependencies) in direct() {
        for (library, members) in ONLY {
            let allowed = members.contains(&member.as_str()) || !dependencies.contains(library);
            assert!(allowed, "{member} must not depend on {library}: that is for {members:?}");
        }
    }
}

#[test]
fn a_member_depends_only_on_the_members_that_the_design_says() {
    for (member, dependencies) in direct() {
        let (_, allowed) =
            MEMBERS.iter().find(|(name, _)| *name == member).unwrap_or_else(|| panic!("{member} has no rule"));
        let others = dependencies.iter().filter(|dependency| dependency.starts_with("palabre"));
        let unwanted: Vec<_> = others.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(unwanted.is_empty(), "{member} must not depend on {unwanted:?}");
    }
}

#[test]
fn what_a_daemon_must_never_know_is_nowhere_below_it() {
    for (program, never) in NEVER_BELOW {
        let tree = cargo(&["tree", "--offline", "-p", program, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
        let below: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        for library in never {
            // The supervisor reads TOML, so config's own needs are its.
            assert!(!below.contains(library), "{program} must not have {library} below it");
        }
    }
}

#[test]
fn no_crate_has_an_async_runtime_below_it() {
    for (member, _) in MEMBERS {
        let tree = cargo(&["tree", "--offline", "-p", member, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
        for runtime in ["tokio ", "async-std ", "smol "] {
            assert!(!tree.lines().any(|line| line.starts_with(runtime)), "{member} has {runtime}below it");
        }
    }
}
