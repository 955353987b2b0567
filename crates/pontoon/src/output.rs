//! What commands print: tables that fit kubectl's look, JSON, YAML, and errors with their causes.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::Value;

use crate::cli::Output;

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

    fn print(&self, output: Output, out: &mut impl Write) -> std::io::Result<()> {
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
) -> std::io::Result<()> {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(headings).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
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
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table | Output::Wide => table(value).print(output, &mut out)?,
        Output::Json | Output::Yaml => document(output, value)?,
    }
    Ok(())
}

/// Prints one document, JSON unless YAML is asked for.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn document(output: Output, value: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Yaml => write!(out, "{}", serde_saphyr::to_string(value)?)?,
        _ => writeln!(out, "{}", serde_json::to_string_pretty(value)?)?,
    }
    Ok(())
}

/// Prints lines for a person, or the value for a program.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn say(output: Output, value: &Value, words: &str) -> anyhow::Result<()> {
    match output {
        Output::Table | Output::Wide => writeln!(std::io::stdout().lock(), "{words}")?,
        Output::Json | Output::Yaml => document(output, value)?,
    }
    Ok(())
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
    let text = format!("{error:#}");
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell when standard error is closed, too.
    let told = if err.is_terminal() {
        writeln!(err, "\x1b[31merror:\x1b[0m {text}")
    } else {
        writeln!(err, "error: {text}")
    };
    drop(told);
    ExitCode::FAILURE
}

/// Text of a JSON value: a string as it is, `-` for nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
