//! Reading a snapshot back: all of it checks, or none of it counts.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::{Block, MAGIC, MAX_BLOCK, trailer};
use crate::disk::File;
use crate::error::OpenError;
use crate::mvcc::{DumpHead, Restore, State};

/// A snapshot to be sent somewhere: its head is checked, the rest by whoever receives it.
pub(crate) struct Opened {
    /// What the consensus engine said of it.
    pub(crate) meta: Vec<u8>,
    pub(crate) revision: u64,
    pub(crate) file: File,
    pub(crate) bytes: u64,
}

/// Opens the snapshot at `path`.
pub(crate) fn open(path: &Path) -> Result<Opened, OpenError> {
    let mut blocks = Blocks::open(path)?;
    let bytes = blocks.left;
    let (meta, head) = blocks.head()?;
    // The head may have been read from a file that has been replaced since: all is taken from one.
    let file = blocks.input.into_inner();
    Ok(Opened { meta, revision: head.revision, file, bytes })
}

/// What may follow the last block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: it is a store's own file.
    Plain,
    /// What etcd's API adds, or nothing: it came from elsewhere.
    Saved,
}

/// Reads the snapshot at `path`: what the consensus engine said of it, and the state.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, State), OpenError> {
    read_all(path, Ending::Plain)
}

/// Reads a snapshot that was saved, also one that came over etcd's API.
pub(crate) fn read_backup(path: &Path) -> Result<(Vec<u8>, State), OpenError> {
    read_all(path, Ending::Saved)
}

fn read_all(path: &Path, ending: Ending) -> Result<(Vec<u8>, State), OpenError> {
    let mut blocks = Blocks::open(path)?;
    let (meta, head) = blocks.head()?;
    let mut restore = Restore::new(head);
    loop {
        match blocks.next()? {
            Block::Head { .. } => return Err(blocks.damaged("it has two heads")),
            Block::Session(session) => restore.add_session(session),
            Block::Keys(keys) => keys.into_iter().for_each(|key| restore.add_key(key)),
            Block::History(history) => {
                if !history.into_iter().all(|image| restore.add_history(image)) {
                    return Err(blocks.damaged("its history does not fit its keys"));
                }
            }
            Block::End { blocks: count } => {
                blocks.end(count, ending)?;
                return Ok((meta, restore.finish()));
            }
        }
    }
}

/// What is in a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision that can be read.
    pub compact_revision: u64,
    /// Keys that exist.
    pub keys: u64,
    /// The check sum of the state; see [`crate::StateHash`].
    pub hash: u32,
}

/// Reads all of the snapshot at `path`, which was saved or came over etcd's API, and says what is in it.
pub fn inspect_snapshot(path: &Path) -> Result<SnapshotSummary, OpenError> {
    inspect(path, Ending::Saved)
}

/// Reads all of the snapshot at `path`, a block at a time, and says what is in it.
pub(crate) fn inspect(path: &Path, ending: Ending) -> Result<SnapshotSummary, OpenError> {
    let mut blocks = Blocks::open(path)?;
    let bytes = blocks.left;
    let (_, head) = blocks.head()?;
    let (mut keys, mut hash) = (0, crc32fast::Hasher::new());
    loop {
        match blocks.next()? {
            Block::Head { .. } => return Err(blocks.damaged("it has two heads")),
            Block::Keys(images) => {
                keys += images.iter().filter(|image| image.is_live()).count() as u64;
                images.iter().for_each(|image| image.hash_into(&mut hash));
            }
            Block::Session(_) | Block::History(_) => {}
            Block::End { blocks: count } => {
                blocks.end(count, ending)?;
                let (revision, compact_revision) = (head.revision, head.compact_revision);
                let hash = hash.finalize();
                return Ok(SnapshotSummary { bytes, revision, compact_revision, keys, hash });
            }
        }
    }
}

struct Blocks<'p> {
    input: BufReader<File>,
    path: &'p Path,
    /// Where the block being read begins.
    at: u64,
    left: u64,
    count: u64,
}

impl<'p> Blocks<'p> {
    fn open(path: &'p Path) -> Result<Blocks<'p>, OpenError> {
        let failed = |source| OpenError::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let left = file.len().map_err(failed)?;
        let input = BufReader::with_capacity(1 << 20, file);
        Ok(Blocks { input, path, at: 0, left, count: 0 })
    }

    fn head(&mut self) -> Result<(Vec<u8>, DumpHead), OpenError> {
        let beginning = self.input.fill_buf().map_err(|source| OpenError::Io {
            action: "read",
            path: self.path.to_owned(),
            source,
        })?;
        if trailer::is_bbolt(beginning) {
            return Err(OpenError::Foreign {
                path: self.path.to_owned(),
                what: "the database of an etcd server (bbolt), which has another form: copy its keys over \
                       with etcd's own client instead",
            });
        }
        if self.take(MAGIC.len())? != MAGIC {
            self.at = 0;
            return Err(self.damaged("it is no snapshot of this version"));
        }
        match self.next()? {
            Block::Head { meta, head } => Ok((meta, head)),
            _ => Err(self.damaged("it does not begin with its head")),
        }
    }

    fn next(&mut self) -> Result<Block, OpenError> {
        let start = self.at;
        let head = self.take(8)?;
        let (len_bytes, crc_bytes) = head.split_at(4);
        let len = u32::from_le_bytes(len_bytes.try_into().expect("four bytes")) as usize;
        let wanted = u32::from_le_bytes(crc_bytes.try_into().expect("four bytes"));
        if len > MAX_BLOCK || len as u64 > self.left {
            self.at = start;
            return Err(self.damaged("it is cut short within this block, or the length is damaged"));
        }
        let bytes = self.take(len)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(len_bytes);
        crc.update(&bytes);
        if crc.finalize() != wanted {
            self.at = start;
            return Err(self.damaged("a block does not match its check sum"));
        }
        self.count += 1;
        postcard::from_bytes(&bytes).map_err(|_| {
            self.at = start;
            self.damaged("a block cannot be decoded")
        })
    }

    /// Checks that nothing is missing before the end, which says how many blocks came before it, and that nothing
    /// follows that must not.
    fn end(&self, blocks: u64, ending: Ending) -> Result<(), OpenError> {
        if blocks + 1 != self.count {
            return Err(self.damaged("parts of it are missing"));
        }
        if self.left == 0 {
            return Ok(());
        }
        if ending == Ending::Plain {
            return Err(self.damaged("something follows its end"));
        }
        let checked = trailer::check(self.input.get_ref(), self.at, self.at + self.left);
        match checked.map_err(|source| self.io(source))? {
            Some(reason) => Err(self.damaged(reason)),
            None => Ok(()),
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, OpenError> {
        if len as u64 > self.left {
            return Err(self.damaged("it is cut short"));
        }
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes).map_err(|source| self.io(source))?;
        self.at += len as u64;
        self.left -= len as u64;
        Ok(bytes)
    }

    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { action: "read", path: self.path.to_owned(), source }
    }

    fn damaged(&self, reason: &'static str) -> OpenError {
        OpenError::Damaged { path: self.path.to_owned(), offset: self.at, reason }
    }
}
