//! The list of the people in a room: as JSON in a room record, and the place of each member in the list.

use std::borrow::Cow;

use palabre_room::{Lines, MachinePerson, Member, Name, Sender};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::marks::Marks;
use crate::other_machines::ShownMachine;

/// The JSON of a room record.
#[derive(serde::Serialize)]
pub(crate) struct RoomJson<'a> {
    pub(crate) people: People<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) recording: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_mixer: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) machines: Vec<ShownMachine<'a>>,
}

/// The members of this machine, and then the people of other machines.
pub(crate) struct People<'a> {
    pub(crate) members: &'a Lines<Member>,
    pub(crate) others: &'a [(&'a Name, &'a MachinePerson)],
}

impl RoomJson<'_> {
    /// Returns the JSON.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for People<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut people = serializer.serialize_seq(None)?;
        for member in self.members.iter().take(Marks::MAX_PEOPLE) {
            people.serialize_element(&Person { name: member.name.as_str().into(), display: &member.display })?;
        }
        for (machine, MachinePerson { member, .. }) in self.others {
            let sender = Sender { name: member.name.clone(), machine: Some((*machine).clone()) };
            people.serialize_element(&Person { name: sender.to_string().into(), display: &member.display })?;
        }
        people.end()
    }
}

#[derive(serde::Serialize)]
struct Person<'a> {
    name: Cow<'a, str>,
    display: &'a str,
}

/// The index of each member of this machine in the list. A room may have a thousand members, and each of its listeners has this list. So the names are
/// in one text.
#[derive(Debug, Default)]
pub(crate) struct Places {
    names: Box<str>,
    /// The members, sorted by name.
    members: Box<[Place]>,
}

#[derive(Debug)]
struct Place {
    /// Start of the name in the text of all names, in bytes.
    start: u32,
    /// Length of the name in bytes.
    length: u8,
    index: u16,
}

impl Places {
    /// Returns the places of the names in this order. At most [`Marks::MAX_PEOPLE`] names are used.
    pub(crate) fn of(list: impl Iterator<Item = Name>) -> Self {
        let (mut names, mut members) = (String::new(), Vec::new());
        for (name, index) in list.take(Marks::MAX_PEOPLE).zip(0..) {
            let (Ok(start), Ok(length)) = (names.len().try_into(), name.as_str().len().try_into()) else { continue };
            names.push_str(name.as_str());
            members.push(Place { start, length, index });
        }
        let mut places = Self { names: names.into(), members: Box::default() };
        members.sort_by_key(|place| places.name(place));
        places.members = members.into();
        places
    }

    /// Returns the number of members.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns the index of a member.
    pub(crate) fn index_of(&self, name: &Name) -> Option<usize> {
        let found = self.members.binary_search_by_key(&name.as_str(), |place| self.name(place)).ok()?;
        Some(usize::from(self.members.get(found)?.index))
    }

    fn name(&self, place: &Place) -> &str {
        let start = place.start as usize;
        self.names.get(start..start + usize::from(place.length)).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn place_of_each_member_is_found() {
        let names: Vec<Name> = ["carol", "alice", "bob", "al"].map(|name| name.parse().unwrap()).into();
        let places = Places::of(names.iter().cloned());
        assert_eq!(names.iter().map(|name| places.index_of(name)).collect::<Vec<_>>(), [0, 1, 2, 3].map(Some));
        assert_eq!((places.len(), places.index_of(&"dan".parse().unwrap())), (4, None));
        assert_eq!(Places::default().index_of(&names[0]), None);
    }
}
