//! The display names that participants have chosen: recorded on disk, and shown instead of the names in the participants' files.

use std::collections::{BTreeMap, HashMap};

use palabre_config::control::Response;
use palabre_config::{ConfigError, OwnName};
use palabre_room::{Name, folded_display_name, own_display_name_is_valid};

use super::Roster;
use crate::audit::{self, Author};

impl Roster {
    /// Shows a participant under the name `display`, if the process `pid` is the participant's listener. Without `display`, deletes the chosen
    /// name, as an operator requests.
    pub(crate) fn choose_name(&mut self, pid: u32, name: &Name, display: Option<&str>, by: &Author) -> Response {
        let previous = self.own_names.get(name).cloned();
        let chosen = match display {
            None => self.forget_name(name),
            Some(display) => match self
                .name_of_file(name)
                .filter(|_| self.services.get(name).is_some_and(|it| it.has(pid)))
            {
                None => Err(format!("process {pid} is not the participant's listener")),
                Some(_) if !self.config.server.own_display_names => {
                    Err("'own-display-names' in palabre.toml is false".into())
                }
                Some(_) if !own_display_name_is_valid(display) => Err("the name is invalid".into()),
                Some(_) if self.used_names().is_taken(name, display) => return Response::Taken,
                Some(of_file) if of_file == display => self.forget_name(name),
                Some(of_file) => self.record_name(name, OwnName { display_name: display.into(), instead_of: of_file }),
            },
        };
        match chosen {
            Ok(shown) => {
                if previous.as_deref() != self.own_names.get(name).map(String::as_str) {
                    audit::participant(name, &format!("shown as {shown:?}"), by);
                }
                Response::Ok
            }
            Err(why) => Response::Refused { why: format!("unable to change the display name of '{name}': {why}") },
        }
    }

    /// Reads the chosen names again. Ignores a chosen name if another participant has this name or a similar one.
    pub(super) fn load_own_names(&mut self) {
        self.own_names = BTreeMap::new();
        if !self.config.server.own_display_names {
            return;
        }
        let mut used = self.used_names();
        for (name, of_file) in self.rooms.values().flatten() {
            match OwnName::load(&self.config.names, name, of_file) {
                Ok(Some(own)) if !used.is_taken(name, &own) => {
                    used.add(name, &own);
                    self.own_names.insert(name.clone(), own);
                }
                Ok(_) => {}
                Err(error) => {
                    log::error!("{error}");
                    self.errors.push(error.to_string());
                }
            }
        }
    }

    /// Returns the name under which other participants see a participant. `of_file` is the name in the participant's file.
    pub(super) fn shown_name<'a>(&'a self, name: &Name, of_file: &'a str) -> &'a str {
        self.own_names.get(name).map_or(of_file, String::as_str)
    }

    fn record_name(&mut self, name: &Name, own: OwnName) -> Result<String, String> {
        own.write(&self.config.names, name).map_err(|error| logged(&error))?;
        self.own_names.insert(name.clone(), own.display_name.clone());
        Ok(own.display_name)
    }

    /// Deletes a chosen name. Returns the name in the participant's file.
    fn forget_name(&mut self, name: &Name) -> Result<String, String> {
        let of_file =
            self.name_of_file(name).ok_or("there is no such participant; 'palabre list' lists all participants")?;
        OwnName::remove(&self.config.names, name).map_err(|error| logged(&error))?;
        self.own_names.remove(name);
        Ok(of_file)
    }

    fn name_of_file(&self, name: &Name) -> Option<String> {
        self.rooms.values().flatten().find(|(other, _)| other == name).map(|(_, display)| display.clone())
    }

    /// Returns the names of all participants in all rooms: the login names, the names in the files and the chosen names.
    fn used_names(&self) -> UsedNames {
        let mut used = UsedNames::default();
        for (name, of_file) in self.rooms.values().flatten() {
            for text in [name.as_str(), of_file].into_iter().chain(self.own_names.get(name).map(String::as_str)) {
                used.add(name, text);
            }
        }
        used
    }
}

/// The participants who have each name, by [`folded_display_name`].
#[derive(Default)]
struct UsedNames(HashMap<String, Vec<Name>>);

impl UsedNames {
    fn add(&mut self, name: &Name, text: &str) {
        self.0.entry(folded_display_name(text)).or_default().push(name.clone());
    }

    /// Returns whether another participant than `name` has the name `display` or a similar one.
    fn is_taken(&self, name: &Name, display: &str) -> bool {
        self.0.get(&folded_display_name(display)).is_some_and(|users| users.iter().any(|user| user != name))
    }
}

fn logged(error: &ConfigError) -> String {
    log::error!("{error}");
    error.to_string()
}
