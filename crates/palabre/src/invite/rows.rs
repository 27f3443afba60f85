//! The list of `palabre invite --from`: a line per participant, as CSV (RFC 4180). palabre(1) documents it.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::new::Wanted;
use crate::cli::{Invite, any_expiry};

/// Maximum length of the list, in bytes: more than 10,000 lines.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// The columns of a list without a header, in their order. A header has some of these names, in any order after `name`.
const COLUMNS: [&str; 6] = ["name", "room", "display-name", "port", "expires", "listen-only"];

/// A line of the list.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) wanted: Wanted,
}

/// Parses the list. `options` has the values for lines without a value. The errors are one for each invalid line, with its number.
pub(super) fn parse(bytes: &[u8], options: &Invite) -> Result<Vec<Row>, Vec<String>> {
    let mut reader = ReaderBuilder::new();
    reader.has_headers(false).flexible(true).trim(Trim::All).comment(Some(b'#'));
    let (mut columns, mut rows, mut errors) = (COLUMNS.map(str::to_owned).to_vec(), Vec::new(), Vec::new());
    let mut is_first = true;
    for record in reader.from_reader(bytes).records() {
        let is_header = |record: &StringRecord| is_first && record.get(0) == Some(COLUMNS[0]);
        let outcome = match record {
            Err(error) => Err(located(error.position().map(csv::Position::line), "the line is not UTF-8")),
            Ok(record) if is_header(&record) => header(&record).map(|found| columns = found),
            Ok(record) => row(&record, &columns, options).map(|row| rows.push(row)),
        };
        is_first = false;
        errors.extend(outcome.err());
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

/// Adds the number of the line to an error.
pub(super) fn located(line: Option<u64>, cause: &str) -> String {
    format!("line {}: {cause}", line.unwrap_or_default())
}

fn header(record: &StringRecord) -> Result<Vec<String>, String> {
    let columns: Vec<String> = record.iter().map(str::to_owned).collect();
    let is_repeated = |(index, name): &(usize, &String)| columns[..*index].contains(name);
    let wrong = columns.iter().find(|name| !COLUMNS.contains(&name.as_str()));
    let cause = match (wrong, columns.iter().enumerate().find(is_repeated)) {
        (Some(name), _) => format!("unknown column '{name}'; the columns are {}", COLUMNS.join(", ")),
        (None, Some((_, name))) => format!("the column '{name}' is there twice"),
        (None, None) => return Ok(columns),
    };
    Err(located(record.position().map(csv::Position::line), &cause))
}

fn row(record: &StringRecord, columns: &[String], options: &Invite) -> Result<Row, String> {
    let line = record.position().map(csv::Position::line);
    match wanted(record, columns, options) {
        Ok(wanted) => Ok(Row { line: line.unwrap_or_default(), wanted }),
        Err(cause) => Err(located(line, &cause)),
    }
}

fn wanted(record: &StringRecord, columns: &[String], options: &Invite) -> Result<Wanted, String> {
    if record.len() > columns.len() {
        return Err(format!(
            "the line has {} fields, but there are {} columns; put a field with a comma into double quotes",
            record.len(),
            columns.len()
        ));
    }
    let field = |name: &str| {
        let index = columns.iter().position(|column| column == name)?;
        record.get(index).filter(|value| !value.is_empty())
    };
    let name = field("name").ok_or("the field 'name' is empty")?;
    let separator = if name.contains(';') { "; separate the fields by commas" } else { "" };
    let port = |text: &str| match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("'{text}' is not a port; use a number from 1 to 65535")),
    };
    let listen_only = |text: &str| match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("'{text}' is not a value of 'listen-only'; use yes or no")),
    };
    let expires = |text: &str| any_expiry(text).map_err(|cause| format!("invalid 'expires': {cause}"));
    Ok(Wanted {
        name: name.parse().map_err(|error| format!("{error}{separator}"))?,
        room: field("room")
            .map(|text| text.parse().map_err(|error| format!("{error}")))
            .transpose()?
            .or(options.room.clone()),
        display_name: field("display-name").map(str::to_owned),
        port: field("port").map(port).transpose()?,
        expires: field("expires").map(expires).transpose()?.or(options.expires),
        listen_only: field("listen-only").map(listen_only).transpose()?.or(options.listen_only.then_some(true)),
        once: options.once,
    })
}
