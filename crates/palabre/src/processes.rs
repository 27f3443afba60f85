//! Which processes are ours, by what proc(5) says about them.

use std::fs;
use std::path::{Path, PathBuf};

use palabre_host::usage::stat;

use crate::cli::RUN;

/// The processes around the listeners of the directory `run`: program and process id.
#[must_use]
pub fn others(run: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let is_ours = |(program, pid): &(String, u32)| match program.as_str() {
        "palabre-supervisor" | "palabre-exporter" => works_in(*pid, "--run", run, Some(RUN)),
        "palabre-mixer" => works_in(*pid, "--rooms", &run.join("rooms"), None),
        _ => false,
    };
    let programs = |pid: u32| Some((program(pid)?, pid));
    let all: Vec<(String, u32)> = pids.into_iter().filter_map(programs).collect();
    let ours: Vec<(String, u32)> = all.iter().filter(|process| is_ours(process)).cloned().collect();
    let supervisors: Vec<u32> =
        ours.iter().filter(|(program, _)| program == "palabre-supervisor").map(|(_, pid)| *pid).collect();
    let is_recorder = |(program, pid): &&(String, u32)| {
        program == "palabre-recorder" && parent(*pid).is_some_and(|parent| supervisors.contains(&parent))
    };
    let recorders: Vec<(String, u32)> = all.iter().filter(is_recorder).cloned().collect();
    ours.into_iter().chain(recorders).collect()
}

/// The name of a process's program, as it was started.
fn program(pid: u32) -> Option<String> {
    let first = arguments(pid).into_iter().next()?;
    Some(Path::new(&first).file_name()?.to_str()?.to_owned())
}

fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).split_terminator('\0').map(str::to_owned).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split(' ').nth(1)?.parse().ok()
}

/// Whether the directory behind this flag of a process is that one.
fn works_in(pid: u32, flag: &str, directory: &Path, default: Option<&str>) -> bool {
    let arguments = arguments(pid);
    let apart =
        arguments.iter().zip(arguments.iter().skip(1)).find(|(word, _)| *word == flag).map(|(_, value)| value.as_str());
    let joined = || arguments.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
    // Relative to where it works; an absolute one takes the place of that.
    let theirs = apart.or_else(joined).or(default).map(|value| PathBuf::from(format!("/proc/{pid}/cwd")).join(value));
    let real = |path: &Path| path.canonicalize().ok();
    theirs.and_then(|path| real(&path)).is_some_and(|path| real(directory) == Some(path))
}
