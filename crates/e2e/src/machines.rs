//! A room on several machines: `palabre try --machines`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::suite::binary;

/// A running `palabre try --machines`.
#[derive(Debug)]
pub struct Machines {
    child: Child,
    directory: TempDir,
    /// The links of Alice and Bob on each machine: lyon, paris, …
    pub links: Vec<[String; 2]>,
}

impl Machines {
    /// Starts this number of machines with these further options, and waits for their links.
    pub fn start(count: usize, options: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(binary("palabre")?);
        command.args(["try", "--machines", &count.to_string(), "--first-port", "0"]).args(options);
        let mut child = command.env("TMPDIR", directory.path()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines().map_while(Result::ok);
        let mut machines = Self { child, directory, links: Vec::new() };
        let link = |line: String| line.split_whitespace().find(|word| word.starts_with("https://")).map(str::to_owned);
        let links: Vec<String> = lines.filter_map(link).take(2 * count).collect();
        ensure!(links.len() == 2 * count, "'palabre try' printed only {} links", links.len());
        machines.links = links.as_chunks::<2>().0.to_vec();
        Ok(machines)
    }

    /// Returns the process id of `palabre try`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the temporary directory of all machines.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends all machines as Ctrl-C does, and waits for the end.
    pub fn interrupt(&mut self) -> Result<ExitStatus> {
        Command::new("kill").args(["-INT", &self.pid().to_string()]).status()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.interrupt();
        }
    }
}
