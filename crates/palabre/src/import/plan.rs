//! Decides how the participants of a document become participants of this machine.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use palabre_config::{Exported, Key, Participant, Server};
use palabre_room::{Name, folded_display_name};

use super::imported::Imported;
use crate::admission::{Ports, check_name};
use crate::cli::Import;

/// The port that a participant gets on this machine, and why it isn't the port in the document of `palabre export`.
type Given = (u16, Option<String>);

/// Decides for all participants, or returns an error for each participant that can't be imported.
pub(super) fn all(
    config: &Path,
    server: &Server,
    exported: Vec<Exported>,
    options: &Import,
) -> Result<Vec<Imported>, Vec<String>> {
    if let (Some(_), true) = (options.port, exported.len() > 1) {
        let count = exported.len();
        return Err(vec![format!("'--port' is for one participant, and the document has {count}; leave it out")]);
    }
    let mut errors: Vec<String> = exported.iter().filter_map(|one| check(config, server, one, options).err()).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut ports = ports(config, server, &exported, options).map_err(|error| vec![error])?;
    let names = DisplayNames::of(config, &exported);
    let mut all = Vec::new();
    for one in exported {
        let given = ports.remove(&one.participant.name).unwrap_or((one.participant.port, None));
        match imported(config, server, one, given, &names, options) {
            Ok(one) => all.push(one),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

/// Checks that this machine can have a participant of this name: [`check_name`] accepts it, and without --replace no participant has it yet.
fn check(config: &Path, server: &Server, one: &Exported, options: &Import) -> Result<(), String> {
    let name = &one.participant.name;
    let unable = |cause: String| format!("unable to import '{name}': {cause}");
    let path = Participant::path(config, name);
    if !options.replace && path.symlink_metadata().is_ok() {
        return Err(unable(format!(
            "'{}' exists; use --replace to replace the participant of this machine, whose link becomes invalid",
            path.display()
        )));
    }
    check_name(name, server).map_err(unable)
}

/// Gives each participant the port in the document if it can be used here. Otherwise gives the present port of a participant who is replaced, or
/// a free port. A port of the option `--port` must be usable.
fn ports(
    config: &Path,
    server: &Server,
    exported: &[Exported],
    options: &Import,
) -> Result<BTreeMap<Name, Given>, String> {
    let (mut ports, mut given, mut moved) = (Ports::load(config, server), BTreeMap::new(), Vec::new());
    let unable = |name: &Name, cause: String| format!("unable to import '{name}': {cause}");
    for Participant { name, port, .. } in exported.iter().map(|one| &one.participant) {
        let (wanted, own) = (options.port.unwrap_or(*port), ports.of(name));
        let obstacle = match wanted {
            0 => Some("port 0 is no fixed port".to_owned()),
            _ if own == Some(wanted) => None,
            _ => match (ports.obstacle(wanted), options.port) {
                (Some(obstacle), Some(_)) => return Err(unable(name, obstacle.to_string())),
                (Some(obstacle), None) => Some(obstacle.cause),
                (None, _) => ports.give(name, Some(wanted)).err(),
            },
        };
        match (obstacle, own) {
            (None, _) => drop(given.insert(name.clone(), (wanted, None))),
            (Some(why), Some(own)) => drop(given.insert(name.clone(), (own, Some(why)))),
            (Some(why), None) => moved.push((name, why)),
        }
    }
    // The ports in the document come first, so that no other participant gets one of them.
    for (name, cause) in moved {
        let port = ports.give(name, None).map_err(|cause| unable(name, cause))?;
        given.insert(name.clone(), (port, Some(cause)));
    }
    Ok(given)
}

fn imported(
    config: &Path,
    server: &Server,
    exported: Exported,
    (port, why_other_port): Given,
    names: &DisplayNames,
    options: &Import,
) -> Result<Imported, String> {
    let Exported { mut participant, chosen_display_name, link_used } = exported;
    let exported_port = participant.port;
    let mut differences: Vec<String> = why_other_port
        .map(|cause| format!("the port is {port} instead of {exported_port}, because {cause}"))
        .into_iter()
        .collect();
    participant.port = port;
    if let Some(room) = options.room.as_ref().filter(|room| **room != participant.room) {
        differences.push(format!("the room is '{room}' instead of '{}', because of --room", participant.room));
        participant.room = room.clone();
    }
    if let Some(chosen) = chosen_display_name {
        differences.push(match names.obstacle(&participant.name, &chosen, server) {
            None => format!("the display name is '{chosen}', which the participant has chosen"),
            Some(why) => {
                format!("the display name is '{}' instead of '{chosen}', because {why}", participant.display())
            }
        });
        if names.obstacle(&participant.name, &chosen, server).is_none() {
            participant.display_name = Some(chosen);
        }
    }
    if link_used {
        // This machine has no record of the use of the link. So replace the hash of its key by that of a new key, which is then discarded: the
        // used link can't be opened again.
        let key = Key::generate().map_err(|error| format!("unable to make an access key: {error}"))?;
        participant.key_sha256 = key.hash();
    }
    let replaces = Participant::path(config, &participant.name).symlink_metadata().is_ok();
    let page = server.links.page(participant.name.as_str(), port);
    Ok(Imported { participant, page, exported_port, replaces, link_used, differences, failure: None })
}

/// Maps each login name and each display name, in the form of [`folded_display_name`], to the participants who have it.
struct DisplayNames(HashMap<String, Vec<Name>>);

impl DisplayNames {
    fn of(config: &Path, exported: &[Exported]) -> Self {
        let (present, _) = Participant::load_all(config);
        let all = present.iter().chain(exported.iter().map(|one| &one.participant));
        let mut users: HashMap<String, Vec<Name>> = HashMap::new();
        for one in all {
            for text in [one.name.as_str(), one.display()] {
                users.entry(folded_display_name(text)).or_default().push(one.name.clone());
            }
        }
        Self(users)
    }

    /// Returns why this machine can't show `chosen` as the display name of the participant `name`; `None` if it can.
    fn obstacle(&self, name: &Name, chosen: &str, server: &Server) -> Option<&'static str> {
        let users = self.0.get(&folded_display_name(chosen));
        match users.is_some_and(|users| users.iter().any(|user| user != name)) {
            _ if !server.own_display_names => Some("'own-display-names' in palabre.toml is false"),
            true => Some("another participant has the chosen display name or a similar one"),
            false => None,
        }
    }
}
