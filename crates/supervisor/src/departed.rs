//! Participants whose files were removed, or were changed to name another room, while no supervisor ran.

use palabre_config::Participant;
use palabre_room::{Member, Name, RoomError};

use crate::config::Config;

/// Removes the directories of these participants, who would otherwise appear as guests of their rooms. `participants` are the participants
/// of the present files. The file `names` of each room lists the participants of the previous supervisor.
pub(crate) fn remove_directories(config: &Config, participants: &[Participant]) {
    for room in config.rooms() {
        if let Err(error) = remove_from(config, &room, participants) {
            log::warn!("{error}");
        }
    }
}

fn remove_from(config: &Config, room: &Name, participants: &[Participant]) -> Result<(), RoomError> {
    let members = config.room(room).names()?;
    let (departed, rest): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| is_departed(config, room, &member.name, participants));
    for member in &departed {
        config.participant(room, &member.name).remove()?;
    }
    if departed.is_empty() { Ok(()) } else { config.room(room).write_names(&rest) }
}

fn is_departed(config: &Config, room: &Name, name: &Name, participants: &[Participant]) -> bool {
    match participants.iter().find(|participant| participant.name == *name) {
        Some(participant) => participant.room != *room,
        // An invalid file can become valid again, so keep the directory.
        None => Participant::path(&config.directory, name).try_exists().is_ok_and(|exists| !exists),
    }
}
