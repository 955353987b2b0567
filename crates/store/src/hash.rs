//! A check sum of the state, to find members whose copies differ.

use std::sync::Arc;

use crate::core::Core;
use crate::error::ReadError;
use crate::raft::{Replica, blocking};

/// Keys read with the state held still; small, so that no write waits long.
const KEYS: usize = 512;

/// A check sum of a copy of the state at one revision.
///
/// It covers every key with its versions (value, revisions, version number, lease) that a read
/// between the compaction revision and the revision can see, deletions included. It does not cover
/// which leases there are apart from those of keys, nor who waits for which answer. Copies that
/// hold the same have the same sum at the same `revision` and `compact_revision`, however far the
/// removal of compacted versions has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// CRC-32.
    pub hash: u32,
    /// The newest revision that it covers.
    pub revision: u64,
    /// The oldest revision that it covers; sums of different ones cannot be compared.
    pub compact_revision: u64,
}

impl Core {
    /// The check sum of this member's copy; writes go on meanwhile.
    pub(crate) async fn hash(&self, revision: u64) -> Result<StateHash, ReadError> {
        let _one_at_a_time = self.hashing.lock().await;
        loop {
            if self.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let replica = Arc::clone(&self.replica);
            let hashed = blocking(move || Ok(hash(&replica, revision))).await;
            if let Some(hashed) = hashed.map_err(|_| ReadError::Stopped)? {
                return hashed;
            }
            // A snapshot from the leader replaced the copy meanwhile; that is rare, and took longer.
        }
    }
}

/// `None` if the state was replaced meanwhile.
fn hash(replica: &Arc<Replica>, revision: u64) -> Option<Result<StateHash, ReadError>> {
    let (_pin, mut walk, about) = {
        let (pin, state) = Replica::pin(replica);
        let (newest, compact_revision) = (state.revision(), state.compact_revision());
        if revision > newest {
            return Some(Err(ReadError::Future { asked: revision, revision: newest }));
        }
        if revision != 0 && revision < compact_revision {
            return Some(Err(ReadError::Compacted { compact_revision }));
        }
        let revision = if revision == 0 { newest } else { revision };
        (pin, state.walk(revision), StateHash { hash: 0, revision, compact_revision })
    };
    let mut hash = crc32fast::Hasher::new();
    loop {
        let keys = walk.next(&replica.state(), KEYS)?;
        if keys.is_empty() {
            return Some(Ok(StateHash { hash: hash.finalize(), ..about }));
        }
        keys.iter().for_each(|key| key.hash_into(&mut hash));
    }
}
