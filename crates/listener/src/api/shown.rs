//! The body of `POST /show`, which `docs/injected-stream.md` specifies.

use crate::handover::Shown;
use palabre_room::MicState;
use serde::Deserialize;

/// The raised hand, microphone state and weak connection that other participants see.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    hand: Option<bool>,
    microphone: MicrophoneState,
    #[serde(default)]
    weak: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum MicrophoneState {
    Open,
    Muted,
    None,
}

/// Parses the JSON of the body. Returns `None` if it is invalid.
pub(crate) fn parse(body: &[u8]) -> Option<Shown> {
    let Body { hand, microphone, weak } = serde_json::from_slice(body).ok()?;
    let voice = match microphone {
        MicrophoneState::Open => MicState::Open,
        MicrophoneState::Muted => MicState::Muted,
        MicrophoneState::None => MicState::None,
    };
    Some(Shown { hand, voice, weak })
}
