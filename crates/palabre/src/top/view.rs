//! Draws the screen of `palabre top`.

use palabre_config::control::{ParticipantStatus, State, Status};
use palabre_room::Talk;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use crate::snapshot::Snapshot;
use crate::status;
use crate::table::printable;

/// Width of a level meter, in character cells. Each cell stands for 3 dB.
const METER: usize = 20;
const CODEC: &str = "CODEC";
/// Names and widths of the columns.
const COLUMNS: [(&str, u16); 12] = [
    ("NAME", 16),
    ("ROOM", 10),
    ("STATE", 11),
    ("LEVEL", METER as u16),
    ("", 8),
    ("CONN", 4),
    (CODEC, 16),
    ("DELAY", 7),
    ("LOST", 5),
    ("UNDERRUNS", 9),
    ("CPU", 6),
    ("MEMORY", 8),
];
/// Width of all columns, with a blank between two columns.
const WIDE: u16 = 131;
/// Level in dBFS at which a level meter is empty.
const FLOOR_DBFS: f32 = -60.0;
/// Level in dBFS above which the cells of a level meter are red.
const LOUD_DBFS: f32 = -9.0;

/// The data that the screen of `palabre top` shows.
pub(super) struct View<'a> {
    pub(super) status: &'a Status,
    pub(super) snapshot: &'a Snapshot,
    /// Why the last status request failed.
    pub(super) error: Option<&'a str>,
    /// Index of the first participant shown.
    pub(super) first: usize,
}

impl View<'_> {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(self.title(), top);
        // In a narrow terminal all columns would be cut, so the column with the codec is left out.
        let columns: Vec<(&str, u16)> =
            COLUMNS.into_iter().filter(|(name, _)| *name != CODEC || middle.width >= WIDE).collect();
        let head = Row::new(columns.iter().map(|(name, _)| *name));
        let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
        let has_codec = columns.len() == COLUMNS.len();
        let rows = self.status.participants.iter().skip(self.first).map(|one| self.row(one, has_codec));
        let table = Table::new(rows, widths).header(head.style(Style::new().add_modifier(Modifier::REVERSED)));
        frame.render_widget(table, middle);
        frame.render_widget(self.foot(), bottom);
    }

    fn title(&self) -> Line<'static> {
        let participants = &self.status.participants;
        let connected = participants.iter().filter(|one| one.state == State::Serving).count();
        let talking = participants
            .iter()
            .filter(|one| self.snapshot.level(one).is_some_and(|it| it.state == Talk::Talking))
            .count();
        let people = if participants.len() == 1 { "participant" } else { "participants" };
        Line::from(format!(
            "Palabre {}: {} {people}, {connected} connected, {talking} talking",
            self.status.version,
            participants.len()
        ))
    }

    fn foot(&self) -> Line<'static> {
        match self.error {
            Some(error) => Line::styled(printable(error), Color::Red),
            None => {
                let programs = self.snapshot.daemons.iter().map(|daemon| {
                    let usage = self.snapshot.usage(daemon.pid);
                    format!("{} {}, {}   ", daemon.program, status::cpu(usage), status::memory(usage))
                });
                Line::from(programs.collect::<String>() + "q quits, arrow keys scroll")
            }
        }
    }

    fn row(&self, one: &ParticipantStatus, has_codec: bool) -> Row<'static> {
        let (level, usage, page) = (self.snapshot.level(one), self.snapshot.usage(one.pid), status::page(one));
        let state = match one.state {
            State::Failed => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            State::BackingOff => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        let (meter, figure) = match level {
            Some(level) if level.state == Talk::Muted => (Line::from("muted"), String::new()),
            Some(level) => (meter(level.dbfs), format!("{:.0} dBFS", level.dbfs)),
            None => (meter(f32::NEG_INFINITY), String::new()),
        };
        let codec = has_codec.then(|| Cell::from(status::or_dash(status::codec(one))));
        let first = [
            Cell::from(printable(&one.name)),
            Cell::from(printable(&one.room)),
            Cell::from(Span::styled(one.state.to_string(), state)),
            Cell::from(meter),
            Cell::from(figure),
            Cell::from(self.snapshot.connections(one).to_string()),
        ];
        let last = [
            Cell::from(status::or_dash(page.delay_ms.map(|ms| format!("{ms} ms")))),
            Cell::from(status::or_dash(page.lost)),
            Cell::from(status::or_dash(page.underruns)),
            Cell::from(status::cpu(usage)),
            Cell::from(status::memory(usage)),
        ];
        Row::new(first.into_iter().chain(codec).chain(last))
    }
}

/// Draws a level meter. Full and empty cells are different characters, so the meter can be read without colours.
fn meter(dbfs: f32) -> Line<'static> {
    let cells =
        |dbfs: f32| ((dbfs - FLOOR_DBFS) / -FLOOR_DBFS * METER as f32).round().clamp(0.0, METER as f32) as usize;
    let (full, loud) = (cells(dbfs), cells(LOUD_DBFS));
    Line::from(vec![
        Span::styled("█".repeat(full.min(loud)), Color::Green),
        Span::styled("█".repeat(full.saturating_sub(loud)), Color::Red),
        Span::styled("·".repeat(METER - full), Color::DarkGray),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::status::tests::scene;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn meter_has_one_cell_per_3_db() {
        let text = |dbfs: f32| meter(dbfs).to_string();
        assert_eq!(text(f32::NEG_INFINITY), "·".repeat(20));
        assert_eq!(text(-30.0), "█".repeat(10) + &"·".repeat(10));
        assert_eq!(text(3.0), "█".repeat(20));
    }

    #[test]
    fn every_participant_has_a_line_with_a_meter() {
        let (status, snapshot) = scene();
        let mut terminal = Terminal::new(TestBackend::new(132, 7)).unwrap();
        terminal
            .draw(|frame| View { status: &status, snapshot: &snapshot, error: None, first: 0 }.draw(frame))
            .unwrap();
        let text = terminal.backend().to_string();
        assert!(text.contains("3 participants, 1 connected, 1 talking"), "{text}");
        assert!(
            text.contains(
                "alice            main       serving     █████████████······· -21 dBFS 2    Opus 24 / PCM 16 142 ms"
            ),
            "{text}"
        );
        assert!(text.contains("carol            main       failed      ····················"), "{text}");
        terminal
            .draw(|frame| View { status: &status, snapshot: &snapshot, error: Some("gone"), first: 2 }.draw(frame))
            .unwrap();
        let text = terminal.backend().to_string();
        assert!(!text.contains("alice") && text.contains("carol") && text.contains("gone"), "{text}");
    }

    #[test]
    fn narrow_terminal_shows_the_other_columns_whole() {
        let (status, snapshot) = scene();
        let mut terminal = Terminal::new(TestBackend::new(120, 7)).unwrap();
        terminal
            .draw(|frame| View { status: &status, snapshot: &snapshot, error: None, first: 0 }.draw(frame))
            .unwrap();
        let text = terminal.backend().to_string();
        assert!(text.contains("█████████████······· -21 dBFS 2    142 ms"), "{text}");
        assert_eq!(COLUMNS.iter().map(|(_, width)| width + 1).sum::<u16>() - 1, WIDE);
    }
}
