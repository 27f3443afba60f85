//! Checks that this crate writes and reads the examples of `docs/room-directory.md`.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_room::{
    BridgeReport, EarFrames, Format, Inbox, MachineLevel, MixerReport, PipeReader, PipeWriter, RecordingReader,
    RoomDir, Start, Talk, Wrote,
};

const DOCUMENT: &str = include_str!("../../../docs/room-directory.md");

/// Returns the content of the fenced block with the tag `tag`.
fn example(tag: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("```{tag}")).unwrap_or_else(|| panic!("no example '{tag}'"));
    rest.split_once('\n').unwrap().1.split_once("```").unwrap().0
}

fn room() -> (tempfile::TempDir, RoomDir) {
    let dir = tempfile::tempdir().unwrap();
    let room = RoomDir::new(dir.path().join("main"));
    room.create(Format::default()).unwrap();
    (dir, room)
}

#[test]
fn the_example_of_format_is_the_default() {
    let (_dir, room) = room();
    assert_eq!(std::fs::read_to_string(room.path().join("format")).unwrap(), example("text format"));
}

#[test]
fn the_examples_of_lists_are_read_and_written_back_unchanged() {
    let (_dir, room) = room();
    std::fs::write(room.path().join("names"), example("text names")).unwrap();
    std::fs::write(room.path().join("levels"), example("text levels")).unwrap();
    let (names, levels) = (room.names().unwrap(), room.levels().unwrap());
    assert_eq!((names.len(), levels.len()), (4, 3));
    room.write_names(&names).unwrap();
    room.write_levels(&levels).unwrap();
    assert_eq!(std::fs::read_to_string(room.path().join("names")).unwrap(), example("text names"));
    assert_eq!(std::fs::read_to_string(room.path().join("levels")).unwrap(), example("text levels"));
    let muted: Vec<_> = levels.into_iter().filter(|line| line.state == Talk::Muted).collect();
    room.write_levels(&muted).unwrap();
    assert_eq!(std::fs::read_to_string(room.path().join("levels")).unwrap(), example("text levels of a silent room"));
}

#[test]
fn the_example_of_the_mixer_s_counters_is_read_and_written_back_unchanged() {
    let (dir, _room) = room();
    let file = dir.path().join(".mixer-counts");
    std::fs::write(&file, example("text mixer-counts")).unwrap();
    let report = MixerReport::read(dir.path()).unwrap().unwrap();
    assert_eq!((report.late[0], report.participants[0].talked_ms), (41_000, 65_000));
    report.write(dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), example("text mixer-counts"));
}

#[test]
fn the_example_of_the_bridge_s_state_is_read_and_written_back_unchanged() {
    let (dir, _room) = room();
    let file = dir.path().join(".bridge");
    std::fs::write(&file, example("text bridge")).unwrap();
    let report = BridgeReport::read(dir.path()).unwrap().unwrap();
    assert_eq!((report.unsent, report.links[1].delay_ms), (7, 12));
    report.write(dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), example("text bridge"));
}

#[test]
fn the_example_of_ear_frames_is_written_for_chunks_of_40_ms() {
    let (_dir, room) = room();
    let alice = room.participant(&"alice".parse().unwrap());
    alice.create().unwrap();
    assert_eq!(alice.ear_frames().unwrap(), EarFrames::default());
    alice.set_ear_frames(EarFrames::of_chunk(40)).unwrap();
    assert_eq!(std::fs::read_to_string(alice.path().join("ear-frames")).unwrap(), example("text ear-frames"));
    assert_eq!(alice.ear_frames().unwrap(), EarFrames::of_chunk(40));
}

#[test]
fn the_examples_of_gain_and_gains_are_read_and_written_back_unchanged() {
    let (_dir, room) = room();
    let alice = room.participant(&"alice".parse().unwrap());
    alice.create().unwrap();
    std::fs::write(alice.path().join("gain"), example("text gain")).unwrap();
    std::fs::write(alice.path().join("gains"), example("text gains")).unwrap();
    alice.set_gain(Some(alice.gain().unwrap())).unwrap();
    alice.set_gains(&alice.gains().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(alice.path().join("gain")).unwrap(), example("text gain"));
    assert_eq!(std::fs::read_to_string(alice.path().join("gains")).unwrap(), example("text gains"));
}

#[test]
fn the_examples_of_levelling_are_read_and_written_back_unchanged() {
    let (_dir, room) = room();
    let alice = room.participant(&"alice".parse().unwrap());
    alice.create().unwrap();
    std::fs::write(room.path().join("levelling"), example("text levelling of a room")).unwrap();
    std::fs::write(alice.path().join("levelling"), example("text levelling of a participant")).unwrap();
    room.set_levelling(room.levelling().unwrap()).unwrap();
    alice.set_levelling(alice.levelling().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(room.path().join("levelling")).unwrap(), "on\n");
    assert_eq!(std::fs::read_to_string(alice.path().join("levelling")).unwrap(), "off\n");
}

#[test]
fn the_example_of_a_message_is_what_an_inbox_takes() {
    let (_dir, room) = room();
    let alice = room.participant(&"alice".parse().unwrap());
    alice.create().unwrap();
    let inbox = Inbox::bind(&alice).unwrap();
    let datagram = example("text message").trim_end();
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(datagram.as_bytes(), alice.inbox()).unwrap();
    let message = inbox.receive(1).1.remove(0);
    assert_eq!(message.to_string(), datagram);
}

#[test]
fn the_example_of_kept_messages_is_read_and_written_back_unchanged() {
    let (_dir, room) = room();
    let (path, example) = (room.path().join(".meeting/texts"), example("text texts"));
    std::fs::write(&path, example).unwrap();
    let kept = room.kept_messages(86_465_000).unwrap();
    std::fs::remove_file(&path).unwrap();
    kept.iter().for_each(|kept| assert!(room.keep_message(&kept.message, kept.sent_ms).unwrap()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), example);
}

#[test]
fn the_example_of_samples_is_what_crosses_a_pipe() {
    let (_dir, room) = room();
    let alice = room.participant(&"alice".parse().unwrap());
    alice.create().unwrap();
    let mut reader = PipeReader::open(&alice.mic(), Format::default(), Start::Discard).unwrap();
    let mut writer = PipeWriter::open(&alice.mic(), Format::default()).unwrap();
    let (samples, bytes) = example_of_samples();
    assert_eq!(writer.write(&samples), Wrote::Whole);
    let mut raw = vec![0; bytes.len()];
    let mut other = std::fs::OpenOptions::new().read(true).open(alice.mic()).unwrap();
    std::io::Read::read_exact(&mut other, &mut raw).unwrap();
    assert_eq!(raw, bytes);
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(alice.mic()).unwrap(), &raw).unwrap();
    let mut read = Vec::new();
    reader.read(std::time::Instant::now(), &mut read, 100).unwrap();
    assert_eq!(read, samples);
}

#[test]
fn the_example_of_a_recording_is_a_frame_of_alice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut reader = RecordingReader::create(&path, Format::default()).unwrap();
    let head = example("hex recording").split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
    let mut record: Vec<u8> = head.collect();
    record.resize(8 + 32 + 960, 0);
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(&path).unwrap(), &record).unwrap();
    let mut takes = Vec::new();
    assert_eq!(reader.read(&mut takes).unwrap(), 1);
    assert_eq!((takes[0].at.as_secs_f64(), takes[0].name.as_str()), (1.0, "alice"));
    assert_eq!((&takes[0].frame[..4], takes[0].frame.len()), (&[1, -2, 256, 0][..], 480));
}

#[test]
fn the_example_of_sums_is_written_and_read() {
    let (_dir, room) = room();
    room.machines().create(&["paris".parse().unwrap()]).unwrap();
    let bytes = bytes_of("hex sums");
    let path = room.machines().from(&"paris".parse().unwrap());
    let mut reader = PipeReader::open_sums(&path, Format::default(), Start::Discard).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let mut sums = Vec::new();
    reader.read_sums(std::time::Instant::now(), &mut sums, 100).unwrap();
    assert_eq!(sums, [1, -2, 70_000]);
    let mut writer = PipeWriter::open_sums(&path, Format::default()).unwrap();
    assert_eq!(writer.write_sums(&sums), Wrote::Whole);
    let mut again = Vec::new();
    reader.read_sums(std::time::Instant::now(), &mut again, 100).unwrap();
    assert_eq!(again, sums);
}

#[test]
fn the_example_of_another_machine_is_read_and_written_back_unchanged() {
    let (_dir, room) = room();
    let (machines, paris) = (room.other_machines(), "paris".parse().unwrap());
    std::fs::write(machines.file(&paris), example("text machine")).unwrap();
    let state = machines.read(&paris).unwrap().unwrap();
    assert!(state.is_recorded && !state.is_cut_off);
    assert_eq!(
        state.people.iter().map(|person| person.level).collect::<Vec<_>>(),
        [MachineLevel::Talking(-21.3), MachineLevel::Silent]
    );
    machines.write(&paris, &state).unwrap();
    assert_eq!(std::fs::read_to_string(machines.file(&paris)).unwrap(), example("text machine"));
}

#[test]
fn the_example_of_a_message_from_another_machine_is_parsed_and_written_back_unchanged() {
    let datagram = example("text message from another machine").trim_end();
    let message: palabre_room::Message = datagram.parse().unwrap();
    assert_eq!(message.from.machine.as_ref().map(AsRef::as_ref), Some("paris"));
    assert_eq!(message.to_string(), datagram);
}

/// Returns the bytes of an example in hexadecimal numbers.
fn bytes_of(tag: &str) -> Vec<u8> {
    example(tag).split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Returns the samples from the numbers in the block's tag, and the bytes from the content of the block.
fn example_of_samples() -> (Vec<i16>, Vec<u8>) {
    let (_, rest) = DOCUMENT.split_once("```hex pcm ").unwrap();
    let (numbers, _) = rest.split_once('\n').unwrap();
    let samples = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    let bytes = example("hex pcm").split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    (samples, bytes)
}
