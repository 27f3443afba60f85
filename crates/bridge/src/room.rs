//! A shared room on this machine: what it sends to other machines, and what it receives from them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_config::{Bridge as Settings, BridgeCodec};
use palabre_host::clock::boottime_ms;
use palabre_host::lock::Lock;
use palabre_host::log_limit::LastWarning;
use palabre_host::rate_limit::RateLimit;
use palabre_room::{
    FRAME_MS, Format, Inbox, Message, Name, OpenError, PipeReader, RoomDir, RoomError, Start, Talk, file_id,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::codec::Encoder;
use crate::peer::{self, RoomPeer};
use crate::wire::VERSION;
use crate::wire::json::{Person, State, Text};
use crate::wire::mix::{MAX_TALKERS, Mix, Sound};

/// Maximum number of datagrams that are read from the inbox at once.
const MAX_DATAGRAMS: usize = 16;
/// Maximum number of received text messages that wait for the lock of the room.
const MAX_TEXTS: usize = 64;
/// Maximum time for which a received text message waits for the lock of the room.
const MAX_TEXT_AGE: Duration = Duration::from_secs(5);
/// Minimum interval between two states.
const STATE_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between states without a change.
const STATE_REPEAT: Duration = Duration::from_secs(10);
/// Interval between attempts to open the pipe and the inbox.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two reads of the file `levels`.
const LEVELS_INTERVAL: Duration = Duration::from_millis(100);

/// A shared room.
pub(crate) struct Room {
    pub(crate) name: Name,
    pub(crate) dir: RoomDir,
    pub(crate) format: Format,
    pub(crate) peers: BTreeMap<Name, RoomPeer>,
    message_frames: usize,
    /// Bit rate of Opus in kbit/s, or `None` for exact samples.
    opus_kbps: Option<u32>,
    encoder: Option<Encoder>,
    out: Option<(PipeReader, AsyncFd<OwnedFd>)>,
    inbox: Option<(Inbox, AsyncFd<OwnedFd>)>,
    open_at: Duration,
    /// Samples for the next message.
    gathered: Vec<i32>,
    /// The time from which an incomplete message waits: when its oldest sample was read, or when the previous message was made, if samples were left.
    gathered_at: Duration,
    counter: u64,
    talkers: Vec<(Name, i16)>,
    levels_at: Duration,
    state: Option<State>,
    state_counter: u64,
    /// Whether the last state lacks people, because not all fit into a message.
    pub(crate) has_too_many_people: bool,
    state_at: Duration,
    repeat_at: Duration,
    texts: VecDeque<(Duration, Message)>,
    /// Rate limit for the texts that are sent to other machines. A listener accepts at most twenty a second.
    text_limit: RateLimit,
    warning: LastWarning,
}

impl Room {
    pub(crate) fn new(name: Name, run: &Path, settings: &Settings) -> Self {
        let dir = RoomDir::new(run.join("rooms").join(&name));
        Self {
            name,
            dir,
            format: Format::default(),
            peers: BTreeMap::new(),
            message_frames: (settings.message_ms / FRAME_MS) as usize,
            opus_kbps: (settings.codec == BridgeCodec::Opus).then_some(settings.opus_kbps),
            encoder: None,
            out: None,
            inbox: None,
            open_at: Duration::ZERO,
            gathered: Vec::new(),
            gathered_at: Duration::ZERO,
            counter: 0,
            talkers: Vec::new(),
            levels_at: Duration::ZERO,
            state: None,
            state_counter: 0,
            has_too_many_people: false,
            state_at: Duration::ZERO,
            repeat_at: Duration::ZERO,
            texts: VecDeque::new(),
            text_limit: RateLimit::new(20.0, 100.0),
            warning: LastWarning::default(),
        }
    }

    /// Removes the files and pipes of all machines.
    pub(crate) fn clear(&self) {
        let known = [self.dir.other_machines().machines(), self.dir.machines().machines()];
        known.into_iter().flatten().flatten().for_each(|machine| peer::remove(&self.dir, &machine));
    }

    /// Returns the sample rate in Hz, or `None` while the room is not open.
    pub(crate) fn rate_hz(&self) -> Option<u32> {
        self.out.is_some().then(|| self.format.rate.hz())
    }

    /// Returns the descriptors that become readable when the room has something to send.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &AsyncFd<OwnedFd>> {
        self.out.iter().map(|(_, fd)| fd).chain(self.inbox.iter().map(|(_, fd)| fd))
    }

    /// Opens the pipe `out` and the inbox. Opens them again after the room was created again. Returns whether the room is open.
    pub(crate) fn open(&mut self, now: Duration) -> bool {
        if now < self.open_at {
            return self.out.is_some();
        }
        self.open_at = now + OPEN_INTERVAL;
        let path = self.dir.machines().out();
        let id = file_id(&path).ok();
        if self.out.as_ref().is_some_and(|(reader, _)| Some(reader.id()) != id) {
            (self.out, self.inbox) = (None, None);
        }
        if self.out.is_none() {
            match self.open_now() {
                Ok(()) => drop(self.warning.clear()),
                Err(error) => {
                    let text = format!("{error}; the room '{}' is not connected with other machines", self.name);
                    if let Some(text) = self.warning.unless_repeated(text) {
                        log::warn!("{text}");
                    }
                }
            }
        }
        self.out.is_some()
    }

    fn open_now(&mut self) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if !self.dir.path().is_dir() {
            return Err(format!(
                "unable to find room '{}'; start palabre-supervisor, or invite a participant into the room",
                self.dir.path().display()
            ));
        }
        self.format = self.dir.format().map_err(|error| text(&error))?;
        self.encoder = self.opus_kbps.and_then(|kbps| Encoder::new(self.format.rate, kbps));
        self.dir.create_shared().map_err(|error| text(&error))?;
        self.dir.machines().create(&[]).map_err(|error| text(&error))?;
        let opened = PipeReader::open_sums(&self.dir.machines().out(), self.format, Start::Discard);
        let out = opened.map_err(|error: OpenError| text(&error))?;
        let inbox = Inbox::bind_for_machines(&self.dir.machines()).map_err(|error| text(&error))?;
        let (out_fd, inbox_fd) = (polled(&out), polled(&inbox));
        let error = |error: io::Error| {
            format!(
                "unable to wait for sound and text messages of the room in '{}': {error}",
                self.dir.path().display()
            )
        };
        (self.out, self.inbox) = (Some((out, out_fd.map_err(error)?)), Some((inbox, inbox_fd.map_err(error)?)));
        self.clear();
        self.peers.values_mut().for_each(RoomPeer::begin_room);
        log::info!("the room '{}' is shared", self.name);
        Ok(())
    }

    /// Reads the pipe `out`. If the sound in it is too old, drops it.
    pub(crate) fn read(&mut self, now: Duration, is_old: bool) {
        let Some((reader, _)) = &mut self.out else { return };
        let before = self.gathered.len();
        while let Ok(1..) = reader.read_sums(Instant::now(), &mut self.gathered, 1 << 14) {}
        if before == 0 && !self.gathered.is_empty() {
            self.gathered_at = now;
        }
        if is_old {
            self.counter += self.gathered.len() as u64;
            self.gathered.clear();
        }
    }

    /// Returns the next message with sound if it is complete, or if its first frame has waited for the duration of a complete message.
    pub(crate) fn next_mix(&mut self, epoch: u64, now: Duration) -> Option<Mix> {
        let frame = self.format.frame_samples();
        let frames = (self.gathered.len() / frame).min(self.message_frames);
        let has_waited = now >= self.gathered_at + Duration::from_millis(FRAME_MS) * self.message_frames as u32;
        if frames == 0 || (frames < self.message_frames && !has_waited) {
            return None;
        }
        let samples: Vec<i32> = self.gathered.drain(..frames * frame).collect();
        self.gathered_at = now;
        self.read_talkers(now);
        let counter = self.counter;
        self.counter += samples.len() as u64;
        let time_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let sound = Sound::Exact(samples);
        Some(Mix { rate: self.format.rate, epoch, counter, time_us, talkers: self.talkers.clone(), sound })
    }

    /// Returns the bytes of a message, with its sound in this machine's codec.
    pub(crate) fn encode(&mut self, mix: Mix) -> Vec<u8> {
        match &mut self.encoder {
            Some(encoder) => encoder.encode(mix).encode(),
            None => mix.encode(),
        }
    }

    fn read_talkers(&mut self, now: Duration) {
        if now < self.levels_at {
            return;
        }
        self.levels_at = now + LEVELS_INTERVAL;
        let mut levels = self.dir.levels().unwrap_or_default();
        levels.retain(|line| line.state == Talk::Talking);
        levels.sort_by(|a, b| b.dbfs.total_cmp(&a.dbfs));
        // A cast from a float saturates.
        let talkers = levels.into_iter().take(MAX_TALKERS).map(|line| (line.name, (line.dbfs * 10.0).round() as i16));
        self.talkers = talkers.collect();
    }

    /// Returns the state if it has changed or must be repeated. Reads the files at most four times a second.
    pub(crate) fn next_state(&mut self, epoch: u64, now: Duration) -> Option<State> {
        if now < self.state_at || self.out.is_none() {
            return None;
        }
        self.state_at = now + STATE_INTERVAL;
        let muted: Vec<Name> = self
            .dir
            .levels()
            .unwrap_or_default()
            .into_iter()
            .filter(|line| line.state == Talk::Muted)
            .map(|line| line.name)
            .collect();
        let members = self.dir.names().unwrap_or_default();
        let mut state = State {
            version: VERSION,
            epoch,
            counter: self.state_counter,
            rate: self.format.rate.hz(),
            recorded: self.dir.recording().exists(),
            people: members.iter().filter_map(|member| Person::new(member, muted.contains(&member.name))).collect(),
        };
        self.has_too_many_people = state.fit();
        if self.state.as_ref() == Some(&state) && now < self.repeat_at {
            return None;
        }
        self.repeat_at = now + STATE_REPEAT;
        self.state_counter += 1;
        self.state = Some(State { counter: self.state_counter, ..state });
        self.state.clone()
    }

    /// Makes [`Self::next_state`] return the state soon, because another machine doesn't know it.
    pub(crate) fn repeat_state(&mut self) {
        self.repeat_at = Duration::ZERO;
    }

    /// Returns the new texts of this machine's participants, which must be sent to the other machines. Drops texts above the rate limit.
    pub(crate) fn take_texts(&mut self, epoch: u64) -> Vec<Text> {
        let Some((inbox, _)) = &self.inbox else { return Vec::new() };
        let (_, messages) = inbox.receive(MAX_DATAGRAMS);
        let mut texts = Vec::new();
        for Message { from, id, text } in messages.into_iter().filter(|message| message.from.machine.is_none()) {
            if self.text_limit.admit(Instant::now()) {
                texts.push(Text { version: VERSION, epoch, from: from.to_string(), id, text });
            }
        }
        texts
    }

    /// Queues a text from another machine for [`Self::tell`]. Drops it if [`MAX_TEXTS`] texts wait already.
    pub(crate) fn accept_text(&mut self, message: Message, now: Duration) {
        if self.texts.len() < MAX_TEXTS {
            self.texts.push_back((now, message));
        }
    }

    /// Sends the queued texts of other machines to this machine's participants, and stores those that have an ID. Drops texts that have waited for
    /// [`MAX_TEXT_AGE`], and texts whose ID another stored text of the sender has. If the room is locked, a text with an ID and all later texts stay
    /// queued.
    pub(crate) fn tell(&mut self, now: Duration) {
        while let Some((arrived, message)) = self.texts.front() {
            if now < *arrived + MAX_TEXT_AGE {
                let Some(kept) = self.keep(message) else { return };
                if matches!(kept, Ok(true) | Err(_)) {
                    kept.map(drop)
                        .and_then(|()| self.dir.tell(message).map(drop))
                        .unwrap_or_else(|error| log::warn!("{error}"));
                }
            }
            self.texts.pop_front();
        }
    }

    /// Stores a text that has an ID. Returns whether it must be sent to the participants, or `None` if the room is locked.
    fn keep(&self, message: &Message) -> Option<Result<bool, RoomError>> {
        if message.id.is_none() {
            return Some(Ok(true));
        }
        let _lock = Lock::wait(self.dir.path(), Duration::ZERO).ok().flatten()?;
        Some(self.dir.keep_message(message, boottime_ms()))
    }

    /// Removes the inbox, and the files and pipes of all machines, from the room.
    pub(crate) fn end(&mut self) {
        self.clear();
        if self.inbox.take().is_some() {
            let _ = std::fs::remove_file(self.dir.machines().inbox());
        }
    }
}

/// Returns a descriptor with which the runtime waits.
///
/// Tokio deprecates the safe constructor, because a type could close its descriptor or return another one later. `OwnedFd` does neither.
#[allow(deprecated)]
pub(crate) fn polled(fd: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd.as_fd().try_clone_to_owned()?, Interest::READABLE)
}
