//! Text files of a room with one value, or with one value in each line.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::Path;
use std::str::FromStr;

use crate::RoomError;
use crate::small_file;

/// Maximum size in bytes of the files `format`, `gain` and `levelling`, which have one line.
const MAX_LINE_BYTES: u64 = 4096;
/// Maximum size in bytes of the files `names` and `levels`, which have a line for each participant.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Returns the value in a file of one line, or `None` if there is no file at `path`.
pub(crate) fn read_line<T: FromStr<Err: Display>>(path: &Path) -> Result<Option<T>, RoomError> {
    small_file::read(path, MAX_LINE_BYTES)?.map(|text| parse(path, text.trim())).transpose()
}

/// Writes a file of one line, or removes the file if `value` is `None`.
pub(crate) fn write_line(path: &Path, value: Option<impl Display>) -> Result<(), RoomError> {
    small_file::write_or_remove(path, value.map(|value| format!("{value}\n")))
}

/// A list: a file with a value in each line. The values are parsed when they are needed, so that a long list needs little memory.
#[derive(Clone, Debug)]
pub struct Lines<T> {
    text: String,
    values: PhantomData<T>,
}

impl<T: FromStr> Lines<T> {
    /// Returns the values of the valid lines.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.text.lines().filter_map(|line| line.parse().ok())
    }
}

impl<T: Display> FromIterator<T> for Lines<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self { text: values.into_iter().map(|value| format!("{value}\n")).collect(), values: PhantomData }
    }
}

/// Reads a list. It is empty if there is no file at `path`.
pub(crate) fn read_lines<T>(path: &Path) -> Result<Lines<T>, RoomError> {
    Ok(Lines { text: small_file::read(path, MAX_LIST_BYTES)?.unwrap_or_default(), values: PhantomData })
}

/// Replaces a list.
pub(crate) fn write_lines(path: &Path, lines: &[impl Display]) -> Result<(), RoomError> {
    small_file::write(path, &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Returns the value of a text. An error names the file.
pub(crate) fn parse<T: FromStr<Err: Display>>(path: &Path, text: &str) -> Result<T, RoomError> {
    text.parse().map_err(|error: T::Err| RoomError::content(path, error.to_string()))
}

/// Returns the number in a field of a line.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}
