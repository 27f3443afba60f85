//! Which crates may depend on which, as `cargo metadata` and `cargo tree` report.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Libraries, each with the only members of the workspace that may depend on it directly.
const ONLY: [(&str, &[&str]); 19] = [
    ("nkeys", &["palabre-bridge"]),
    ("async-nats", &["palabre-bridge"]),
    ("futures-util", &["palabre-bridge"]),
    ("tokio", &["palabre-bridge"]),
    ("rustls", &["palabre-listener", "palabre-signer", "palabre-swarm"]),
    ("ring", &["palabre-listener", "palabre-config"]),
    ("httparse", &["palabre-listener", "palabre-exporter"]),
    ("tungstenite", &["palabre-listener", "palabre-swarm"]),
    ("base64", &["palabre-listener", "palabre-config", "palabre-swarm"]),
    ("hound", &["palabre-sound"]),
    ("opus-pure", &["palabre-sound"]),
    ("rubato", &["palabre-sound"]),
    ("rustix", &["palabre-host"]),
    ("toml", &["palabre-config"]),
    ("toml_edit", &["palabre-config"]),
    ("x509-parser", &["palabre-config"]),
    ("landlock", &["palabre-host"]),
    ("seccompiler", &["palabre-host"]),
    ("nix", &["palabre-host", "palabre-room", "palabre-mixer", "palabre-swarm"]),
];

/// Each member of the workspace, with the other members that it may depend on.
const MEMBERS: [(&str, &[&str]); 15] = [
    ("palabre-sound", &[]),
    ("palabre-room", &[]),
    ("palabre-host", &[]),
    // palabre-config uses only the types of names and formats of palabre-room.
    ("palabre-config", &["palabre-room"]),
    ("palabre-mixer", &["palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-recorder", &["palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-bridge", &["palabre-config", "palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-listener", &["palabre-config", "palabre-host", "palabre-room", "palabre-sound"]),
    ("palabre-signer", &["palabre-config", "palabre-host"]),
    ("palabre-launcher", &["palabre-config", "palabre-host", "palabre-room"]),
    // palabre-launcher contains the start of a listener, which the supervisor uses when it starts listeners itself.
    ("palabre-supervisor", &["palabre-config", "palabre-host", "palabre-launcher", "palabre-room"]),
    ("palabre-exporter", &["palabre-config", "palabre-host", "palabre-room"]),
    ("palabre-trial", &["palabre-config", "palabre-host", "palabre-room"]),
    ("palabre-swarm", &["palabre-config", "palabre-host", "palabre-sound", "palabre-trial"]),
    ("palabre", &["palabre-config", "palabre-host", "palabre-room", "palabre-sound", "palabre-swarm", "palabre-trial"]),
];

/// Members that only tests depend on.
const FOR_TESTS: [&str; 3] = ["palabre-e2e", "palabre-fuzz", "palabre-testing"];

/// Programs, each with the libraries that it must not depend on, directly or indirectly.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    ("palabre-recorder", &["rustls", "httparse", "tungstenite", "toml", "tokio"]),
    ("palabre-mixer", &["rustls", "httparse", "tungstenite", "toml", "tokio"]),
    ("palabre-launcher", &["rustls", "httparse", "tungstenite", "tokio"]),
    ("palabre-signer", &["httparse", "tungstenite", "tokio"]),
    ("palabre-supervisor", &["rustls", "httparse", "tungstenite", "tokio"]),
    ("palabre-exporter", &["rustls", "tungstenite", "tokio"]),
    ("palabre-bridge", &["httparse", "tungstenite", "openssl-sys"]),
];

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new(env!("CARGO")).current_dir(root).args(arguments).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the direct dependencies of each member except the crates for tests, without dev-dependencies.
fn direct() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--offline", "--no-deps", "--format-version=1"])).unwrap();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| (name(package), dependencies(package)))
        .filter(|(name, _)| !FOR_TESTS.contains(&name.as_str()))
        .collect()
}

fn name(package: &serde_json::Value) -> String {
    package["name"].as_str().unwrap().to_owned()
}

#[test]
fn libraries_are_used_only_by_the_members_that_may() {
    for (member, dependencies) in direct() {
        for (library, members) in ONLY {
            let allowed = members.contains(&member.as_str()) || !dependencies.contains(library);
            assert!(allowed, "{member} must not depend on {library}: only {members:?} may");
        }
    }
}

#[test]
fn members_depend_only_on_the_members_that_they_may() {
    for (member, dependencies) in direct() {
        let (_, allowed) =
            MEMBERS.iter().find(|(name, _)| *name == member).unwrap_or_else(|| panic!("{member} has no rule"));
        let others = dependencies.iter().filter(|dependency| dependency.starts_with("palabre"));
        let unwanted: Vec<_> = others.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(unwanted.is_empty(), "{member} must not depend on {unwanted:?}");
    }
}

#[test]
fn daemons_do_not_depend_on_forbidden_libraries() {
    for (program, forbidden) in FORBIDDEN {
        let tree = cargo(&["tree", "--offline", "-p", program, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
        let below: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        for library in forbidden {
            assert!(!below.contains(library), "{program} must not depend on {library}");
        }
    }
}

#[test]
fn only_the_bridge_depends_on_an_async_runtime() {
    for (member, _) in MEMBERS.iter().filter(|(member, _)| *member != "palabre-bridge") {
        let tree = cargo(&["tree", "--offline", "-p", member, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
        for runtime in ["tokio ", "async-std ", "smol "] {
            assert!(!tree.lines().any(|line| line.starts_with(runtime)), "{member} depends on {runtime}");
        }
    }
}

#[test]
fn each_package_with_a_program_has_an_integration_test() {
    // `cargo test` builds a program only if its package has an integration test. Otherwise a test on a clean checkout doesn't find the program.
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let packages = std::fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path());
    let programs: Vec<_> = packages.filter(|package| package.join("src/main.rs").exists()).collect();
    assert!(programs.len() >= 7, "{programs:?}");
    for package in programs {
        let tests = std::fs::read_dir(package.join("tests")).map(Iterator::count).unwrap_or(0);
        assert!(tests > 0, "{}: add a file to tests/", package.display());
    }
}

#[test]
fn scripts_that_run_programs_build_all_of_them() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("scripts");
    let mut built = 0;
    for script in std::fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&script).unwrap();
        for line in text.lines().filter(|line| line.trim_start().starts_with("cargo build ")) {
            // In the scripts, the variable `packages` has the packages of all programs. scripts/stage sets it.
            let is_complete = ["--workspace", "--example", "${packages[@]}"].iter().any(|part| line.contains(part));
            assert!(is_complete, "{}: {line}", script.display());
            built += 1;
        }
    }
    assert!(built >= 3, "{built} lines");
}
