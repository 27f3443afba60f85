//! How many connections and workers nginx needs, with the configuration that `palabre proxy-config nginx` writes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use palabre_e2e::client::Answer;
use palabre_e2e::proxy::Proxy;
use palabre_e2e::suite::{Link, Suite, TIMEOUT, descendants, signal};
use palabre_e2e::wait_for;

use crate::join;

/// Time within which a page in a room with sound renews its stream at least once.
const RENEWAL: Duration = Duration::from_secs(200);
const RELOADS: usize = 5;

/// Measures how many participants fit into `worker_connections`, and how many workers nginx has after reloads.
pub fn run() -> Result<()> {
    for connections in [32, 64] {
        fitting(connections)?;
    }
    workers("")?;
    workers("worker_shutdown_timeout 3s;")
}

/// Measures how many connections of an nginx worker one page takes.
pub fn page() -> Result<()> {
    let suite = Suite::start_with(2, &["--no-levelling"])?;
    let directory = tempfile::tempdir()?;
    let nginx = Proxy::nginx(&suite, directory.path(), "worker_processes 1;", "")?;
    let worker = *descendants(nginx.pid()).first().context("nginx has no worker")?;
    let before = sockets(worker)?;
    let link = suite.palabre(&["invite", "p01", "--new-key"])?;
    let page = join::join_at(link.trim())?;
    let started = Instant::now();
    let mut seen = Vec::new();
    while started.elapsed() < RENEWAL {
        seen.push(sockets(worker)? - before);
        std::thread::sleep(Duration::from_millis(100));
    }
    seen.sort_unstable();
    println!(
        "nginx: connections of a page in a room with sound: median {}, 99th percentile {}, most {}",
        seen[seen.len() / 2],
        seen[seen.len() * 99 / 100],
        seen[seen.len() - 1]
    );
    drop(page);
    drop(nginx);
    suite.stop()
}

/// Opens two streams per participant, which take as many connections as a page with stream and microphone, until nginx refuses.
fn fitting(connections: usize) -> Result<()> {
    let suite = Suite::start(connections / 4 + 2)?;
    let directory = tempfile::tempdir()?;
    let events = format!("worker_connections {connections};");
    let nginx = Proxy::nginx(&suite, directory.path(), "worker_processes 1;", &events)?;
    let mut open = Vec::new();
    let refused = suite.links.iter().find_map(|link| {
        let both = (stream(&suite, &nginx, link), stream(&suite, &nginx, link));
        let refused = both.0.as_ref().err().or(both.1.as_ref().err()).map(|error| format!("{error:#}"));
        open.push(both);
        refused
    });
    println!(
        "nginx: worker_connections {connections}: {} participants fit; the next one: {}",
        open.len() - 1,
        refused.context("all participants fit")?
    );
    drop((open, nginx));
    suite.stop()
}

fn stream(suite: &Suite, nginx: &Proxy, link: &Link) -> Result<Answer> {
    let through = Link { port: nginx.port, ..link.clone() };
    let answer = suite.client.get(&through, &format!("/{}/listen", link.name))?;
    if answer.status != 200 {
        bail!("status {}", answer.status);
    }
    Ok(answer)
}

/// Opens a stream before each of several reloads, and counts the workers.
fn workers(setting: &str) -> Result<()> {
    let suite = Suite::start(RELOADS)?;
    let directory = tempfile::tempdir()?;
    let nginx = Proxy::nginx(&suite, directory.path(), &format!("worker_processes 1; {setting}"), "")?;
    let mut open = Vec::new();
    for link in &suite.links {
        open.push(stream(&suite, &nginx, link)?);
        let before = descendants(nginx.pid());
        signal(nginx.pid(), "HUP")?;
        // Wait until the previous workers accept no more connections: otherwise one of them could accept the next stream.
        wait_for("a new worker, and the end of accepting in the others", TIMEOUT, || {
            let now = descendants(nginx.pid());
            let is_new = |pid: &u32| !before.contains(pid);
            (now.iter().any(is_new) && now.iter().all(|pid| is_new(pid) || is_ending(*pid))).then_some(())
        })?;
    }
    let count = || descendants(nginx.pid()).len();
    let after = count();
    std::thread::sleep(Duration::from_secs(10));
    println!("nginx: '{setting}', {RELOADS} reloads with an open stream each: {after} workers, {} after 10 s", count());
    drop((open, nginx));
    suite.stop()
}

/// Returns whether an nginx worker accepts no more connections.
fn is_ending(worker: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{worker}/cmdline")).is_ok_and(|line| line.contains("shutting down"))
}

/// Returns the number of sockets that a process has open.
fn sockets(pid: u32) -> Result<usize> {
    let links =
        std::fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
}
