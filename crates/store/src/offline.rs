//! The state outside any cluster: a copy read from a snapshot or from a store that nobody has open,
//! and a new store made of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use crate::command::{Command, Reply};
use crate::config::{StoreConfig, Tuning};
use crate::disk;
use crate::error::{OpenError, ReadError, WriteError};
use crate::log::{self, Log, LogTuning, Position};
use crate::member::{Member, MemberId};
use crate::mvcc::{Effects, State};
use crate::open::restore;
use crate::raft;
use crate::range::{Range, RangeResponse};
use crate::snapshot::{self, SnapshotFiles, SnapshotName};
use crate::txn::{Txn, TxnResponse};

/// Revisions left out by a copy that goes on alone. More than were ever written in the time that a
/// backup is old would be best; ten million are 1,000 writes a second for close to three hours, and
/// those who watch notice in any case, for the history before is gone.
const GAP: u64 = 10_000_000;

/// Whose store is in `dir`; nothing is changed.
pub fn store_member(dir: &Path) -> Result<MemberId, OpenError> {
    log::owner(dir)
}

/// A copy of the state that belongs to no cluster.
pub struct DetachedState {
    state: State,
    position: Position,
}

impl DetachedState {
    /// The state in a snapshot file, also one that came over etcd's API; all of it is checked.
    pub fn from_snapshot(path: &Path) -> Result<DetachedState, OpenError> {
        let (position, state) = raft::load_parts(path)?;
        let position = position.ok_or_else(|| OpenError::Damaged {
            path: path.to_owned(),
            offset: 8,
            reason: "it is a snapshot of nothing",
        })?;
        Ok(DetachedState::anew(state, position))
    }

    /// The state in a store's directory: its snapshot with all entries of its log, also those of
    /// which the member did not know whether a quorum has them. Refused while the store is open.
    pub fn from_store(dir: &Path) -> Result<DetachedState, OpenError> {
        let restored = restore(&StoreConfig::new(dir, log::owner(dir)?))?;
        let (position, mut state) = restored.machine.into_parts();
        let next = position.map_or(0, |position| position.index + 1);
        let last = raft::replay(&restored.log, next, &mut state);
        let last = last.map_err(io_error("replay the log in", dir))?;
        let Some(position) = last.or(position) else {
            let reason = "it was never part of a cluster";
            return Err(OpenError::Engine { reason: reason.to_owned() });
        };
        restored.log.close();
        Ok(DetachedState::anew(state, position))
    }

    fn anew(mut state: State, position: Position) -> DetachedState {
        state.begin_anew(GAP);
        DetachedState { state, position }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.revision()
    }

    /// How many keys exist.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.state.live_keys()
    }

    /// Reads keys.
    pub fn range(&self, range: &Range) -> Result<RangeResponse, ReadError> {
        self.state.range(range)
    }

    /// Changes the copy.
    pub fn txn(&mut self, txn: Txn) -> Result<TxnResponse, WriteError> {
        match self.state.execute(&Command::Txn(txn), &mut Effects::default())? {
            Reply::Txn(response) => Ok(response),
            _ => Err(WriteError::Stopped),
        }
    }

    /// Makes a store of it in `dir`, which must not exist, with `member` as the only one. Durable
    /// when it returns; before that, `dir` does not exist.
    pub fn into_store(self, dir: &Path, member: &Member) -> Result<(), OpenError> {
        if disk::exists(dir).map_err(io_error("look for", dir))? {
            return Err(OpenError::InUse { dir: dir.to_owned() });
        }
        let unfinished = with_ending(dir, "unfinished");
        disk::remove_dir_all(&unfinished).map_err(io_error("remove", &unfinished))?;
        self.write(&unfinished, member)?;
        disk::rename(&unfinished, dir).map_err(io_error("name", dir))?;
        let parent = dir.parent().unwrap_or(Path::new("/"));
        disk::sync_dir(parent).map_err(io_error("sync", parent))
    }

    fn write(self, dir: &Path, member: &Member) -> Result<(), OpenError> {
        disk::create_private_dir(dir).map_err(io_error("make", dir))?;
        let files = SnapshotFiles::open(dir.join("snapshots")).map_err(io_error("make", dir))?;
        let (meta, vote) =
            raft::alone_after(self.position, member).map_err(io_error("describe", dir))?;
        let mut dump = self.state.dump();
        let state = RwLock::new(self.state);
        let unfinished = files.unfinished();
        let Position { index, term } = self.position;
        snapshot::write(unfinished.path(), meta, &mut dump, &state)
            .and_then(|_| files.publish(&unfinished, SnapshotName { index, term }))
            .map_err(io_error("write a snapshot in", dir))?;
        drop(state.into_inner().unwrap_or_else(PoisonError::into_inner));
        let Tuning { segment_bytes, .. } = Tuning::default();
        let (log, _) = Log::open(dir, member.id, LogTuning { segment_bytes, spares: 0 })?;
        let written = [log.save_vote(Bytes::from(vote)), log.purge(self.position, index)];
        log.close();
        for mut done in written {
            // The log is closed, so it has answered.
            let done = done.try_recv().unwrap_or_else(|_| Err(io::Error::other("it stopped")));
            done.map_err(io_error("write the log in", dir))?;
        }
        Ok(())
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}
