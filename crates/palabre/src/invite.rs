//! `palabre invite`: adds participants, or makes a new key for an existing participant, and prints the invitation links.

mod bulk;
mod invited;
mod new;
mod rows;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::SystemTime;

use palabre_config::{Edit, KeyHash, PARTICIPANTS_DIR, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::admission::Ports;
use crate::cli::{Cli, Invite};
use crate::output::print;
use crate::qr::{Image, ImageFormat};
use crate::{admission, permission, qr, reload, roster_lock};
use invited::{Invited, Outcome};
use new::Wanted;

/// Writes the participants' files, reloads the supervisor if one runs, prints the links.
pub(crate) fn run(cli: &Cli, invite: &Invite) -> Result<(), Failure> {
    let server = Server::load(cli.config_dir()).map_err(Failure::config)?;
    match (&invite.from, &invite.name) {
        (Some(list), _) => bulk::run(cli, invite, &server, list),
        (None, Some(name)) => one(cli, invite, &server, name),
        (None, None) => Err(Failure::usage("missing argument: give a login name, or a list with --from")),
    }
}

fn one(cli: &Cli, invite: &Invite, server: &Server, name: &Name) -> Result<(), Failure> {
    let config = cli.config_dir();
    let key = new::key()?;
    let files = [(&invite.qr_svg, ImageFormat::Svg), (&invite.qr_png, ImageFormat::Png)];
    let files = files.into_iter().filter_map(|(path, format)| Some(Image::create(path.as_deref()?, format)));
    let images: Vec<Image> = files.collect::<Result<_, _>>()?;
    admission::create_roster(config)?;
    let lock = roster_lock::take(config)?;
    let (participant, outcome) = match invite.new_key {
        true => (renew_key(config, server, invite, name, key.hash())?, Outcome::Renewed),
        false => (add(config, server, invite, name, key.hash())?, Outcome::Invited),
    };
    drop(lock);
    let done = match invite.new_key {
        true => format!("changed the access key of '{name}'"),
        false => format!("invited '{name}'"),
    };
    eprintln!("palabre: {done}: room '{}', port {}", participant.room, participant.port);
    let applied: Result<(), Failure> =
        reload::if_running(cli.run_dir(), std::slice::from_ref(name)).into_iter().collect();
    let link = server.links.link(name.as_str(), participant.port, &key);
    if !invite.new_key {
        admission::hint_at_proxy(server);
    }
    announce(&participant);
    if invite.json {
        let failure = applied.clone().err();
        invited::json(&[Invited { participant, outcome, link: Some(link.clone()), failure }])?;
    } else {
        print(format!("{link}\n"))?;
    }
    if invite.qr || (!invite.no_qr && !invite.json && io::stdout().is_terminal()) {
        print(format!("\n{}", qr::terminal(&link).unwrap_or_default()))?;
    }
    images.into_iter().try_for_each(|image| image.write(&link))?;
    applied
}

/// Says on standard error how long, and how often, the link works.
fn announce(participant: &Participant) {
    let until = participant.key_expires.map(|expires| format!("; it expires on {expires}")).unwrap_or_default();
    let once = match participant.key_once {
        true => "; the link works in one browser, the first in which the button on its page is pressed",
        false => "",
    };
    let name = &participant.name;
    let suspended = match participant.suspended {
        true => format!("; the link doesn't work before 'palabre resume {name}'"),
        false => String::new(),
    };
    eprintln!("palabre: the invitation link of {} is printed only now{once}{until}{suspended}:", participant.display());
}

/// Writes a new key into an existing participant's file. Keeps the other fields unless an option changes them.
fn renew_key(
    config: &Path,
    server: &Server,
    invite: &Invite,
    name: &Name,
    key: KeyHash,
) -> Result<Participant, Failure> {
    let unable = |cause: String| {
        Failure::refused(format!(
            "unable to renew the key of '{name}': {cause}; revoke the participant and invite one with another name"
        ))
    };
    server.links.address(name, 1).map_err(unable)?;
    let mut edits = vec![Edit::KeySha256(key)];
    edits.extend(invite.once.then_some(Edit::KeyOnce(true)));
    edits.extend(invite.expires.map(|expires| Edit::KeyExpires(expires.moment())));
    let edited = Participant::edit(config, name, &edits).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!(
                "unable to renew the key of '{name}': no such participant; add one with 'palabre invite {name}'"
            ));
        }
        Failure::config(error)
    })?;
    if let Some(end) = edited.participant().key_expires.filter(|end| end.has_passed(SystemTime::now())) {
        return Err(Failure::refused(format!(
            "unable to renew the key of '{name}': 'key-expires' is {end}, which has passed; use '--expires WHEN', or '--expires never'"
        )));
    }
    let roster = config.join(PARTICIPANTS_DIR);
    edited.write().map_err(|error| Failure::system(permission::explain(&roster, error)))?;
    Ok(edited.participant().clone())
}

/// Writes the file of a new participant.
fn add(config: &Path, server: &Server, invite: &Invite, name: &Name, key: KeyHash) -> Result<Participant, Failure> {
    let unable = |cause: String| Failure::refused(format!("unable to invite '{name}': {cause}"));
    let path = Participant::path(config, name);
    if path.symlink_metadata().is_ok() {
        return Err(unable(format!(
            "'{}' exists; use 'palabre change' to change it, 'palabre invite {name} --new-key' for a new link, or 'palabre revoke {name}' to remove it",
            path.display()
        )));
    }
    let wanted = Wanted {
        name: name.clone(),
        room: invite.room.clone(),
        display_name: invite.display_name.clone(),
        port: invite.port,
        expires: invite.expires,
        listen_only: Some(invite.listen_only),
        once: invite.once,
    };
    wanted.check(server).map_err(unable)?;
    let port = Ports::load(config, server).give(name, invite.port).map_err(unable)?;
    let participant = wanted.participant(port, key);
    let roster = config.join(PARTICIPANTS_DIR);
    participant.write(config).map_err(|error| Failure::system(permission::explain(&roster, error)))?;
    Ok(participant)
}
