//! The JSON messages: the state of a room, a text message, and the heartbeat of a machine.

use std::collections::BTreeMap;

use palabre_room::{MAX_MACHINE_PEOPLE, MachineLevel, MachinePerson, Member, Message, Name, Sender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Maximum length of a JSON message in bytes.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// Maximum number of rooms in a heartbeat.
const MAX_ROOMS: usize = 100;
/// Maximum length of the version of another machine's program, in bytes.
const MAX_SUITE_BYTES: usize = 32;

/// The state of a room on one machine, as this machine's bridge sends it to other bridges. Of two states of the same epoch (the same process), the
/// state with the higher counter is the newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u8,
    pub(crate) epoch: u64,
    pub(crate) counter: u64,
    /// Sample rate of the room, in Hz.
    pub(crate) rate: u32,
    pub(crate) recorded: bool,
    pub(crate) people: Vec<Person>,
}

/// A member of the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) login: String,
    pub(crate) display: String,
    /// Presence, hand and microphone of the member, as in the second field of a line of the file `names`: for example `here hand muted`.
    pub(crate) words: String,
    /// Whether the file `gain` mutes the member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) muted: bool,
}

/// A text message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) version: u8,
    pub(crate) epoch: u64,
    /// Login name of the sender.
    pub(crate) from: String,
    /// `None` for a message that is not kept, as a reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) text: String,
}

/// A heartbeat. Each machine sends one a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) version: u8,
    pub(crate) epoch: u64,
    /// CLOCK_MONOTONIC of the sender in µs.
    pub(crate) time_us: u64,
    /// Wall clock of the sender, in ms since 1970. `None` if the sender's release doesn't send this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unix_ms: Option<u64>,
    /// Version of the sender's program.
    pub(crate) suite: String,
    /// The rooms that the machine shares, with their sample rates in Hz.
    pub(crate) rooms: BTreeMap<String, u32>,
    /// Whether this is the last heartbeat of the process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) goodbye: bool,
}

/// Only the version of a message. A message of another version may lack the other fields.
#[derive(Deserialize)]
pub(crate) struct Version {
    pub(crate) version: u64,
}

impl Person {
    /// Returns the person of a member, or `None` if the member's line is invalid.
    pub(crate) fn new(member: &Member, muted: bool) -> Option<Self> {
        let line = member.to_string();
        let mut fields = line.splitn(3, '\t').skip(1).map(str::to_owned);
        let (words, display) = (fields.next()?, fields.next()?);
        Some(Self { login: member.name.to_string(), display, words, muted })
    }

    fn is_here(&self) -> bool {
        self.words.split(' ').next() == Some("here")
    }

    /// Returns the member, or `None` if a field is invalid.
    pub(crate) fn member(&self) -> Option<MachinePerson> {
        let member: Member = format!("{}\t{}\t{}", self.login, self.words, self.display).parse().ok()?;
        let level = if self.muted { MachineLevel::Muted } else { MachineLevel::Silent };
        Some(MachinePerson { member, level })
    }
}

impl State {
    /// Omits people until there are at most [`MAX_MACHINE_PEOPLE`] and the JSON is not longer than [`MAX_BYTES`]. Absent people are omitted first.
    /// Returns whether people were omitted.
    pub(crate) fn fit(&mut self) -> bool {
        let all = std::mem::take(&mut self.people);
        // One byte more than the person has, for a comma in the list.
        let length = |person: &Person| serde_json::to_vec(person).map_or(MAX_BYTES, |bytes| bytes.len() + 1);
        let mut space = MAX_BYTES.saturating_sub(serde_json::to_vec(self).map_or(MAX_BYTES, |bytes| bytes.len()));
        let mut fits = vec![false; all.len()];
        let mut count = 0;
        for is_here in [true, false] {
            for (fit, person) in fits.iter_mut().zip(&all).filter(|(_, person)| person.is_here() == is_here) {
                let needed = length(person);
                if needed <= space && count < MAX_MACHINE_PEOPLE {
                    (*fit, space, count) = (true, space - needed, count + 1);
                }
            }
        }
        let is_short = count < all.len();
        self.people = all.into_iter().zip(fits).filter_map(|(person, fit)| fit.then_some(person)).collect();
        is_short
    }

    /// Returns the members. Invalid members, and members after the maximum number, are omitted.
    pub(crate) fn members(&self) -> Vec<MachinePerson> {
        self.people.iter().take(MAX_MACHINE_PEOPLE).filter_map(Person::member).collect()
    }
}

impl Text {
    /// Returns the message of a participant of `machine`, or `None` if a field is invalid.
    pub(crate) fn message(&self, machine: &Name) -> Option<Message> {
        let from = Sender { name: self.from.parse().ok()?, machine: Some(machine.clone()) };
        let message = Message::new(from, &self.text)?;
        match &self.id {
            Some(id) => message.with_id(id),
            None => Some(message),
        }
    }
}

impl Heartbeat {
    /// Returns the heartbeat, or `None` if the message is too long or invalid. Invalid names of rooms are omitted. The program's version is replaced by `?`
    /// if it is not short and printable, because it is logged and printed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut heartbeat: Self = decode(bytes)?;
        let suite = heartbeat.suite.as_bytes();
        if !(1..=MAX_SUITE_BYTES).contains(&suite.len()) || !suite.iter().all(u8::is_ascii_graphic) {
            heartbeat.suite = "?".to_owned();
        }
        heartbeat.rooms.retain(|room, _| room.parse::<Name>().is_ok());
        let last = heartbeat.rooms.keys().nth(MAX_ROOMS).cloned();
        last.into_iter().for_each(|last| drop(heartbeat.rooms.split_off(&last)));
        Some(heartbeat)
    }
}

/// Returns the JSON of a message, or `None` if it is longer than the maximum length.
pub(crate) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(message).ok().filter(|bytes| bytes.len() <= MAX_BYTES)
}

/// Returns the message, or `None` if it is too long or invalid.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes.get(..bytes.len()).filter(|bytes| bytes.len() <= MAX_BYTES)?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn member_is_sent_and_received_with_all_its_fields() {
        for line in ["alice\there hand 2 muted weak\tZoé <b>", "bob\taway\tBob"] {
            let member: Member = line.parse().unwrap();
            let received = Person::new(&member, true).unwrap().member().unwrap();
            assert_eq!(received, MachinePerson { member, level: MachineLevel::Muted });
        }
    }

    #[test]
    fn invalid_members_are_omitted_and_invalid_texts_are_refused() {
        let state = r#"{"version":1,"epoch":2,"counter":3,"rate":24000,"recorded":true,"later":1,"people":[
            {"login":"alice","display":"A\nb","words":"here"},{"login":"b","display":"B","words":"here\tx"},
            {"login":"A","display":"B","words":"here"},{"login":"carol","display":"Carol","words":"here"}]}"#;
        let members = decode::<State>(state.as_bytes()).unwrap().members();
        assert_eq!(members.iter().map(|person| person.member.name.as_str()).collect::<Vec<_>>(), ["carol"]);
        let text = |from: &str, id: &str, text: &str| {
            let message = Text { version: 1, epoch: 2, from: from.into(), id: Some(id.into()), text: text.into() };
            message.message(&"paris".parse().unwrap()).map(|message| message.to_string())
        };
        assert_eq!(text("alice", "7", "hello").as_deref(), Some("alice@paris\t7\thello"));
        assert_eq!(
            [text("alice@lyon", "7", "x"), text("alice", "", "x"), text("alice", "7", "a\nb")],
            [None, None, None]
        );
    }

    #[test]
    fn heartbeat_has_only_printable_text_and_at_most_100_rooms() {
        let rooms = (0..300).map(|n| format!("\"r{n:03}\":24000,\"R{n}\\u001b[2J\":1")).collect::<Vec<_>>().join(",");
        let heartbeat = |suite: &str| {
            let text = format!(r#"{{"version":1,"epoch":2,"time_us":3,"suite":"{suite}","rooms":{{{rooms}}}}}"#);
            Heartbeat::decode(text.as_bytes()).unwrap()
        };
        assert_eq!(heartbeat("0.1.0").suite, "0.1.0");
        for bad in ["", "\\u001b[2J", "0.1\\n2026", "0 1", &"1".repeat(33)] {
            assert_eq!(heartbeat(bad).suite, "?", "{bad}");
        }
        let rooms = heartbeat("1").rooms;
        assert!(rooms.len() == 100 && rooms.contains_key("r099") && rooms.keys().all(|room| room.starts_with('r')));
        assert_eq!(Heartbeat::decode(b"[]"), None);
    }

    #[test]
    fn state_with_too_many_people_is_sent_without_absent_ones() {
        let person = |n: usize| {
            let (display, here) = ("\u{1F600}".repeat(64), if n.is_multiple_of(2) { "away" } else { "here" });
            Person { login: format!("p{n:03}"), display, words: here.into(), muted: false }
        };
        let people = (0..999).map(person).collect();
        let mut state = State { version: 1, epoch: 2, counter: u64::MAX, rate: 24_000, recorded: true, people };
        assert!(encode(&state).is_none() && state.fit());
        assert!(encode(&state).is_some_and(|bytes| bytes.len() > MAX_BYTES - 400));
        assert!(state.people.iter().all(Person::is_here) && state.people[0].login == "p001");
        state.people.truncate(100);
        assert!(!state.fit() && state.people.len() == 100);
        state.people = (0..1100).map(|n| Person { display: "P".into(), ..person(n) }).collect();
        assert!(state.fit() && state.people.len() == MAX_MACHINE_PEOPLE);
        assert_eq!(state.people.iter().filter(|person| person.is_here()).count(), 550);
    }

    #[test]
    fn message_that_is_too_long_is_neither_sent_nor_read() {
        assert_eq!(encode(&"a".repeat(MAX_BYTES)), None);
        let long = format!("\"{}\"", "a".repeat(MAX_BYTES));
        assert_eq!(decode::<String>(long.as_bytes()), None);
    }
}
