//! What a store is opened with.

use std::path::PathBuf;
use std::time::Duration;

use crate::member::MemberId;

/// Where a store lives, who it is, and how it is tuned.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory of log, vote and snapshots; made if missing; one process at a time.
    pub dir: PathBuf,
    /// This member's number.
    pub member: MemberId,
    /// Times and sizes.
    pub tuning: Tuning,
}

impl StoreConfig {
    /// A store in `dir` with default tuning.
    pub fn new(dir: impl Into<PathBuf>, member: MemberId) -> StoreConfig {
        StoreConfig { dir: dir.into(), member, tuning: Tuning::default() }
    }
}

/// How the leader proves that it still leads before it answers a linearizable read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPolicy {
    /// By the time of the last heartbeat a quorum acknowledged; trusts that monotonic clocks of
    /// members run at about one speed.
    Lease,
    /// By a round of heartbeats for each group of reads; trusts no clock.
    Quorum,
}

/// Times and sizes of a store; the same on every member of a cluster.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
    /// A member stands for election when it has not heard of a leader for `election_max` and then
    /// for a random time from here to `election_max`: with the defaults 650 to 1,000 ms, 770 ms on
    /// average for the faster of two.
    pub election_min: Duration,
    /// See above; also how long members protect a leader they heard from, and so how long a leader
    /// may trust that nobody else leads.
    pub election_max: Duration,
    /// How long a write or a linearizable read may wait for a leader and a quorum.
    pub request_timeout: Duration,
    /// A snapshot is written when the log holds this many entries since the last one; of a state that is larger than
    /// `snapshot_bytes` so many times as that is contained in it, up to eight.
    pub snapshot_entries: u64,
    /// A snapshot is written when the log holds this many bytes since the last one, or as many as a larger state has, up to
    /// eight times as many.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot, so that a member a little behind needs no snapshot.
    pub keep_entries: u64,
    /// A log segment is closed at this size.
    pub segment_bytes: u64,
    /// Closed log segments that are used again once nobody wants what is in them; they take space.
    pub spare_segments: usize,
    /// The largest encoded transaction that is accepted.
    pub max_txn_bytes: usize,
    /// Automatic compaction keeps at least this many revisions of history, and at most five times
    /// as many.
    pub history_revisions: u64,
    /// Automatic compaction drops history older than this.
    pub history_age: Duration,
    /// Automatic compaction drops history beyond this many bytes, however few revisions are left.
    pub history_bytes: u64,
    /// Batches a watcher may be behind before it is ended with `Lagged`.
    pub watch_queue: usize,
    /// Bytes a watcher may be behind, unless it is one batch alone, before it is ended with `Lagged`.
    pub watch_queue_bytes: usize,
    /// Bytes that all watchers of this member may be behind together; if it is more, those that are furthest behind are
    /// ended with `Lagged`. What several watchers are told counts once.
    pub watch_bytes: usize,
    /// How linearizable reads are proven.
    pub read_policy: ReadPolicy,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(500),
            request_timeout: Duration::from_secs(10),
            snapshot_entries: 50_000,
            snapshot_bytes: 64 << 20,
            keep_entries: 5_000,
            segment_bytes: 16 << 20,
            spare_segments: 2,
            max_txn_bytes: 4 << 20,
            history_revisions: 10_000,
            history_age: Duration::from_secs(300),
            history_bytes: 256 << 20,
            watch_queue: 4096,
            watch_queue_bytes: 16 << 20,
            watch_bytes: 256 << 20,
            read_policy: ReadPolicy::Lease,
        }
    }
}
