//! The vote: small, rarely written, and never to be forgotten.
//!
//! Two slots in one file are written in turn, each in one sector, so a crash while one is written
//! leaves the other, and a full disk does not keep a member from voting.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::record::{u32_at, u64_at};
use crate::disk::{self, File, sync_dir};
use crate::error::OpenError;

const SLOT: usize = 512;
const MAGIC: &[u8; 8] = b"PNTNVOT1";
/// Magic, sequence, member, length; the check sum comes last in the slot.
const HEAD: usize = 8 + 8 + 8 + 4;
const MAX_VOTE: usize = SLOT - HEAD - 4;

/// The file with the vote.
#[derive(Debug)]
pub(super) struct Ballot {
    file: File,
    member: u64,
    seq: u64,
    vote: Option<Bytes>,
    new: bool,
}

impl Ballot {
    /// Opens the vote of `member` in `dir`, or makes an empty one.
    pub(super) fn open(dir: &Path, member: u64) -> Result<Ballot, OpenError> {
        let path = dir.join("vote");
        let failed = |action| {
            let path = path.clone();
            move |source| OpenError::Io { action, path, source }
        };
        if !disk::exists(&path).map_err(failed("look for"))? {
            return Ballot::create(dir, &path, member).map_err(failed("write"));
        }
        let bytes = disk::read(&path).map_err(failed("read"))?;
        let file = File::edit(&path).map_err(failed("open"))?;
        let (seq, found, vote) = newest(&path, &bytes)?;
        if found != member {
            let dir = dir.to_owned();
            return Err(OpenError::WrongMember { dir, wanted: member, found });
        }
        Ok(Ballot { file, member, seq, vote, new: false })
    }

    fn create(dir: &Path, path: &Path, member: u64) -> io::Result<Ballot> {
        let unfinished = path.with_extension("new");
        let file = File::create(&unfinished)?;
        let mut bytes = encode(1, member, None)?.to_vec();
        bytes.resize(2 * SLOT, 0);
        // Slot 1 holds sequence 1; slot 0 is written next.
        bytes.rotate_right(SLOT);
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        // The log's directory is made first, so that a vote without a log is damage.
        disk::create_dir_all(&dir.join("log"))?;
        sync_dir(dir)?;
        Ok(Ballot { file, member, seq: 1, vote: None, new: true })
    }

    /// True if there was no vote file: the store is being made.
    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// Ends the making of a store, when its first log file is there.
    pub(super) fn finish(&mut self, dir: &Path) -> io::Result<()> {
        if self.new {
            disk::rename(&dir.join("vote.new"), &dir.join("vote"))?;
            sync_dir(dir)?;
            self.new = false;
        }
        Ok(())
    }

    pub(super) fn vote(&self) -> Option<&Bytes> {
        self.vote.as_ref()
    }

    /// Saves a vote; durable when it returns.
    pub(super) fn save(&mut self, vote: Bytes) -> io::Result<()> {
        let seq = self.seq + 1;
        let bytes = encode(seq, self.member, Some(&vote))?;
        self.file.write_all_at(&bytes, (seq % 2) * SLOT as u64)?;
        self.file.sync_data()?;
        self.seq = seq;
        self.vote = Some(vote);
        Ok(())
    }
}

fn encode(seq: u64, member: u64, vote: Option<&Bytes>) -> io::Result<[u8; SLOT]> {
    let len = match vote {
        None => u32::MAX,
        Some(vote) if vote.len() <= MAX_VOTE => u32::try_from(vote.len()).unwrap_or(0),
        Some(_) => return Err(io::Error::other("the vote is too long")),
    };
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&seq.to_le_bytes());
    slot[16..24].copy_from_slice(&member.to_le_bytes());
    slot[24..28].copy_from_slice(&len.to_le_bytes());
    if let Some(vote) = vote {
        slot[HEAD..HEAD + vote.len()].copy_from_slice(vote);
    }
    let crc = crc32fast::hash(&slot[..SLOT - 4]);
    slot[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
    Ok(slot)
}

/// Whose store is in `dir`, by its vote; nothing is changed.
pub(crate) fn owner(dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join("vote");
    let bytes = disk::read(&path).map_err(|source| OpenError::Io {
        action: "read",
        path: path.clone(),
        source,
    })?;
    newest(&path, &bytes).map(|(_, owner, _)| owner)
}

/// The newest vote in a file: its number, whose it is, and the vote.
fn newest(path: &Path, bytes: &[u8]) -> Result<(u64, u64, Option<Bytes>), OpenError> {
    let damaged = |offset: usize, reason| OpenError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
        reason,
    };
    if bytes.len() != 2 * SLOT {
        return Err(damaged(bytes.len(), "it does not have the size of a vote file"));
    }
    let mut best = None;
    for (at, slot) in bytes.chunks(SLOT).enumerate() {
        if slot.iter().all(|byte| *byte == 0) {
            continue;
        }
        let len = u32_at(slot, 24);
        let good = &slot[..8] == MAGIC
            && u32_at(slot, SLOT - 4) == crc32fast::hash(&slot[..SLOT - 4])
            && (len == u32::MAX || len as usize <= MAX_VOTE);
        // A sector is written whole or not at all, so this is no crash.
        if !good {
            return Err(damaged(at * SLOT, "the vote does not match its check sum"));
        }
        let vote =
            (len != u32::MAX).then(|| Bytes::copy_from_slice(&slot[HEAD..HEAD + len as usize]));
        best = best.max(Some((u64_at(slot, 8), u64_at(slot, 16), vote)));
    }
    best.ok_or_else(|| damaged(0, "it holds no vote"))
}
