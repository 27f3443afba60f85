//! The JSON of `GET /me`.

use serde::Serialize;

/// The JSON of `GET /me`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Me {
    /// Login name.
    pub(crate) name: String,
    /// Display name.
    pub(crate) display: String,
    pub(crate) room: String,
    pub(crate) rate_hz: u32,
    /// Length of a chunk of the injected stream, in ms.
    pub(crate) chunk_ms: u64,
    /// The mixer adjusts the level of this participant's speech, so the page doesn't.
    pub(crate) levelling: bool,
    /// The page joins with its microphone muted.
    pub(crate) join_muted: bool,
    /// The page shows no microphone, because the source is a file or the participant only listens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) listen_only: bool,
    /// The setting that tells the page how to choose the codec: "auto" or "opus"; `None` if the operator permits only PCM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) codec: Option<&'static str>,
    /// The room is being recorded, which the page must say before the participant joins.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) recording: bool,
    /// The participant may choose a display name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own_name: bool,
    /// Version of the page's files ([`crate::page::version`]). If it changes, an open page knows that the listener was upgraded.
    pub(crate) page: &'static str,
}

impl Me {
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;

    #[test]
    fn me_is_the_documented_json() {
        let me = |name: &str, display: &str, room: &str, is_file: bool| Me {
            name: name.into(),
            display: display.into(),
            room: room.into(),
            rate_hz: 24000,
            chunk_ms: 40,
            levelling: !is_file,
            join_muted: is_file,
            listen_only: is_file,
            codec: Some("auto"),
            recording: false,
            own_name: false,
            page: "5f2c9a1d7e3b8046",
        };
        assert_eq!(me("alice", "Alice", "main", false).json(), example("json me"));
        assert_eq!(me("source", "dat.wav", "source", true).json(), example("json me of a file"));
        let recorded = Me { recording: true, ..me("alice", "Alice", "main", false) };
        assert_eq!(recorded.json(), example("json me in a recorded room"));
        let renamed = Me { own_name: true, ..me("alice", "Ali", "main", false) };
        assert_eq!(renamed.json(), example("json me with a display name of one's own"));
    }
}
