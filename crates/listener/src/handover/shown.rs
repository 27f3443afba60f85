//! The state that a page sends. The fuzz targets include this file.

use palabre_room::MicState;

/// What a page sends by `POST /show`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// `None` if the page's user has neither raised nor lowered the hand.
    pub(crate) hand: Option<bool>,
    pub(crate) voice: MicState,
    pub(crate) weak: bool,
}
