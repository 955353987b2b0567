//! Writing a snapshot while the state goes on changing.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use super::{Block, MAGIC, MAX_BLOCK};
use crate::disk::File;
use crate::mvcc::{Dump, State};

/// Keys read with the state held still; small, so that no write waits long.
const KEYS_PER_BLOCK: usize = 512;
const REVISIONS_PER_BLOCK: usize = 2048;

/// Writes `dump` to `path`, from the beginning; durable when it returns, but for the name. The
/// state must be pinned.
pub(crate) fn write(
    path: &Path,
    meta: Vec<u8>,
    dump: &mut Dump,
    state: &RwLock<State>,
) -> io::Result<u64> {
    dump.keys().rewind();
    let file = File::create(path)?;
    let mut out = Blocks { out: BufWriter::with_capacity(1 << 20, file), blocks: 0, bytes: 0 };
    out.raw(MAGIC)?;
    out.block(&Block::Head { meta, head: dump.head.clone() })?;
    for session in dump.sessions() {
        out.block(&Block::Session(session))?;
    }
    loop {
        let keys = {
            let state = state.read().unwrap_or_else(PoisonError::into_inner);
            dump.keys().next(&state, KEYS_PER_BLOCK)
        };
        let Some(keys) = keys else {
            return Err(io::Error::other("a snapshot from the leader replaced the state"));
        };
        if keys.is_empty() {
            break;
        }
        out.block(&Block::Keys(keys))?;
    }
    for history in dump.history(REVISIONS_PER_BLOCK) {
        out.block(&Block::History(history))?;
    }
    out.block(&Block::End { blocks: out.blocks })?;
    let Blocks { out, bytes, .. } = out;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(bytes)
}

struct Blocks {
    out: BufWriter<File>,
    blocks: u64,
    bytes: u64,
}

impl Blocks {
    fn block(&mut self, block: &Block) -> io::Result<()> {
        let bytes = postcard::to_stdvec(block).map_err(io::Error::other)?;
        if bytes.len() > MAX_BLOCK {
            // Nobody could read it back.
            return Err(io::Error::other(format!("a block of {} bytes is too large", bytes.len())));
        }
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&len.to_le_bytes());
        crc.update(&bytes);
        self.raw(&len.to_le_bytes())?;
        self.raw(&crc.finalize().to_le_bytes())?;
        self.raw(&bytes)?;
        self.blocks += 1;
        Ok(())
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
