//! A container's output on disk: CRI lines, a bound on size, rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::spec::LogConfig;

/// A line longer than this is written in parts, tagged `P` but for the last.
const MAX_LINE: usize = 16 << 10;
const DEFAULT_MAX_BYTES: u64 = 10 << 20;
const DEFAULT_MAX_FILES: u32 = 5;

/// Which of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes what a container says. A full disk loses output, never blocks or ends the container.
#[derive(Debug)]
pub(super) struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    /// The line that has not ended yet, per stream.
    pending: [Vec<u8>; 2],
}

impl Log {
    pub(super) fn open(config: &LogConfig) -> io::Result<Self> {
        let or = |value: u64, default| if value == 0 { default } else { value };
        let mut log = Self {
            path: config.path.clone(),
            file: None,
            size: 0,
            max_bytes: or(config.max_bytes, DEFAULT_MAX_BYTES),
            max_files: or(config.max_files.into(), DEFAULT_MAX_FILES.into()) as u32,
            pending: Default::default(),
        };
        if let Some(dir) = config.path.as_deref().and_then(Path::parent) {
            std::fs::create_dir_all(dir)?;
        }
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    /// Takes bytes as they came from the container.
    pub(super) fn take(&mut self, stream: Stream, mut bytes: &[u8], now: SystemTime) {
        if self.path.is_none() {
            return;
        }
        let prefix = format!("{} {} ", Timestamp(now), stream.name());
        let mut text = Vec::with_capacity(bytes.len() + prefix.len() * 2);
        let pending = &mut self.pending[stream as usize];
        while !bytes.is_empty() {
            let room = MAX_LINE - pending.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let (part, rest, tag) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..], "F "),
                None if bytes.len() >= room => (&bytes[..room], &bytes[room..], "P "),
                None => {
                    pending.extend_from_slice(bytes);
                    break;
                }
            };
            for piece in [prefix.as_bytes(), tag.as_bytes(), pending, part, b"\n"] {
                text.extend_from_slice(piece);
            }
            pending.clear();
            bytes = rest;
        }
        self.write(&text);
    }

    /// The stream has ended: what is left of a line is one.
    pub(super) fn end(&mut self, stream: Stream, now: SystemTime) {
        if !self.pending[stream as usize].is_empty() {
            self.take(stream, b"\n", now);
        }
        self.pending[stream as usize] = Vec::new();
    }

    fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if self.size >= self.max_bytes {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(text) {
            Ok(()) => self.size += text.len() as u64,
            Err(error) => eprintln!("log {:?}: {} bytes lost: {error}", self.path, text.len()),
        }
    }

    /// `log` becomes `log.1`, which was `log.2` before, and so on; the oldest goes.
    fn rotate(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let numbered = |number: u32| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let oldest = self.max_files.saturating_sub(1);
        let moved = if oldest == 0 {
            std::fs::remove_file(&path)
        } else {
            for number in (1..oldest).rev() {
                let _not_yet_that_many = std::fs::rename(numbered(number), numbered(number + 1));
            }
            std::fs::rename(&path, numbered(1))
        };
        if let Err(error) = moved.and_then(|()| self.reopen()) {
            eprintln!("log {path:?} cannot be rotated: {error}");
        }
    }
}

/// RFC 3339 in UTC with nanoseconds.
struct Timestamp(SystemTime);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let nanos = since.subsec_nanos();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

/// Days since 1970-01-01 as year, month, day. Years are counted from March, in eras of 400.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AT: SystemTime = UNIX_EPOCH;

    fn at(seconds: u64) -> String {
        Timestamp(UNIX_EPOCH + Duration::new(seconds, 5)).to_string()
    }

    #[test]
    fn timestamps_are_rfc3339() {
        assert_eq!(at(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(1_795_411_808), "2026-11-23T05:30:08.000000005Z");
    }

    fn logged(max_bytes: u64, max_files: u32, pieces: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/0.log");
        let config = LogConfig { path: Some(path.clone()), max_bytes, max_files };
        let mut log = Log::open(&config).unwrap();
        for piece in pieces {
            log.take(Stream::Stdout, piece, AT);
        }
        log.end(Stream::Stdout, AT);
        (dir, path)
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|l| l.strip_prefix("1970-01-01T00:00:00.000000000Z stdout ").unwrap().to_owned())
            .collect()
    }

    #[test]
    fn pieces_become_lines() {
        let (_dir, path) = logged(0, 0, &[b"a\nb", b"", b"c\n\n", b"end"]);
        assert_eq!(lines(&path), ["F a", "F bc", "F ", "F end"]);
    }

    #[test]
    fn long_lines_come_in_parts() {
        let long = vec![b'x'; MAX_LINE + 3];
        let (_dir, path) = logged(0, 0, &[&long, b"\n"]);
        let parts: Vec<_> = lines(&path).iter().map(|l| (l[..1].to_owned(), l.len() - 2)).collect();
        assert_eq!(parts, [("P".into(), MAX_LINE), ("F".into(), 3)]);
    }

    #[test]
    fn files_and_their_number_are_bounded() {
        let line = [b'y'; 60];
        let mut with_end = line.to_vec();
        with_end.push(b'\n');
        let (_dir, path) = logged(200, 3, &vec![with_end.as_slice(); 20]);
        let dir = path.parent().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        for name in names {
            assert!(std::fs::metadata(dir.join(name)).unwrap().len() <= 300);
        }
    }

    #[test]
    fn one_file_starts_over() {
        let (_dir, path) = logged(1, 1, &[b"old\n", b"new\n"]);
        assert_eq!(lines(&path), ["F new"]);
    }
}
