//! The engine's state machine: applies entries to the state, and takes and installs snapshots.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::room::{Room, snapshot_bytes};
use super::types::{Applied, LogId, Membership, Snapshot, SnapshotMeta, Types, position};
use crate::command::Entry;
use crate::disk::File;
use crate::error::OpenError;
use crate::hub::Hub;
use crate::lessor::Lessor;
use crate::log::{Position, is_full};
use crate::member::MemberId;
use crate::mvcc::{Dump, Effects, State};
use crate::runtime::{self, watch};
use crate::snapshot::{self, SnapshotFiles, SnapshotName, Unfinished};

/// How often what did not fit on the disk is tried again.
const WAIT_FOR_SPACE: Duration = Duration::from_secs(1);

/// This member's copy of the state, shared by those who read it and the one who applies.
pub(crate) struct Replica {
    state: RwLock<State>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) lessor: Lessor,
    pub(crate) room: Room,
    /// Entries before this index have been applied.
    applied: watch::Sender<u64>,
}

impl Replica {
    fn new(state: State, next: u64) -> Replica {
        Replica {
            hub: Arc::new(Hub::new(state.revision())),
            lessor: Lessor::new(state.leases()),
            room: Room::default(),
            state: RwLock::new(state),
            applied: watch::Sender::new(next),
        }
    }

    /// The state, held still while the guard lives.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes some of what was compacted, while nothing is applied; true if more may be left.
    pub(crate) fn tidy(&self, limit: usize) -> bool {
        let collected = self.state_mut().collect(limit);
        collected.more
    }

    /// The state, of which no old version is removed while the pin lives; see [`State::walk`].
    pub(crate) fn pin(replica: &Arc<Replica>) -> (Pin, RwLockWriteGuard<'_, State>) {
        let mut state = replica.state_mut();
        state.pin();
        let pin = Pin { replica: Arc::clone(replica), instance: state.instance() };
        (pin, state)
    }

    /// How many entries have been applied: the index of the next one.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

/// A snapshot on its way to or from the engine: a file, and its content if it is to be installed.
pub(crate) struct SnapshotData {
    pub(crate) file: Arc<File>,
    /// Set for one that was received: where it lies, and the state that was read from it.
    pub(crate) received: Option<(Unfinished, Box<State>)>,
}

/// The state machine, owned by the engine.
pub(crate) struct Machine {
    replica: Arc<Replica>,
    snapshots: Arc<SnapshotFiles>,
    last_applied: Option<LogId>,
    membership: Membership,
}

impl Machine {
    /// Restores the newest good snapshot; one that is damaged is put aside for the one before.
    /// `log_start` is the first entry of the log: a snapshot that ends before it is of no use.
    pub(crate) fn restore(
        snapshots: Arc<SnapshotFiles>,
        log_start: u64,
    ) -> Result<Machine, OpenError> {
        let mut bad = Vec::new();
        for name in snapshots.list() {
            match load(&snapshots.path(name)) {
                Ok(_) if name.index + 1 < log_start => break,
                Ok((meta, state)) => {
                    snapshots.put_aside(bad.iter().map(|(name, _)| *name));
                    return Ok(Machine::new(snapshots, meta, state));
                }
                // That says nothing of the snapshot.
                Err(OpenError::Io { source, action, path }) if is_full(&source) => {
                    return Err(OpenError::Io { source, action, path });
                }
                Err(error) => {
                    tracing::error!(%error, "a snapshot cannot be restored");
                    bad.push((name, error));
                }
            }
        }
        if log_start == 0 {
            // The log goes back to the beginning and holds everything.
            snapshots.put_aside(bad.iter().map(|(name, _)| *name));
            return Ok(Machine::new(snapshots, SnapshotMeta::default(), State::default()));
        }
        let reason = "the snapshot that it continues is missing";
        let dir = snapshots.dir().to_owned();
        let gap = OpenError::Gap { dir, log_start, reason };
        Err(bad.into_iter().next().map_or(gap, |(_, error)| error))
    }

    fn new(snapshots: Arc<SnapshotFiles>, meta: SnapshotMeta, state: State) -> Machine {
        let next = meta.last_log_id.as_ref().map_or(0, |id| id.index() + 1);
        Machine {
            replica: Arc::new(Replica::new(state, next)),
            snapshots,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
        }
    }

    /// The copy that this machine applies to.
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The copy and the position up to which it was applied, for one who needs no machine. The
    /// members count as former ones.
    pub(crate) fn into_parts(self) -> (Option<Position>, State) {
        let position = self.last_applied.as_ref().map(position);
        let mut state = std::mem::take(&mut *self.replica.state_mut());
        state.retire(self.membership.nodes().map(|(id, _)| *id));
        (position, state)
    }

    fn apply_commands(&self, entry: &Entry, effects: &mut Effects) -> io::Result<Applied> {
        let proposals = entry.proposals().map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an entry cannot be decoded: {error}"),
            )
        })?;
        let mut state = self.replica.state_mut();
        Ok(Applied(proposals.iter().map(|proposal| state.apply(proposal, effects)).collect()))
    }

    /// Takes over who the members are. Who is not among them any more never comes back under that number: the
    /// log says of it what it has voted and stored, and a new disk would not know.
    fn change_members(&mut self, membership: Membership) {
        let stays: BTreeSet<MemberId> = membership.nodes().map(|(id, _)| *id).collect();
        let gone = self.membership.nodes().map(|(id, _)| *id).filter(|id| !stays.contains(id));
        self.replica.state_mut().retire(gone);
        self.membership = membership;
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() }
    }
}

/// Reads a snapshot with what the engine said of it.
pub(crate) fn load(path: &std::path::Path) -> Result<(SnapshotMeta, State), OpenError> {
    let (meta, state) = snapshot::read(path)?;
    Ok((decode_meta(path, &meta)?, state))
}

fn decode_meta(path: &std::path::Path, meta: &[u8]) -> Result<SnapshotMeta, OpenError> {
    postcard::from_bytes(meta).map_err(|_| OpenError::Damaged {
        path: path.to_owned(),
        offset: 8,
        reason: "what the engine said of it cannot be decoded",
    })
}

/// The state in a snapshot that was saved and the last entry it holds, for one who needs no machine.
/// The members count as former ones.
pub(crate) fn load_parts(path: &std::path::Path) -> Result<(Option<Position>, State), OpenError> {
    let (meta, mut state) = snapshot::read_backup(path)?;
    let meta = decode_meta(path, &meta)?;
    state.retire(meta.last_membership.nodes().map(|(id, _)| *id));
    Ok((meta.last_log_id.as_ref().map(position), state))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id();
            let mut effects = Effects::default();
            let applied = match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Normal(entry) => self.apply_commands(&entry, &mut effects)?,
                EntryPayload::Membership(membership) => {
                    self.change_members(Membership::new(Some(id), membership));
                    Applied::default()
                }
            };
            self.last_applied = Some(id);
            // First: whoever hears of a lease may keep it alive at once.
            self.replica.lessor.follow(&effects.leases);
            self.replica.applied.send_replace(id.index() + 1);
            if let Some(responder) = responder {
                responder.send(applied);
            }
            self.replica.hub.publish(&effects.changes);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (pin, state) = Replica::pin(&self.replica);
        let dump = Some(state.dump());
        drop(state);
        Builder { pin, dump, meta: self.meta(), snapshots: Arc::clone(&self.snapshots) }
    }

    /// The snapshot is durable under its name before the state is replaced.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let Some((unfinished, state)) = snapshot.received else {
            // The engine gives back what `restore` has restored already.
            return Ok(());
        };
        let Some(name) = name_of(meta) else {
            return Err(io::Error::other("a snapshot of nothing was received"));
        };
        let snapshots = Arc::clone(&self.snapshots);
        patiently(&self.replica, &self.snapshots, move || snapshots.publish(&unfinished, name))
            .await?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.replica.lessor.reset(state.leases());
        // A dump that is being taken of the old state notices, and is given up.
        *self.replica.state_mut() = *state;
        self.replica.hub.replaced(|| self.replica.state());
        self.replica.applied.send_replace(name.index + 1);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshots = Arc::clone(&self.snapshots);
        patiently(&self.replica, &self.snapshots, move || open_newest(&snapshots)).await
    }
}

/// Opens the newest snapshot to be sent; what it says of itself is read from the file, checked.
fn open_newest(snapshots: &SnapshotFiles) -> io::Result<Option<Snapshot>> {
    let Some(name) = snapshots.list().first().copied() else { return Ok(None) };
    match snapshot::open(&snapshots.path(name)) {
        Ok(opened) => {
            let meta = postcard::from_bytes(&opened.meta).map_err(io::Error::other)?;
            let file = Arc::new(opened.file);
            Ok(Some(Snapshot { meta, snapshot: SnapshotData { file, received: None } }))
        }
        Err(OpenError::Io { source, .. }) if is_full(&source) => Err(source),
        Err(error) => {
            tracing::error!(%error, "the newest snapshot cannot be used; a new one will be made");
            Ok(None)
        }
    }
}

fn name_of(meta: &SnapshotMeta) -> Option<SnapshotName> {
    let id = meta.last_log_id.as_ref()?;
    let position = position(id);
    Some(SnapshotName { index: position.index, term: position.term })
}

/// Writes one snapshot, beside the engine.
pub(crate) struct Builder {
    pin: Pin,
    dump: Option<Dump>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotFiles>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    /// Durable when it returns. A full disk is waited for: the engine takes any error for the end.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(name) = name_of(&self.meta) else {
            return Err(io::Error::other("there is nothing to take a snapshot of"));
        };
        let mut waited = false;
        let written = loop {
            match self.write(name).await {
                Err(error) if is_full(&error) => {
                    waited = true;
                    wait_for_room(&self.pin.replica, &self.snapshots, &error).await;
                }
                written => break written,
            }
        };
        if waited {
            self.pin.replica.room.found();
        }
        match written {
            Ok(file) => {
                let snapshot = SnapshotData { file: Arc::new(file), received: None };
                Ok(Snapshot { meta: self.meta.clone(), snapshot })
            }
            Err(error) => self.replaced().await.ok_or(error),
        }
    }
}

impl Builder {
    async fn write(&mut self, name: SnapshotName) -> io::Result<File> {
        let Some(mut dump) = self.dump.take() else {
            return Err(io::Error::other("the snapshot before this one was given up"));
        };
        let replica = Arc::clone(&self.pin.replica);
        let snapshots = Arc::clone(&self.snapshots);
        let meta = postcard::to_stdvec(&self.meta).map_err(io::Error::other)?;
        let work = move || {
            let unfinished = snapshots.unfinished();
            let written = snapshot::write(unfinished.path(), meta, &mut dump, &replica.state)
                .and_then(|bytes| snapshots.publish(&unfinished, name).map(|()| bytes))
                .and_then(|bytes| File::open(&snapshots.path(name)).map(|file| (file, bytes)));
            Ok((dump, written))
        };
        let (dump, written) = blocking(work).await?;
        self.dump = Some(dump);
        let (file, bytes) = written?;
        tracing::info!(index = name.index, bytes, "wrote a snapshot");
        Ok(file)
    }

    /// The snapshot that replaced the state while this one was written, if one did: it is newer.
    async fn replaced(&self) -> Option<Snapshot> {
        let dump = self.dump.as_ref()?;
        if dump.is_of(&self.pin.replica.state()) {
            return None;
        }
        let snapshots = Arc::clone(&self.snapshots);
        let replica = &self.pin.replica;
        patiently(replica, &self.snapshots, move || open_newest(&snapshots)).await.ok()?
    }
}

/// Keeps old versions from being removed; lets them go when it is dropped, however that comes.
pub(crate) struct Pin {
    replica: Arc<Replica>,
    instance: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.replica.state_mut().unpin(self.instance);
    }
}

/// Runs what blocks away from the tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    runtime::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// As [`blocking`], again and again while the disk is full or too many files are open: the engine takes any error for
/// the end.
async fn patiently<T: Send + 'static>(
    replica: &Replica,
    snapshots: &SnapshotFiles,
    work: impl Fn() -> io::Result<T> + Send + Sync + 'static,
) -> io::Result<T> {
    let work = Arc::new(work);
    let mut waited = false;
    loop {
        let attempt = Arc::clone(&work);
        match blocking(move || attempt()).await {
            Err(error) if is_full(&error) => {
                waited = true;
                wait_for_room(replica, snapshots, &error).await;
            }
            done => {
                if waited {
                    replica.room.found();
                }
                return done;
            }
        }
    }
}

/// Says that a snapshot waits, and waits until it is to be tried again.
async fn wait_for_room(replica: &Replica, snapshots: &SnapshotFiles, error: &io::Error) {
    let needed = snapshot_bytes(&replica.state());
    replica.room.lacks(snapshots.dir(), needed, error);
    runtime::sleep(WAIT_FOR_SPACE).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::types::log_id;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_cannot_be_published_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(SnapshotFiles::open(dir.path().to_owned()).unwrap());
        let mut machine = Machine::restore(Arc::clone(&files), 0).unwrap();
        let last = Position { term: 1, index: 7 };
        let meta = SnapshotMeta { last_log_id: Some(log_id(last)), ..SnapshotMeta::default() };
        let (unfinished, state) = (files.unfinished(), RwLock::new(State::default()));
        let mut dump = state.read().unwrap().dump();
        let encoded = postcard::to_stdvec(&meta).unwrap();
        snapshot::write(unfinished.path(), encoded, &mut dump, &state).unwrap();
        let file = Arc::new(File::open(unfinished.path()).unwrap());
        let received = Some((unfinished, Box::new(State::default())));
        files.failing.store(3, Ordering::SeqCst);
        let installed = machine.install_snapshot(&meta, SnapshotData { file, received }).await;
        installed.expect("the engine would stop");
        assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(last)));
        let current = machine.get_current_snapshot().await.unwrap().expect("it is there");
        assert_eq!(current.meta, meta);
        assert_eq!(files.failing.load(Ordering::SeqCst), 0);
    }
}
