//! Reading the log back after a stop of any kind.
//!
//! A crash can leave the last group half written; that is cut off, for nobody was told that it was
//! durable. Anything else that does not check is damage, and the log is refused.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Position;
use super::record::{HEADER, Header, Kind};
use super::segment::{FILE_HEADER, Segment, seq_of};
use super::spare::SUFFIX;
use super::view::{Place, View};
use crate::disk::{self, File, sync_dir};
use crate::error::OpenError;

/// Disks write sectors of this size, or larger, whole.
const SECTOR: usize = 512;

/// The log as it was found.
pub(super) struct Recovered {
    pub(super) view: View,
    /// The files, oldest first; at least one.
    pub(super) segments: Vec<Segment>,
    pub(super) committed: Option<Position>,
}

/// Reads all files in `dir`. `new` says that the store is being made and may be empty.
pub(super) fn recover(dir: &Path, new: bool) -> Result<Recovered, OpenError> {
    let failed = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
    disk::create_dir_all(dir).map_err(failed("make"))?;
    let files = list(dir, true).map_err(failed("list"))?;
    if files.is_empty() {
        if !new {
            let reason = "the files of the log are missing";
            return Err(OpenError::Damaged { path: dir.to_owned(), offset: 0, reason });
        }
        let first =
            Segment::create(dir, (1, None, false), None).map_err(failed("make a file in"))?;
        let view = View::after(None);
        return Ok(Recovered { view, segments: vec![first], committed: None });
    }
    let Reading { view, segments, committed, .. } = read(dir, files, true)?;
    let committed = committed.min(view.last());
    Ok(Recovered { view, segments, committed })
}

/// What a log holds, as far as it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) files: usize,
    /// Bytes of records that check.
    pub(crate) bytes: u64,
    /// Bytes at the end that a crash left half written.
    pub(crate) torn: u64,
    /// What comes before the first entry.
    pub(crate) prev: Option<Position>,
    pub(crate) last: Option<Position>,
}

/// Reads every record of the log in `dir` and changes nothing.
pub(crate) fn check_files(dir: &Path) -> Result<Checked, OpenError> {
    let failed = |source| OpenError::Io { action: "list", path: dir.to_owned(), source };
    let files = list(dir, false).map_err(failed)?;
    if files.is_empty() {
        let reason = "the files of the log are missing";
        return Err(OpenError::Damaged { path: dir.to_owned(), offset: 0, reason });
    }
    let reading = read(dir, files, false)?;
    Ok(Checked {
        files: reading.segments.len(),
        bytes: reading.segments.iter().map(|segment| segment.len).sum(),
        torn: reading.torn,
        prev: reading.view.purged(),
        last: reading.view.last(),
    })
}

/// Reads files in the order of their numbers. `mend` says to cut off what is torn, and to remove
/// what does not count.
fn read(dir: &Path, files: Vec<(u64, PathBuf)>, mend: bool) -> Result<Reading<'_>, OpenError> {
    let (view, segments) = (View::after(None), Vec::new());
    let mut reading = Reading { dir, mend, view, segments, committed: None, torn: 0 };
    let last = files.len().saturating_sub(1);
    for (at, (seq, path)) in files.into_iter().enumerate() {
        reading.read_file(seq, path, at == last)?;
    }
    Ok(reading)
}

/// The files of the log by number; with `mend` those that were being made are removed.
fn list(dir: &Path, mend: bool) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for path in disk::list(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(seq) = seq_of(name) {
            files.push((seq, path));
        } else if mend && (name.ends_with(".new") || name.ends_with(SUFFIX)) {
            disk::remove_file(&path)?;
        }
    }
    files.sort();
    Ok(files)
}

struct Reading<'d> {
    dir: &'d Path,
    mend: bool,
    view: View,
    segments: Vec<Segment>,
    committed: Option<Position>,
    torn: u64,
}

impl Reading<'_> {
    fn read_file(&mut self, seq: u64, path: PathBuf, last: bool) -> Result<(), OpenError> {
        let failed = |action| {
            let path = path.clone();
            move |source| OpenError::Io { action, path, source }
        };
        let uncached = if self.mend { Ok(()) } else { disk::uncache(&path) };
        let bytes = match uncached.and_then(|()| disk::read(&path)) {
            Ok(bytes) => bytes,
            // Purged since the files were listed, by the store that runs on them.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.may_be_gone() => {
                return Ok(());
            }
            Err(error) => return Err(failed("read")(error)),
        };
        let damaged = |offset: usize, reason| OpenError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            reason,
        };
        let segment = Segment::parse(&path, seq, &bytes)
            .ok_or_else(|| damaged(0, "the file's header does not match its check sum"))?;
        let mut segment = segment.map_err(failed("open"))?;
        self.join(&segment, &damaged)?;
        // A file that was used before is longer than what was written to it: zeros follow.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let end = self.read_records(&mut segment, (&bytes, written), last, &damaged)?;
        segment.len = end as u64;
        segment.last = self.view.last();
        self.torn = written.saturating_sub(end) as u64;
        if end < written && self.mend {
            tracing::warn!(
                file = %path.display(), from = end, to = written,
                "cut off the end of the log: a crash left it half written, it was never acknowledged"
            );
            cut(&segment.file, end as u64).map_err(failed("cut"))?;
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Whether the files at the beginning may be removed while they are read.
    fn may_be_gone(&self) -> bool {
        !self.mend && self.segments.is_empty()
    }

    /// Checks that a file follows the one before.
    fn join(
        &mut self,
        segment: &Segment,
        damaged: &dyn Fn(usize, &'static str) -> OpenError,
    ) -> Result<(), OpenError> {
        if segment.reset || self.segments.is_empty() {
            let before: Vec<Segment> = self.segments.drain(..).collect();
            self.view = View::after(segment.prev);
            if !self.mend {
                return Ok(());
            }
            for old in before {
                disk::remove_file(&old.path).map_err(|source| OpenError::Io {
                    action: "remove",
                    path: old.path,
                    source,
                })?;
            }
            sync_dir(self.dir).map_err(|source| OpenError::Io {
                action: "sync",
                path: self.dir.to_owned(),
                source,
            })?;
            return Ok(());
        }
        let follows = self.segments.last().is_some_and(|before| before.seq + 1 == segment.seq);
        if !follows {
            return Err(damaged(0, "the file of the log before this one is missing"));
        }
        if segment.prev != self.view.last() {
            return Err(damaged(0, "the file does not begin where the one before ends"));
        }
        Ok(())
    }

    /// Reads the records of a file, of which the bytes from `written` on are zeros; answers with the
    /// offset at which the good ones end.
    fn read_records(
        &mut self,
        segment: &mut Segment,
        (bytes, written): (&[u8], usize),
        last: bool,
        damaged: &dyn Fn(usize, &'static str) -> OpenError,
    ) -> Result<usize, OpenError> {
        let mut at = FILE_HEADER;
        // No record is zeros: the check sum of its header is none.
        while at < written {
            let header = match check((bytes, written), at, segment.seq) {
                Ok(header) => header,
                Err(Bad::Torn) if last => return Ok(at),
                Err(Bad::Torn) => return Err(damaged(at, "the file ends within a record")),
                Err(Bad::Damaged(reason)) => return Err(damaged(at, reason)),
            };
            if header.kind == Kind::Committed {
                let position = Position { term: header.term, index: header.index };
                self.committed = self.committed.max(Some(position));
            } else if header.index == self.view.next() {
                let file = Arc::clone(&segment.file);
                let place = Place { file, seq: segment.seq, offset: at as u64 };
                self.view.found(&header, place);
            } else {
                return Err(damaged(at, "the entry does not follow the one before"));
            }
            at += header.size();
        }
        Ok(at)
    }
}

enum Bad {
    /// As a crash leaves it.
    Torn,
    Damaged(&'static str),
}

/// Checks the record at `at`.
fn check((bytes, written): (&[u8], usize), at: usize, seq: u64) -> Result<Header, Bad> {
    if bytes.len() - at < HEADER {
        return Err(Bad::Torn);
    }
    let Some(header) = Header::decode(&bytes[at..], seq) else {
        let reason = "the header of a record does not match its check sum";
        return Err(judge((bytes, written), at, at + HEADER, seq, reason));
    };
    // The length is checked with the header, so the file really is too short.
    let end = at + header.size();
    if end > bytes.len() {
        return Err(Bad::Torn);
    }
    if crc32fast::hash(&bytes[at + HEADER..end]) != header.crc {
        let reason = "a record does not match its check sum";
        return Err(judge((bytes, written), at, end, seq, reason));
    }
    Ok(header)
}

/// Decides what a bad record from `at` to `end` is. It is torn if no later group was written and
/// some sector of it holds only zeros, as one that never reached the disk does.
fn judge(
    (bytes, written): (&[u8], usize),
    at: usize,
    end: usize,
    seq: u64,
    reason: &'static str,
) -> Bad {
    let last = written.min(bytes.len().saturating_sub(HEADER - 1));
    let later = (at + 1..last).any(|offset| {
        Header::decode(&bytes[offset..], seq).is_some_and(|header| header.group as usize > at)
    });
    if later {
        return Bad::Damaged(reason);
    }
    let mut from = at;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if bytes[from..to].iter().all(|byte| *byte == 0) {
            return Bad::Torn;
        }
        from = to;
    }
    Bad::Damaged(reason)
}

fn cut(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    file.sync_all()
}
