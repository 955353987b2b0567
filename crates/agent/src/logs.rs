//! Containers' logs as they are on disk: CRI lines in a file and in the older ones beside it.

mod line;
mod read;

use std::path::Path;

use jiff::Timestamp;

pub(crate) use read::{Source, stream};

/// As much of a log as becomes a termination message.
const MESSAGE_LINES: u64 = 80;
const MESSAGE_BYTES: usize = 2048;

/// Which part of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Go on as the container writes, until it ends.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Only lines written at this time or later.
    pub since: Option<Timestamp>,
    /// The run before the present one.
    pub previous: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// No more bytes than this in all.
    pub limit_bytes: Option<u64>,
}

/// The end of a log as a termination message. Empty if there is none.
pub(crate) fn tail_for_message(path: &Path) -> String {
    let Ok(file) = std::fs::File::open(path) else { return String::new() };
    let Ok(offset) = read::tail_offset(&file, MESSAGE_LINES) else { return String::new() };
    let bytes = read::read_from(&file, offset.at).unwrap_or_default();
    let lines = bytes.split(|&b| b == b'\n').filter_map(line::Line::parse);
    let mut text = Vec::new();
    lines.for_each(|line| line.write(false, &mut text));
    let start = text.len().saturating_sub(MESSAGE_BYTES);
    String::from_utf8_lossy(&text[start..]).into_owned()
}
