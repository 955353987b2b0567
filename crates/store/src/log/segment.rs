//! One file of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Position;
use super::record::{u32_at, u64_at};
use super::spare::{Spare, discard};
use crate::disk::{self, File, sync_dir};

/// Bytes of a file's header.
pub(super) const FILE_HEADER: usize = 48;
const MAGIC: &[u8; 8] = b"PNTNLOG1";
/// Flag: entries of earlier files do not count.
const RESET: u64 = 1;
/// Flag: something came before the first entry.
const HAS_PREV: u64 = 2;

/// An open file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) seq: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// What the entry before the first one is.
    pub(super) prev: Option<Position>,
    /// Earlier files are to be forgotten.
    pub(super) reset: bool,
    /// Bytes that count.
    pub(super) len: u64,
    /// Its last entry, or `prev`.
    pub(super) last: Option<Position>,
}

impl Segment {
    /// Makes a file with nothing but a header, of a spare one if there is one; durable when it
    /// returns.
    pub(super) fn create(
        dir: &Path,
        (seq, prev, reset): (u64, Option<Position>, bool),
        spare: Option<Spare>,
    ) -> io::Result<Segment> {
        let path = path(dir, seq);
        let len = FILE_HEADER as u64;
        if let Some(Spare { path: old, file }) = spare {
            let made = file
                .write_all_at(&encode(seq, prev, reset), 0)
                .and_then(|()| file.sync_data())
                .and_then(|()| disk::rename(&old, &path))
                .and_then(|()| sync_dir(dir));
            // Nobody else would.
            made.inspect_err(|_| discard(&old))?;
            return Ok(Segment { seq, path, file: Arc::new(file), prev, reset, len, last: prev });
        }
        let unfinished = path.with_extension("new");
        let file = File::create(&unfinished)?;
        file.write_all_at(&encode(seq, prev, reset), 0)?;
        file.sync_all()?;
        disk::rename(&unfinished, &path)?;
        sync_dir(dir)?;
        Ok(Segment { seq, path, file: Arc::new(file), prev, reset, len, last: prev })
    }

    /// Reads the header of a file; `None` if it is damaged.
    pub(super) fn parse(path: &Path, seq: u64, bytes: &[u8]) -> Option<io::Result<Segment>> {
        let header = bytes.get(..FILE_HEADER)?;
        let crc = crc32fast::hash(&header[..FILE_HEADER - 4]);
        if &header[..8] != MAGIC || u64_at(header, 8) != seq || u32_at(header, 44) != crc {
            return None;
        }
        let flags = u64_at(header, 16);
        let prev = (flags & HAS_PREV != 0)
            .then(|| Position { index: u64_at(header, 24), term: u64_at(header, 32) });
        Some(File::edit(path).map(|file| Segment {
            seq,
            path: path.to_owned(),
            file: Arc::new(file),
            prev,
            reset: flags & RESET != 0,
            len: FILE_HEADER as u64,
            last: prev,
        }))
    }
}

fn encode(seq: u64, prev: Option<Position>, reset: bool) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    let flags = u64::from(reset) * RESET + u64::from(prev.is_some()) * HAS_PREV;
    let prev = prev.unwrap_or_default();
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    header[16..24].copy_from_slice(&flags.to_le_bytes());
    header[24..32].copy_from_slice(&prev.index.to_le_bytes());
    header[32..40].copy_from_slice(&prev.term.to_le_bytes());
    let crc = crc32fast::hash(&header[..FILE_HEADER - 4]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The file of a number.
pub(super) fn path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:016x}.log"))
}

/// The number of a file, if it is one of the log.
pub(super) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}
