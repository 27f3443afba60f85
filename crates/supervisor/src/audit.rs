//! The audit log: one line for each change, with the user who asked for it. palabre(7) lists the lines.

use std::fmt;

use palabre_config::Participant;
use palabre_host::peer::Credentials;
use palabre_room::Name;

/// Who asked for a change.
#[derive(Debug, Clone)]
pub(crate) enum Author {
    /// A client of the control socket: `user 'ops' (uid 1001)`.
    User(String),
    /// A process that sent SIGHUP, such as `systemctl reload`.
    Signal,
    /// The restart of the supervisor, which found changed files.
    Restart,
}

impl Author {
    /// Returns the user of a client. May read the user database.
    pub(crate) fn of(client: Credentials) -> Self {
        let name = client.user_name().unwrap_or_else(|| "unknown".to_owned());
        let name: String = name.chars().map(|c| if c.is_control() || c == '\'' { '?' } else { c }).collect();
        Self::User(format!("user '{name}' (uid {})", client.uid))
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User(user) => user,
            Self::Signal => "SIGHUP",
            Self::Restart => "the restart of the supervisor",
        })
    }
}

/// Logs a change of a participant, or a request about the participant's listener.
pub(crate) fn participant(name: &Name, what: &str, by: &Author) {
    log::info!(PALABRE_INSTANCE:% = name; "{name}: {what} by {by}");
}

/// Logs that a room is recorded, or no longer.
pub(crate) fn room(room: &Name, what: &str, by: &Author) {
    log::info!("room '{room}': {what} by {by}");
}

/// Logs that a user asked for the restart of a program.
pub(crate) fn restart(program: &str, by: &Author) {
    log::info!("restart of {program} requested by {by}");
}

/// Logs a reload of the configuration. The lines about the changes follow.
pub(crate) fn reload(by: &Author) {
    log::info!("reload of the configuration requested by {by}");
}

/// Returns a text for each difference between the previous and the present file of a participant.
pub(crate) fn changes(old: Option<&Participant>, new: &Participant) -> Vec<String> {
    let Some(old) = old else { return vec!["invited".to_owned()] };
    // Name all fields, so that a new field can't be forgotten here.
    let Participant {
        name: _,
        port,
        room,
        display_name: _,
        gain_db,
        muted,
        key_sha256,
        key_once,
        key_expires,
        join_muted,
        listen_only,
        suspended,
        signed_out,
    } = new;
    let gain = |participant: &Participant| participant.gain_db.unwrap_or_default();
    let expiry = || key_expires.map_or_else(|| "expiry removed".to_owned(), |at| format!("expiry changed to {at}"));
    let all = [
        (old.muted != *muted).then(|| if *muted { "muted" } else { "unmuted" }.to_owned()),
        (gain(old) != gain_db.unwrap_or_default()).then(|| format!("gain changed to {} dB", gain(new))),
        (old.room != *room).then(|| format!("moved to room '{room}'")),
        (old.port != *port).then(|| format!("port changed to {port}")),
        (old.display() != new.display()).then(|| format!("renamed to {:?}", new.display())),
        (old.key_sha256 != *key_sha256).then(|| "access key replaced".to_owned()),
        (old.key_expires != *key_expires).then(expiry),
        (old.key_once != *key_once).then(|| format!("key-once changed to {key_once}")),
        (old.join_muted != *join_muted).then(|| format!("join-muted changed to {join_muted}")),
        (old.listen_only != *listen_only).then(|| format!("listen-only changed to {listen_only}")),
        (old.suspended != *suspended).then(|| if *suspended { "suspended" } else { "resumed" }.to_owned()),
        (old.signed_out != *signed_out).then(|| "browsers signed out".to_owned()),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::Key;

    #[test]
    fn each_changed_field_is_named() {
        let old = Participant::new("alice".parse().unwrap(), 9001, Key::generate().unwrap().hash());
        let new = Participant {
            port: 9002,
            room: "b".parse().unwrap(),
            display_name: Some("Alice' by user 'root' (uid 0)\"".into()),
            gain_db: Some(-3.5),
            muted: true,
            key_sha256: Key::generate().unwrap().hash(),
            key_once: true,
            key_expires: Some("2026-12-31T18:00:00Z".parse().unwrap()),
            join_muted: true,
            listen_only: true,
            suspended: true,
            signed_out: Some("2026-11-01T18:00:00Z".parse().unwrap()),
            ..old.clone()
        };
        let expected = [
            "muted",
            "gain changed to -3.5 dB",
            "moved to room 'b'",
            "port changed to 9002",
            "renamed to \"Alice' by user 'root' (uid 0)\\\"\"",
            "access key replaced",
            "expiry changed to 2026-12-31T18:00:00Z",
            "key-once changed to true",
            "join-muted changed to true",
            "listen-only changed to true",
            "suspended",
            "browsers signed out",
        ];
        assert_eq!(changes(Some(&old), &new), expected);
        assert_eq!(changes(None, &new), ["invited"]);
        assert!(changes(Some(&old), &Participant { gain_db: Some(0.0), ..old.clone() }).is_empty());
    }

    #[test]
    fn user_is_named_as_in_the_user_database() {
        let of = |uid| Author::of(Credentials { pid: 1, uid, gid: 1 }).to_string();
        assert_eq!(of(0), "user 'root' (uid 0)");
        assert_eq!(of(4_000_000_000), "user 'unknown' (uid 4000000000)");
    }
}
