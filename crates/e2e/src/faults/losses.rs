//! The records that participants missed, and the mixes that were wrong, after each fault: from the report of `palabre swarm`.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Maximum time in s by which the beginning of a loss precedes the fault that causes it.
const EARLIER_S: f64 = 0.4;

/// A fault that was injected.
pub(super) struct Slot {
    pub(super) what: &'static str,
    pub(super) victims: Vec<String>,
    /// Whether the fault affects the first talker. The other participants don't hear this talker during the fault.
    pub(super) is_talker: bool,
    /// Time at which the fault began, since 1970.
    pub(super) at: Duration,
    /// What showed that the fault had an effect; `None` if nothing showed it.
    pub(super) effect: Option<String>,
}

/// Losses of a group of participants.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Number of participants who lost records.
    pub participants: usize,
    /// Largest number of records that one participant lost.
    pub records: u64,
    /// Longest time for which one participant received no record, in ms.
    pub longest_ms: f64,
    /// Number of records in which the mix was wrong or a tone was interrupted, except those that `without_talker` counts.
    pub mixes: u64,
    /// Largest number of the records counted in `mixes` that one participant received.
    pub worst_mixes: u64,
    /// If the fault affects a talker: the largest number of records that one participant received in which this talker's tone was missing, or a tone
    /// was interrupted.
    pub without_talker: u64,
    /// Faults of these mixes.
    pub causes: Vec<String>,
}

impl Lost {
    /// Returns whether nothing was lost.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.records == 0 && self.mixes == 0
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("0");
        }
        if self.records > 0 {
            write!(
                f,
                "{} participants: at most {} records, {:.0} ms",
                self.participants, self.records, self.longest_ms
            )?;
        }
        if self.mixes > 0 {
            let separator = if self.records > 0 { "; " } else { "" };
            write!(f, "{separator}{} mixes: {}", self.mixes, self.causes.join(", "))?;
        }
        Ok(())
    }
}

/// A row of the table: a fault and the losses after it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The fault.
    pub what: &'static str,
    /// Number of participants whom the fault affects.
    pub victims: usize,
    /// Losses of these participants.
    pub lost: Lost,
    /// Losses of all other participants.
    pub others: Lost,
    /// What showed that the fault had an effect; `None` if nothing showed it.
    pub effect: Option<String>,
}

/// Returns a row for each injected fault. A loss belongs to the last fault that began before it.
pub(super) fn rows(report: &Value, slots: &[Slot], end: Duration) -> Vec<Row> {
    let began = Duration::from_millis(report["began_ms"].as_u64().unwrap_or_default());
    let seconds = |at: Duration| at.as_secs_f64() - began.as_secs_f64();
    let ends = slots.iter().skip(1).map(|slot| slot.at).chain([end]);
    let row = |(slot, end): (&Slot, Duration)| {
        // A time without records begins with the last record, which can be earlier than the fault.
        let time = seconds(slot.at) - EARLIER_S..seconds(end) - EARLIER_S;
        let (mut lost, mut others) = (Lost::default(), Lost::default());
        for participant in report["participants"].as_array().into_iter().flatten() {
            let is_victim = slot.victims.iter().any(|victim| participant["name"] == *victim);
            let faults = participant["faults"].as_array().into_iter().flatten();
            let faults = faults.filter(|fault| fault["at_s"].as_f64().is_some_and(|at| time.contains(&at)));
            add(if is_victim { &mut lost } else { &mut others }, faults, slot.is_talker);
        }
        Row { what: slot.what, victims: slot.victims.len(), lost, others, effect: slot.effect.clone() }
    };
    slots.iter().zip(ends).map(row).collect()
}

/// Adds the losses of one participant.
fn add<'a>(lost: &mut Lost, faults: impl Iterator<Item = &'a Value>, is_talker: bool) {
    let (mut records, mut mixes, mut without_talker) = (0, 0, 0);
    for fault in faults {
        let (what, count) = (fault["what"].as_str().unwrap_or_default(), fault["records"].as_u64().unwrap_or_default());
        if what.starts_with("records are missing") {
            records += count;
            lost.longest_ms = lost.longest_ms.max(fault["ms"].as_f64().unwrap_or_default());
        } else if is_talker && (what == "the tone of talker 1 is missing" || what == "the mix is disturbed") {
            without_talker += count;
        } else {
            mixes += count;
            if !lost.causes.iter().any(|cause| cause == what) {
                lost.causes.push(what.to_owned());
            }
        }
    }
    lost.participants += usize::from(records > 0);
    lost.records = lost.records.max(records);
    lost.mixes += mixes;
    lost.worst_mixes = lost.worst_mixes.max(mixes);
    lost.without_talker = lost.without_talker.max(without_talker);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn loss_belongs_to_the_last_fault_before_it() {
        let fault = |what: &str, at_s: f64| json!({ "what": what, "at_s": at_s, "ms": 80.0, "records": 2 });
        let report = json!({ "began_ms": 1_000, "participants": [
            { "name": "p01", "faults": [fault("records are missing", 2.5), fault("the mix is disturbed", 7.0)] },
            { "name": "p02", "faults": [fault("records are missing", 2.0), fault("the tone of talker 1 is missing", 7.0)] },
        ] });
        let slot = |what, at_s, is_talker| Slot {
            what,
            victims: vec!["p01".to_owned()],
            is_talker,
            at: Duration::from_secs(at_s),
            effect: None,
        };
        let rows = rows(&report, &[slot("a", 3, false), slot("b", 7, true)], Duration::from_secs(12));
        let shown: Vec<_> = rows.iter().map(|row| (row.what, row.lost.to_string(), row.others.to_string())).collect();
        let two = "1 participants: at most 2 records, 80 ms".to_owned();
        assert_eq!(shown, [("a", two.clone(), two), ("b", "0".to_owned(), "0".to_owned())]);
        assert_eq!((rows[1].others.without_talker, rows[1].others.worst_mixes), (2, 0));
    }
}
