//! Whether somebody is levelled, and their leveller.

use palabre_room::{Levelling, RoomError};
use palabre_sound::level::Leveller;

use crate::context::{Complaint, Context};

/// What a file `levelling` says, of a room or of a participant.
#[derive(Debug, Default)]
pub struct Choice {
    is: Option<Levelling>,
    complaint: Complaint,
}

impl Choice {
    pub fn get(&self) -> Option<Levelling> {
        self.is
    }

    /// Takes what was read; what can't be understood changes nothing.
    pub fn set(&mut self, cx: &mut Context, read: Result<Option<Levelling>, RoomError>) {
        match read {
            Ok(is) => {
                self.is = is;
                self.complaint.clear();
            }
            Err(error) => {
                let is = self.is.map_or_else(|| "as if there were no file".to_owned(), |is| is.to_string());
                self.complaint.say(cx, format!("{error}; levelling stays as it was, {is}"));
            }
        }
    }
}

/// One talker's leveller, once there is something to level.
#[derive(Debug)]
pub struct Voice {
    rate_hz: u32,
    leveller: Option<Box<Leveller>>,
}

impl Voice {
    pub fn new(rate_hz: u32) -> Self {
        Self { rate_hz, leveller: None }
    }

    /// Levels a frame; where that `is_on` no more, this frame is the last that differs.
    pub fn level(&mut self, frame: &mut [i16], is_on: bool) {
        if is_on {
            self.leveller.get_or_insert_with(|| Box::new(Leveller::new(self.rate_hz))).process(frame);
        } else if let Some(mut leveller) = self.leveller.take() {
            leveller.release(frame);
        }
    }
}
