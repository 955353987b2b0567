//! A check sum of the state, to find members whose copies differ.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::error::ReadError;
use crate::member::Member;
use crate::raft::{Answer, Call, Replica, blocking};
use crate::retry::Retry;

/// Keys read with the state held still; small, so that no write waits long.
const KEYS: usize = 512;

/// How long a member may take to go through its copy.
const HASHING: Duration = Duration::from_secs(120);

/// How long a member may be behind.
const BEHIND: Duration = Duration::from_secs(10);

/// A check sum of a copy of the state at one revision.
///
/// It covers every key with its versions (value, revisions, version number, lease) that a read
/// between the compaction revision and the revision can see, deletions included. It does not cover
/// which leases there are apart from those of keys, nor who waits for which answer. Copies that
/// hold the same have the same sum at the same `revision` and `compact_revision`, however far the
/// removal of compacted versions has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash {
    /// CRC-32.
    pub hash: u32,
    /// The newest revision that it covers.
    pub revision: u64,
    /// The oldest revision that it covers; sums of different ones cannot be compared.
    pub compact_revision: u64,
}

/// A member's answer to the question for the check sum of its copy.
#[derive(Clone, Debug)]
pub struct MemberHash {
    /// Who.
    pub member: Member,
    /// The check sum, or why there is none.
    pub hash: Result<StateHash, String>,
}

impl Core {
    /// The check sums of all members' copies at one revision.
    pub(crate) async fn hashes(&self) -> Result<Vec<MemberHash>, ReadError> {
        self.linearize().await?;
        let revision = self.replica.state().revision();
        let asked = self.members().into_iter().map(|member| async move {
            let hash = self.hash_of(&member, revision).await;
            MemberHash { member, hash }
        });
        Ok(futures::future::join_all(asked).await)
    }

    /// Asks a member, again while it is behind.
    async fn hash_of(&self, member: &Member, revision: u64) -> Result<StateHash, String> {
        let mut retry = Retry::new(BEHIND, self.leadership.subscribe());
        loop {
            let answer = if member.id == self.me() {
                self.hash(revision).await
            } else {
                let peer = self.network.peer(member);
                match peer.call(Call::Hash(revision), HASHING).await {
                    Ok(Answer::Hash(answer)) => answer,
                    Ok(_) => return Err("it answered another question".to_owned()),
                    Err(error) => return Err(error.to_string()),
                }
            };
            match answer {
                Ok(hash) => return Ok(hash),
                Err(ReadError::Future { .. }) if retry.pause().await => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// The check sum of this member's copy; writes go on meanwhile.
    pub(crate) async fn hash(&self, revision: u64) -> Result<StateHash, ReadError> {
        let _one_at_a_time = self.checking.lock().await;
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
