//! The section `[recordings]` of `palabre.toml`.

use serde::Deserialize;

/// When the supervisor deletes finished recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recordings {
    /// `recordings.keep-days`: age in days at which a finished recording is deleted, default 0: never.
    pub keep_days: u32,
    /// `recordings.max-gib`: maximum size of all recordings in GiB, default 0: no maximum. The oldest finished recordings are deleted.
    pub max_gib: u32,
}
