//! The measured size of the recordings, and the space of their disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palabre_config::control::Storage;
use palabre_host::disk::Space;

/// Free space below which the disk counts as nearly full.
const MIN_FREE_BYTES: u64 = 1 << 30;
/// Time until the disk is full below which it counts as nearly full.
const MIN_LEFT: Duration = Duration::from_secs(2 * 60 * 60);

/// The result of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// The space of the disk; `None` before the first measurement, or if it can't be read.
    pub(crate) space: Option<Space>,
    /// The size of each recording, by its directory, in bytes.
    pub(crate) sizes: BTreeMap<PathBuf, u64>,
}

impl Measured {
    /// Returns the state of the disk for `palabre status`. `active` has the directory and the age of each recording in progress.
    pub(crate) fn storage<'a>(
        &self,
        directory: &Path,
        active: impl Iterator<Item = (&'a Path, Duration)>,
    ) -> Option<Storage> {
        let Space { free_bytes, total_bytes } = self.space?;
        let bytes = |path| self.sizes.get(path).copied().unwrap_or_default() as f64;
        // Bytes per second of each recording, averaged since its start.
        let rates: Vec<f64> = active.map(|(path, age)| bytes(path) / age.as_secs_f64().max(1.0)).collect();
        let rate: f64 = rates.iter().sum();
        let left_s = (rate > 0.0).then(|| (free_bytes as f64 / rate) as u64);
        let is_used = !rates.is_empty() || !self.sizes.is_empty();
        let is_short = free_bytes < MIN_FREE_BYTES || left_s.is_some_and(|left| left < MIN_LEFT.as_secs());
        Some(Storage {
            directory: directory.display().to_string(),
            free_bytes,
            total_bytes,
            recordings_bytes: self.sizes.values().sum(),
            left_s,
            nearly_full: is_used && is_short,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_nearly_full_by_its_free_space_or_by_the_time_that_is_left() {
        const GIB: u64 = 1 << 30;
        let (path, hour) = (Path::new("/r/main-20260101T000000Z"), Duration::from_secs(3600));
        let storage = |free_bytes, recorded: Option<u64>, is_active: bool| {
            let space = Some(Space { free_bytes, total_bytes: 100 * GIB });
            let sizes = recorded.map(|bytes| (path.to_owned(), bytes)).into_iter().collect();
            let active = is_active.then_some((path, hour)).into_iter();
            let storage = Measured { space, sizes }.storage(Path::new("/r"), active).unwrap();
            (storage.left_s, storage.nearly_full)
        };
        assert_eq!(storage(GIB - 1, None, false), (None, false), "no recordings");
        assert_eq!(storage(GIB - 1, Some(1), false), (None, true));
        assert_eq!(storage(2 * GIB, Some(GIB), false), (None, false));
        assert_eq!(storage(2 * GIB, Some(GIB), true), (Some(7_200), false));
        assert!(storage(2 * GIB - 1_000_000, Some(GIB), true).1);
        assert_eq!(storage(2 * GIB, None, true), (None, false));
        assert!(Measured::default().storage(path, std::iter::empty()).is_none());
    }
}
