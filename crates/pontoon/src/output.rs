//! What commands print: tables that fit kubectl's look, JSON, YAML, and errors with their causes.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::Value;

use crate::cli::Output;

/// Standard output. That its reader has gone (`pontoon node ls | head -1`) is told apart from other broken pipes: then
/// there is nobody to tell anything.
pub(crate) struct Out;

/// Whoever read standard output reads no more.
#[derive(Debug)]
pub(crate) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// An error of standard output.
pub(crate) fn of_stdout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::other(Closed),
        _ => error,
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(of_stdout)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(of_stdout)
    }
}

/// Whether it failed only since nobody reads what it prints.
fn is_closed(error: &anyhow::Error) -> bool {
    let is_it = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<Closed>())
    };
    error.chain().any(is_it)
}

/// Columns of text under headings.
pub(crate) struct Table {
    headings: Vec<&'static str>,
    /// How many of the headings are for `wide` only, counted from the right.
    wide: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings, the last `wide` of which only `--output wide` shows.
    pub(crate) fn new(headings: &[&'static str], wide: usize) -> Self {
        Self { headings: headings.to_vec(), wide, rows: Vec::new() }
    }

    /// Adds a row: a cell for every heading.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn print(&self, output: Output, out: &mut impl Write) -> io::Result<()> {
        let hidden = if output == Output::Wide { 0 } else { self.wide };
        let columns = self.headings.len() - hidden;
        let headings: Vec<String> = self.headings.iter().map(|h| (*h).to_owned()).collect();
        print_columns(
            &headings[..columns],
            self.rows.iter().map(|r| &r[..columns.min(r.len())]),
            out,
        )
    }
}

/// Prints headings and rows in columns three spaces apart, as kubectl does.
pub(crate) fn print_columns<'a>(
    headings: &'a [String],
    rows: impl Iterator<Item = &'a [String]> + Clone,
    out: &mut impl Write,
) -> io::Result<()> {
    print_columns_apart(headings, rows, 3, out)
}

/// Prints headings and rows in columns so many spaces apart.
pub(crate) fn print_columns_apart<'a>(
    headings: &'a [String],
    rows: impl Iterator<Item = &'a [String]> + Clone,
    spaces: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(headings).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}{:spaces$}", ""));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints a value as the user asked, and as a table where that is what they asked for.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print(
    output: Output,
    value: &Value,
    table: impl FnOnce(&Value) -> Table,
) -> anyhow::Result<()> {
    match output {
        Output::Table | Output::Wide => {
            table(value).print(output, &mut Out)?;
            warn(value);
        }
        Output::Json | Output::Yaml => document(output, value)?,
    }
    Ok(())
}

/// Prints one document, JSON unless YAML is asked for.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn document(output: Output, value: &Value) -> anyhow::Result<()> {
    match output {
        Output::Yaml => write!(Out, "{}", serde_saphyr::to_string(value)?)?,
        _ => writeln!(Out, "{}", serde_json::to_string_pretty(value)?)?,
    }
    Ok(())
}

/// Says what was done: lines for a person, or the value for a program. That nobody listens is no reason to leave the rest
/// of the work undone.
///
/// # Errors
/// When standard output cannot be written to, but for that it is closed.
pub(crate) fn say(output: Output, value: &Value, words: &str) -> anyhow::Result<()> {
    let said = match output {
        Output::Table | Output::Wide => {
            let said = writeln!(Out, "{words}").map_err(Into::into);
            warn(value);
            said
        }
        Output::Json | Output::Yaml => document(output, value),
    };
    match said {
        Err(error) if is_closed(&error) => Ok(()),
        said => said,
    }
}

/// Tells the warning of an answer, if it has one.
pub(crate) fn warn(answer: &Value) {
    if let Some(words) = answer["warning"].as_str() {
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(io::stderr().lock(), "warning: {words}"));
    }
}

/// Says on standard error what is about to be done.
pub(crate) fn note(words: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr().lock(), "{words}"));
}

/// A line on the terminal that moves while something takes its time; gone when this is dropped.
/// Programs that read the output see nothing of it.
pub(crate) struct Working(ProgressBar);

/// Says what is being done until the answer is dropped.
pub(crate) fn working(what: impl Into<Cow<'static, str>>) -> Working {
    let bar = ProgressBar::new_spinner();
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    Working(bar)
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints an error with its causes and gives the exit code for it.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    if is_closed(error) {
        return ExitCode::SUCCESS;
    }
    tell(error);
    ExitCode::FAILURE
}

/// An error with its causes, each of them once: some say what theirs is in their own words.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Prints an error with its causes.
pub(crate) fn tell(error: &anyhow::Error) {
    let text = words(error);
    let mut err = io::stderr().lock();
    // Nobody is left to tell when standard error is closed, too.
    let told = if err.is_terminal() {
        writeln!(err, "\x1b[31merror:\x1b[0m {text}")
    } else {
        writeln!(err, "error: {text}")
    };
    drop(told);
}

/// Text of a JSON value: a string as it is, `-` for nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How long ago a time is, as kubectl says it; `-` for what is none.
pub(crate) fn age(time: &Value, now: jiff::Timestamp) -> String {
    let then = time.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let Some(then) = then else { return "-".to_owned() };
    let seconds = (now.as_second() - then.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        172_800..63_072_000 => format!("{days}d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_are_short() {
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (time, shown) in [
            ("2026-01-01T23:59:30Z", "30s"),
            ("2026-01-01T23:50:00.5Z", "10m"),
            ("2026-01-01T20:00:00Z", "4h"),
            ("2025-12-20T00:00:00Z", "13d"),
            ("2020-01-01T00:00:00Z", "6y"),
            ("2027-01-01T00:00:00Z", "0s"),
            ("long ago", "-"),
        ] {
            assert_eq!(age(&json!(time), now), shown, "{time}");
        }
        assert_eq!(age(&Value::Null, now), "-");
    }

    #[test]
    fn a_cause_is_said_once() {
        let full = io::Error::from_raw_os_error(28);
        let words_of_its_own = format!("cannot write /x: {full}");
        let error = anyhow::Error::new(full).context(words_of_its_own).context("import");
        assert_eq!(words(&error), "import: cannot write /x: No space left on device (os error 28)");
    }

    #[test]
    fn only_standard_output_ends_quietly() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let of_output = anyhow::Error::new(of_stdout(broken())).context("print");
        assert!(is_closed(&of_output));
        assert!(!is_closed(&anyhow::Error::new(broken()).context("ask the daemon")));
    }
}
