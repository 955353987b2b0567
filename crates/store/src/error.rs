//! What can go wrong, by what was asked: open, write, read, watch, change members.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::member::MemberId;
use crate::raft::Shortage;

/// Why a store did not open. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file holds something it was not given: the disk or someone else changed it.
    #[error(
        "{} is damaged at byte {offset}: {reason}; if other managers are well, let this one leave \
         and join again", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not hold.
        reason: &'static str,
    },
    /// A file is of another kind than was expected.
    #[error("{} is {what}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it is, and what can be done.
        what: &'static str,
    },
    /// The log begins after the state that could be restored ends.
    #[error("the log in {} begins at entry {log_start}, but {reason}; if other managers are well, let this one leave and \
             join again", dir.display())]
    Gap {
        /// The store's directory.
        dir: PathBuf,
        /// First entry of the log.
        log_start: u64,
        /// What is missing.
        reason: &'static str,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The directory belongs to another member.
    #[error("{} belongs to member {found:x}, not to member {wanted:x}", dir.display())]
    WrongMember {
        /// The store's directory.
        dir: PathBuf,
        /// The member it was opened for.
        wanted: MemberId,
        /// The member it belongs to.
        found: MemberId,
    },
    /// The consensus engine did not start.
    #[error("cannot start the consensus engine: {reason}")]
    Engine {
        /// What it said.
        reason: String,
    },
}

/// Why a write was refused, or what is not known about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WriteError {
    /// No leader was found in time. Nothing was written.
    #[error("no leader for {waited_ms} ms; nothing was written")]
    NoLeader {
        /// How long it was tried.
        waited_ms: u64,
    },
    /// No answer in time. The write may or may not happen.
    #[error("no quorum answered within {waited_ms} ms; the write may or may not have happened")]
    Timeout {
        /// How long it was tried.
        waited_ms: u64,
    },
    /// The log cannot grow. Writes go on by themselves when there is space again.
    #[error(
        "the disk of the log at {dir} is full; free some space and writes will go on by themselves"
    )]
    DiskFull {
        /// Where the log lives, on the member that refused.
        dir: String,
    },
    /// The transaction is larger than [`crate::Tuning::max_txn_bytes`].
    #[error("the transaction has {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The answer is larger than [`crate::ANSWER_MAX`], or too large to be forwarded by the leader or to have been kept for
    /// one who had to ask again. If the transaction writes, it was done.
    #[error(
        "the answer is too large; what the transaction writes was written, so read in smaller parts"
    )]
    AnswerTooLarge,
    /// Too many writes wait already.
    #[error("more than {limit} writes, or very large ones, are waiting already; try again later")]
    Overloaded {
        /// How many may wait, if they are not large.
        limit: usize,
    },
    /// A key is empty.
    #[error("a key must not be empty")]
    EmptyKey,
    /// Transactions are nested too deeply.
    #[error("transactions are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A transaction writes a key twice.
    #[error("the transaction writes key {key:?} more than once")]
    DuplicateKey {
        /// The key.
        key: Bytes,
    },
    /// A put keeps the value or lease of a key that does not exist.
    #[error("key {key:?} does not exist, so it has no value or lease to keep")]
    KeyNotFound {
        /// The key.
        key: Bytes,
    },
    /// A put names a lease that does not exist, or a lease that does not exist was to be ended.
    #[error("lease {id:x} does not exist")]
    LeaseNotFound {
        /// The lease.
        id: i64,
    },
    /// The lease to be granted exists already.
    #[error("lease {id:x} exists already")]
    LeaseExists {
        /// The lease.
        id: i64,
    },
    /// A time to live must be between 1 and 9,000,000,000 seconds.
    #[error("a lease cannot live {ttl} seconds")]
    LeaseTtl {
        /// What was asked, in seconds.
        ttl: i64,
    },
    /// A range inside asks for a revision that is gone, or a compaction goes backwards.
    #[error("revision is compacted; the oldest readable one is {compact_revision}")]
    Compacted {
        /// The oldest readable revision.
        compact_revision: u64,
    },
    /// A range inside, or a compaction, names a revision that does not exist yet.
    #[error("revision {asked} is in the future; the newest is {revision}")]
    Future {
        /// What was asked.
        asked: u64,
        /// The newest.
        revision: u64,
    },
    /// This member is in no cluster yet: `bootstrap` it, or add it from a member.
    #[error("this member is not part of a cluster yet")]
    NotInCluster,
    /// The store was shut down, or stopped because its disk failed.
    #[error("the store has stopped")]
    Stopped,
}

impl WriteError {
    /// True if the write certainly did not and will not happen.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        let unknown = matches!(self, WriteError::Timeout { .. } | WriteError::Stopped);
        !unknown && *self != WriteError::AnswerTooLarge
    }
}

/// Why a read was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReadError {
    /// The revision asked for is gone.
    #[error("revision is compacted; the oldest readable one is {compact_revision}")]
    Compacted {
        /// The oldest readable revision.
        compact_revision: u64,
    },
    /// The revision asked for does not exist yet.
    #[error("revision {asked} is in the future; the newest is {revision}")]
    Future {
        /// What was asked.
        asked: u64,
        /// The newest.
        revision: u64,
    },
    /// More was found than was to be answered.
    #[error("the answer would have {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// About its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No leader confirmed the read in time.
    #[error("no leader confirmed the read within {waited_ms} ms")]
    NoLeader {
        /// How long it was tried.
        waited_ms: u64,
    },
    /// This member is in no cluster yet.
    #[error("this member is not part of a cluster yet")]
    NotInCluster,
    /// The store was shut down, or stopped because its disk failed.
    #[error("the store has stopped")]
    Stopped,
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> WriteError {
        match error {
            ReadError::Compacted { compact_revision } => WriteError::Compacted { compact_revision },
            ReadError::Future { asked, revision } => WriteError::Future { asked, revision },
            ReadError::NoLeader { waited_ms } => WriteError::NoLeader { waited_ms },
            ReadError::NotInCluster => WriteError::NotInCluster,
            ReadError::TooLarge { .. } => WriteError::AnswerTooLarge,
            ReadError::Stopped => WriteError::Stopped,
        }
    }
}

/// Why a watch did not start, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events from the start revision are gone; read the range and watch from there.
    #[error("revision is compacted; the oldest readable one is {compact_revision}")]
    Compacted {
        /// The oldest readable revision.
        compact_revision: u64,
    },
    /// The watcher took too long. Everything before `resume` was delivered: watch from there.
    #[error("the watcher is too slow; watch again from revision {resume}")]
    Lagged {
        /// The first revision that was not delivered.
        resume: u64,
    },
}

/// Why members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MemberError {
    /// Fewer than a majority of those that would remain answer.
    #[error(
        "removing member {id:x} would leave {voters} voters of which {alive} answer: that is no quorum"
    )]
    QuorumLost {
        /// Who was to be removed.
        id: MemberId,
        /// Voters that would remain.
        voters: usize,
        /// How many of them answer.
        alive: usize,
    },
    /// The last member cannot be removed.
    #[error("member {id:x} is the only voter")]
    LastVoter {
        /// Who was to be removed.
        id: MemberId,
    },
    /// There is no such member.
    #[error("there is no member {id:x}")]
    NotFound {
        /// Who was meant.
        id: MemberId,
    },
    /// The name or address belongs to another member, or the number was given to another.
    #[error("{what} belongs to member {id:x} already")]
    Taken {
        /// Name or address.
        what: String,
        /// Whose it is.
        id: MemberId,
    },
    /// A member of this number was removed once.
    #[error(
        "member {id:x} was removed once, and what the log says of it must not be taken for another: \
         add it under a number that no member has had"
    )]
    Former {
        /// The number.
        id: MemberId,
    },
    /// The new member could not be brought up to date; it stays a learner.
    #[error(
        "member {id:x} did not catch up within {waited_ms} ms; it stays a learner, add it again"
    )]
    NotCaughtUp {
        /// Who.
        id: MemberId,
        /// How long it was tried.
        waited_ms: u64,
    },
    /// A learner lags, so it cannot become a voter yet.
    #[error(
        "member {id:x} is {entries} entries behind the leader; promote it when it has caught up"
    )]
    Behind {
        /// Who.
        id: MemberId,
        /// How many entries it lacks.
        entries: u64,
    },
    /// Another change is being made.
    #[error("another change of members is being made; try again")]
    Busy,
    /// No leader was found in time.
    #[error("no leader for {waited_ms} ms")]
    NoLeader {
        /// How long it was tried.
        waited_ms: u64,
    },
    /// This member already is part of a cluster.
    #[error("this member is part of a cluster already")]
    InCluster,
    /// This member is in no cluster yet.
    #[error("this member is not part of a cluster yet")]
    NotInCluster,
    /// The store was shut down, or stopped because its disk failed.
    #[error("the store has stopped")]
    Stopped,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// This member is in no cluster yet.
    #[error("this member is not part of a cluster yet, so there is nothing to take a snapshot of")]
    NotInCluster,
    /// As many snapshots as can be read at a time are being read.
    #[error("{limit} snapshots are being read already; try again later")]
    Busy {
        /// How many.
        limit: usize,
    },
    /// There is no room for it on the store's disk.
    #[error(
        "there is no room for it on the disk of the store: {0}; make room there, then try again"
    )]
    NoRoom(Shortage),
    /// It could not be written in time: the disk is very slow.
    #[error("the snapshot was not written within {waited_ms} ms; is the disk of the store slow?")]
    Timeout {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// It was written, and cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
    /// The store was shut down, or stopped because its disk failed.
    #[error("the store has stopped")]
    Stopped,
}
