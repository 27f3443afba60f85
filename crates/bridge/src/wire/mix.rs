//! The binary message with the sum of a machine's talkers.
//!
//! All numbers are little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 2 | `PM` |
//! | 1 | version, 1 |
//! | 1 | form of the sound: 3 or 4 for samples of so many bytes, 0 for Opus, 1 for Opus whose encoder begins with this message |
//! | 4 | sample rate in Hz |
//! | 8 | epoch of the sender |
//! | 8 | number of samples that the sender has sent in this epoch before this message |
//! | 8 | CLOCK_MONOTONIC of the sender in µs |
//! | 1 | number of talkers, at most 8; for each: length of the login name (1 byte), login name, level in 0.1 dBFS (2 bytes, signed) |
//! | 1 | number of frames of 20 ms, 1 to 5 |
//! | … | signed samples, of 3 bytes if each fits into 24 bits; or for each frame the length of an Opus packet (2 bytes) and the packet |

use palabre_room::{FRAME_MS, Name, Rate};
use palabre_sound::opus::packets;

use super::VERSION;

/// First bytes of a message.
const MAGIC: [u8; 2] = *b"PM";
/// Maximum number of talkers in a message.
pub(crate) const MAX_TALKERS: usize = 8;
/// Maximum number of frames in a message.
pub(crate) const MAX_FRAMES: usize = 5;
/// Maximum length of a talker's login name, in bytes.
const MAX_NAME: usize = 32;
/// Form of the sound in a message: Opus.
const OPUS: u8 = 0;
/// Form of the sound in a message: Opus whose encoder begins with this message.
const OPUS_START: u8 = 1;
/// Maximum number of samples in a message: five frames at 48000 Hz. As many Opus packets are shorter.
const MAX_SAMPLES: usize = MAX_FRAMES * 960;
/// Maximum length of a message in bytes.
pub(crate) const MAX_BYTES: usize = MAX_HEAD_BYTES + 4 * MAX_SAMPLES;
/// Maximum length in bytes of a message before its sound.
const MAX_HEAD_BYTES: usize = 34 + MAX_TALKERS * (1 + MAX_NAME + 2);

/// A message with sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    /// Sample rate of the room on the sender's machine.
    pub(crate) rate: Rate,
    /// Start of the sender's process.
    pub(crate) epoch: u64,
    /// Number of samples that the sender has sent in this epoch before this message.
    pub(crate) counter: u64,
    /// CLOCK_MONOTONIC of the sender in µs.
    pub(crate) time_us: u64,
    /// The talkers, with their levels in 0.1 dBFS.
    pub(crate) talkers: Vec<(Name, i16)>,
    /// One or more frames of 20 ms.
    pub(crate) sound: Sound,
}

/// The sound of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// The exact sums.
    Exact(Vec<i32>),
    /// A list of Opus packets, one for each frame.
    Opus {
        packets: Vec<u8>,
        /// Whether the encoder begins with this message, so that the decoder must forget the sound so far.
        is_start: bool,
    },
}

impl Sound {
    /// Returns the number of frames of 20 ms.
    pub(crate) fn frames(&self, rate: Rate) -> usize {
        match self {
            Self::Exact(samples) => samples.len() / frame_samples(rate),
            Self::Opus { packets, .. } => packets::iter(packets).count(),
        }
    }

    /// Appends the sound in the form that [`Self::form`] has returned.
    fn encode(&self, form: u8, bytes: &mut Vec<u8>) {
        match self {
            Self::Exact(samples) => {
                let sample_bytes = usize::from(form);
                samples.iter().for_each(|sample| bytes.extend_from_slice(&sample.to_le_bytes()[..sample_bytes]));
            }
            Self::Opus { packets, .. } => bytes.extend_from_slice(packets),
        }
    }

    fn form(&self) -> u8 {
        match self {
            Self::Exact(samples) if samples.iter().all(|sample| (-(1 << 23)..1 << 23).contains(sample)) => 3,
            Self::Exact(_) => 4,
            Self::Opus { is_start: false, .. } => OPUS,
            Self::Opus { is_start: true, .. } => OPUS_START,
        }
    }

    fn decode(form: u8, frames: usize, rate: Rate, bytes: &[u8]) -> Result<Self, &'static str> {
        match form {
            3 | 4 if bytes.len() == frames * frame_samples(rate) * usize::from(form) => {
                Ok(Self::Exact(bytes.chunks_exact(usize::from(form)).map(sample).collect()))
            }
            3 | 4 => Err("the number of samples in the message with sound doesn't fit its number of audio frames"),
            OPUS | OPUS_START => {
                let mut count = 0;
                for packet in packets::iter(bytes) {
                    packet.map_err(|_| "the list of Opus packets in the message with sound is invalid")?;
                    count += 1;
                }
                let sound = Self::Opus { packets: bytes.to_vec(), is_start: form == OPUS_START };
                (count == frames).then_some(sound).ok_or(
                    "the number of Opus packets in the message with sound doesn't fit its number of audio frames",
                )
            }
            _ => Err(
                "the message with sound has an unknown encoding; install the same version of palabre-bridge on both machines",
            ),
        }
    }
}

impl Mix {
    /// Returns the bytes of the message. Talkers after the maximum number are omitted.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let sound_bytes = match &self.sound {
            Sound::Exact(samples) => 4 * samples.len(),
            Sound::Opus { packets, .. } => packets.len(),
        };
        let (form, mut bytes) = (self.sound.form(), Vec::with_capacity(MAX_HEAD_BYTES + sound_bytes));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, form]);
        bytes.extend_from_slice(&self.rate.hz().to_le_bytes());
        [self.epoch, self.counter, self.time_us].iter().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        let talkers = &self.talkers[..self.talkers.len().min(MAX_TALKERS)];
        bytes.push(small(talkers.len()));
        for (name, level) in talkers {
            bytes.push(small(name.as_str().len()));
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(&level.to_le_bytes());
        }
        bytes.push(small(self.sound.frames(self.rate)));
        self.sound.encode(form, &mut bytes);
        bytes
    }

    /// Returns the message, or an error that says what is invalid. Nothing is allocated for a message that is too long.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > MAX_BYTES {
            return Err("the message is too long");
        }
        let mut rest = Rest(bytes);
        if rest.take::<2>()? != MAGIC || rest.take::<1>()? != [VERSION] {
            return Err("the message has another version");
        }
        let [form] = rest.take::<1>()?;
        let rate = Rate::try_from(u32::from_le_bytes(rest.take()?)).map_err(|_| "the sample rate is invalid")?;
        let [epoch, counter, time_us] = [rest.number()?, rest.number()?, rest.number()?];
        let talkers = rest.talkers()?;
        let [frames] = rest.take::<1>()?;
        if !(1..=MAX_FRAMES).contains(&usize::from(frames)) {
            return Err("the number of audio frames in the message with sound is invalid");
        }
        let sound = Sound::decode(form, usize::from(frames), rate, rest.0)?;
        Ok(Self { rate, epoch, counter, time_us, talkers, sound })
    }
}

/// Returns the number of samples in a frame of 20 ms.
fn frame_samples(rate: Rate) -> usize {
    rate.hz() as usize / 1000 * FRAME_MS as usize
}

fn small(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// Returns a sample of 3 or 4 bytes.
fn sample(bytes: &[u8]) -> i32 {
    match *bytes {
        [a, b, c] => i32::from_le_bytes([0, a, b, c]) >> 8,
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// The bytes of a message that are not decoded yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or("the message is too short")?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        self.take().map(u64::from_le_bytes)
    }

    fn talkers(&mut self) -> Result<Vec<(Name, i16)>, &'static str> {
        let [count] = self.take::<1>()?;
        if usize::from(count) > MAX_TALKERS {
            return Err("the message with sound names more than the maximum number of talkers");
        }
        (0..count).map(|_| self.talker()).collect()
    }

    fn talker(&mut self) -> Result<(Name, i16), &'static str> {
        let [length] = self.take::<1>()?;
        let (name, rest) = self.0.split_at_checked(usize::from(length)).ok_or("the message is too short")?;
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        self.0 = rest;
        Ok((name.ok_or("the message with sound has an invalid name of a talker")?, i16::from_le_bytes(self.take()?)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mix(samples: Vec<i32>) -> Mix {
        Mix {
            rate: Rate::try_from(16_000).unwrap(),
            epoch: 0x0102_0304,
            counter: 640,
            time_us: 5_000_000,
            talkers: vec![("alice".parse().unwrap(), -213), ("bob".parse().unwrap(), i16::MIN)],
            sound: Sound::Exact(samples),
        }
    }

    #[test]
    fn encoded_samples_are_decoded_exactly_in_24_or_32_bits() {
        for (edge, sample_bytes) in [((1 << 23) - 1, 3), (-(1 << 23), 3), (1 << 23, 4), (i32::MIN, 4)] {
            let mix = mix([vec![1, -2, 70_000, edge], vec![0; 316]].concat());
            let bytes = mix.encode();
            assert_eq!((bytes[3], bytes.len()), (sample_bytes, 34 + 8 + 6 + 320 * usize::from(sample_bytes)));
            assert_eq!(Mix::decode(&bytes).unwrap(), mix);
        }
    }

    /// Returns a message of three frames with packets of these lengths.
    fn opus(lengths: &[usize], is_start: bool) -> Mix {
        let mut list = Vec::new();
        lengths.iter().for_each(|length| packets::push(&mut list, &vec![9; *length]));
        Mix { sound: Sound::Opus { packets: list, is_start }, ..mix(Vec::new()) }
    }

    #[test]
    fn opus_packets_are_decoded_as_they_were_encoded() {
        for (is_start, form) in [(false, 0), (true, 1)] {
            let mix = opus(&[1, 160, 1275], is_start);
            let bytes = mix.encode();
            assert_eq!((bytes[3], bytes.len()), (form, 34 + 8 + 6 + 3 * 2 + 1436));
            assert_eq!(Mix::decode(&bytes).unwrap(), mix);
        }
    }

    #[test]
    fn invalid_opus_lists_are_refused() {
        let good = opus(&[160; 3], true).encode();
        assert!((0..good.len()).all(|length| Mix::decode(&good[..length]).is_err()));
        // Each pair changes one byte of a valid message: of the number of frames, the form of the sound, or the length of the first packet.
        for (at, byte) in [(47, 2), (47, 4), (3, 2), (3, 3), (48, 0), (49, 5)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert!(Mix::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn invalid_messages_are_refused() {
        let good = mix(vec![7; 320]).encode();
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        // Each pair changes one byte of a valid message: of the first two bytes, the version, the form of the sound, the rate, the number of talkers,
        // the length of a name, a name, or the number of frames.
        for (at, byte) in [(0, 0), (2, 2), (3, 2), (3, 4), (4, 0), (32, 9), (33, 99), (34, b'A'), (47, 0), (47, 6)] {
            assert!(Mix::decode(&changed(at, byte)).is_err(), "byte {at}");
        }
        assert!((0..good.len()).all(|length| Mix::decode(&good[..length]).is_err()));
        assert!(Mix::decode(&[good.clone(), vec![0]].concat()).is_err());
        assert!(Mix::decode(&vec![b'P'; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn document_has_the_bytes_of_a_message() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/several-machines.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (_, rest) = document.split_once("```hex mix\n").unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        let bytes: Vec<u8> = block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let talkers = vec![("alice".parse().unwrap(), -213)];
        let expected = Mix { epoch: 7, counter: 960, talkers, ..mix([vec![1, -2, 70_000], vec![0; 317]].concat()) };
        let encoded = expected.encode();
        assert_eq!((encoded.len(), &encoded[..bytes.len()]), (34 + 8 + 3 * 320, &bytes[..]));
    }

    #[test]
    fn longest_message_is_decoded() {
        let name: Name = "a".repeat(32).parse().unwrap();
        let rate = Rate::try_from(48_000).unwrap();
        let longest = Mix { rate, talkers: vec![(name, 0); 8], ..mix(vec![i32::MAX; MAX_SAMPLES]) };
        let bytes = longest.encode();
        assert_eq!((bytes.len(), Mix::decode(&bytes)), (MAX_BYTES, Ok(longest)));
    }

    proptest! {
        #[test]
        fn any_message_is_decoded_as_it_was_encoded(
            numbers in any::<[u64; 3]>(),
            level in any::<i16>(),
            frames in 1..=MAX_FRAMES,
            start in any::<i32>(),
        ) {
            let samples = (0..320 * frames as i32).map(|i| start.wrapping_mul(i)).collect();
            let [epoch, counter, time_us] = numbers;
            let mix = Mix { epoch, counter, time_us, talkers: vec![("a".parse().unwrap(), level)], ..mix(samples) };
            prop_assert_eq!(Mix::decode(&mix.encode()).unwrap(), mix);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Mix::decode(&[b"PM\x01\x03".as_slice(), &bytes].concat());
            let _ = Mix::decode(&[opus(&[1], true).encode(), bytes.clone()].concat());
            let _ = Mix::decode(&bytes);
        }
    }
}
