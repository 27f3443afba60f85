//! The file `levelling`, which turns levelling on or off, and the leveller of a participant.

use palabre_room::{Levelling, RoomError};
use palabre_sound::level::Leveller;

use crate::context::{Context, LastWarning};

/// The last valid content of a file `levelling`, of a room or of a participant.
#[derive(Debug, Default)]
pub(crate) struct LevellingFile {
    value: Option<Levelling>,
    last_warning: LastWarning,
}

impl LevellingFile {
    pub(crate) fn value(&self) -> Option<Levelling> {
        self.value
    }

    /// Stores the result of reading the file. If `read` is an error, logs it and keeps the previous value.
    pub(crate) fn set(&mut self, cx: &mut Context, read: Result<Option<Levelling>, RoomError>) {
        match read {
            Ok(value) => {
                self.value = value;
                self.last_warning.clear();
            }
            Err(error) => {
                let value = self.value.map_or_else(|| "not set".to_owned(), |value| value.to_string());
                cx.warn_if_new(&mut self.last_warning, format!("{error}; levelling remains {value}"));
            }
        }
    }
}

/// A leveller that exists only while levelling is on.
#[derive(Debug)]
pub(crate) struct OptionalLeveller {
    rate_hz: u32,
    leveller: Option<Box<Leveller>>,
}

impl OptionalLeveller {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self { rate_hz, leveller: None }
    }

    /// Levels a frame. When levelling is turned off, the gain returns to 1 within this frame.
    pub(crate) fn process(&mut self, frame: &mut [i16], is_on: bool) {
        if is_on {
            self.leveller.get_or_insert_with(|| Box::new(Leveller::new(self.rate_hz))).process(frame);
        } else if let Some(mut leveller) = self.leveller.take() {
            leveller.release(frame);
        }
    }
}
