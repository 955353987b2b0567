//! Reading a snapshot back: all of it checks, or none of it counts.

use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{Block, MAGIC, MAX_BLOCK};
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

/// Reads the snapshot at `path`: what the consensus engine said of it, and the state.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, State), OpenError> {
    let mut blocks = Blocks::open(path)?;
    let (meta, head) = blocks.head()?;
    let mut restore = Restore::new(head);
    loop {
        match blocks.next()? {
            Block::Head { .. } => return Err(blocks.damaged("it has two heads")),
            Block::Keys(keys) => keys.into_iter().for_each(|key| restore.add_key(key)),
            Block::History(history) => {
                if !history.into_iter().all(|image| restore.add_history(image)) {
                    return Err(blocks.damaged("its history does not fit its keys"));
                }
            }
            Block::End { blocks: count } if count + 1 == blocks.count && blocks.left == 0 => {
                return Ok((meta, restore.finish()));
            }
            Block::End { .. } => return Err(blocks.damaged("parts of it are missing")),
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
            return Err(self.damaged("the file ends within a block, or its length is damaged"));
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

    fn take(&mut self, len: usize) -> Result<Vec<u8>, OpenError> {
        if len as u64 > self.left {
            return Err(self.damaged("the file ends too early"));
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
