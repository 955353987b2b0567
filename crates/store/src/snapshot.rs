//! Snapshots: the whole state in one checked file.
//!
//! A file is a row of blocks, each with its length and check sum: first what the snapshot is, then who
//! asked for what, then keys, then history, then an end that counts them. A file without its end is no
//! snapshot.

mod files;
mod reader;
mod trailer;
mod writer;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use files::{SnapshotFiles, SnapshotName, Unfinished};
pub(crate) use reader::{Ending, inspect, open, read, read_backup};
pub use reader::{SnapshotSummary, inspect_snapshot};
pub(crate) use writer::write;

use crate::mvcc::{DumpHead, HistoryImage, SessionImage, SlotImage};

const MAGIC: &[u8; 8] = b"PNTNSNP1";

/// The largest block that is written, and read. One holds a few MiB, unless the versions of a single key have more.
const MAX_BLOCK: usize = 1 << 30;

/// One block of a snapshot.
#[derive(Serialize, Deserialize)]
enum Block {
    /// What the snapshot is; `meta` belongs to the consensus engine.
    Head {
        meta: Vec<u8>,
        head: DumpHead,
    },
    Keys(Vec<SlotImage>),
    History(Vec<HistoryImage>),
    /// How many blocks came before.
    End {
        blocks: u64,
    },
    /// The last of these, so that snapshots from before there was this one are still read.
    Session(SessionImage),
}
