//! A result of `palabre check`.

use serde_json::{Value, json};

use super::context::Directories;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Ok,
    /// The finding may become a fault, or the operator must decide whether it is one.
    Warning,
    /// The finding prevents a participant from connecting, talking or hearing, now or when more participants connect.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// A finding: the result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The subject of the finding, in one word.
    pub(super) area: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
    /// The remedy: a shell command, with a comment after `#`. If no command can help, a sentence.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, text: text.into(), remedy: None }
    }

    pub(super) fn warning(area: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fault(area: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fault, ..Self::warning(area, text, remedy) }
    }

    /// Returns a warning that the user who runs `palabre check` has no permission for this check.
    pub(super) fn unseen(area: &'static str, text: impl Into<String>, directories: Directories<'_>) -> Self {
        Self::warning(area, text, format!("sudo {} check", directories.palabre()))
    }

    /// Returns the finding as cells of a table row: level, area, and text with the remedy.
    pub(super) fn row(&self) -> [String; 3] {
        let remedy = self.remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
        [self.level.word().to_owned(), self.area.to_owned(), format!("{}{remedy}", self.text)]
    }

    pub(super) fn json(&self) -> Value {
        json!({ "level": self.level.word(), "area": self.area, "text": self.text, "mend": self.remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn line_has_the_finding_and_its_remedy() {
        let rows = [Finding::ok("clock", "is set"), Finding::fault("ports", "9001 is taken", "ss -ltnp")];
        let lines = table::lines(&rows.map(|finding| finding.row()));
        assert_eq!(lines, ["ok     clock  is set", "fault  ports  9001 is taken: ss -ltnp"]);
    }
}
