//! What `palabre top` draws.

use palabre_config::control::{ParticipantStatus, State, Status};
use palabre_room::Talk;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use crate::status::{self, Seen};
use crate::table::printable;

/// Cells of a meter, each of 3 dB.
const METER: usize = 20;
/// What an empty meter stands for.
const FLOOR_DBFS: f32 = -60.0;
/// From here on it is loud.
const LOUD_DBFS: f32 = -9.0;

/// One picture.
pub struct View<'a> {
    pub status: &'a Status,
    pub seen: &'a Seen,
    pub trouble: Option<&'a str>,
    /// The first participant that is shown.
    pub from: usize,
}

impl View<'_> {
    /// Draws it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(self.title(), top);
        let head =
            Row::new(["NAME", "ROOM", "STATE", "LEVEL", "", "CONN", "DELAY", "LOST", "UNDERRUNS", "CPU", "MEMORY"]);
        let widths = [16, 10, 11, METER as u16, 8, 4, 7, 5, 9, 6, 8].map(Constraint::Length);
        let rows = self.status.participants.iter().skip(self.from).map(|one| self.row(one));
        let table = Table::new(rows, widths).header(head.style(Style::new().add_modifier(Modifier::REVERSED)));
        frame.render_widget(table, middle);
        frame.render_widget(self.foot(), bottom);
    }

    fn title(&self) -> Line<'static> {
        let people = &self.status.participants;
        let here = people.iter().filter(|one| one.state == State::Serving).count();
        let talking =
            people.iter().filter(|one| self.seen.level(one).is_some_and(|it| it.state == Talk::Talking)).count();
        Line::from(format!(
            "Palabre {}: {} participants, {here} here, {talking} talking",
            self.status.version,
            people.len()
        ))
    }

    fn foot(&self) -> Line<'static> {
        match self.trouble {
            Some(trouble) => Line::styled(printable(trouble), Color::Red),
            None => {
                let programs = self.seen.others.iter().map(|other| {
                    let usage = self.seen.usage(other.pid);
                    format!("{} {}, {}   ", other.program, status::cpu(usage), status::memory(usage))
                });
                Line::from(programs.collect::<String>() + "q ends it, the arrows scroll")
            }
        }
    }

    fn row(&self, one: &ParticipantStatus) -> Row<'static> {
        let (level, usage, page) = (self.seen.level(one), self.seen.usage(one.pid), status::page(one));
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
        Row::new([
            Cell::from(printable(&one.name)),
            Cell::from(printable(&one.room)),
            Cell::from(Span::styled(one.state.to_string(), state)),
            Cell::from(meter),
            Cell::from(figure),
            Cell::from(self.seen.connections(one).to_string()),
            Cell::from(status::or_dash(page.delay_ms.map(|ms| format!("{ms} ms")))),
            Cell::from(status::or_dash(page.lost)),
            Cell::from(status::or_dash(page.underruns)),
            Cell::from(status::cpu(usage)),
            Cell::from(status::memory(usage)),
        ])
    }
}

/// Full and empty cells: readable without colours, too.
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
    fn a_meter_has_a_cell_for_each_3_db() {
        let text = |dbfs: f32| meter(dbfs).to_string();
        assert_eq!(text(f32::NEG_INFINITY), "·".repeat(20));
        assert_eq!(text(-30.0), "█".repeat(10) + &"·".repeat(10));
        assert_eq!(text(3.0), "█".repeat(20));
    }

    #[test]
    fn everybody_has_a_line_and_a_meter() {
        let (status, seen) = scene();
        let mut terminal = Terminal::new(TestBackend::new(120, 7)).unwrap();
        terminal.draw(|frame| View { status: &status, seen: &seen, trouble: None, from: 0 }.draw(frame)).unwrap();
        let text = terminal.backend().to_string();
        assert!(text.contains("3 participants, 1 here, 1 talking"), "{text}");
        assert!(
            text.contains("alice            main       serving     █████████████······· -21 dBFS 2    142 ms"),
            "{text}"
        );
        assert!(text.contains("carol            main       failed      ····················"), "{text}");
        terminal
            .draw(|frame| View { status: &status, seen: &seen, trouble: Some("gone"), from: 2 }.draw(frame))
            .unwrap();
        let text = terminal.backend().to_string();
        assert!(!text.contains("alice") && text.contains("carol") && text.contains("gone"), "{text}");
    }
}
