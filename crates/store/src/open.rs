//! Opening a store: recover what is on disk, start the engine, start the tasks.

use std::path::Path;
use std::sync::Arc;

use openraft::{Config, RaftMetrics, SnapshotPolicy};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::{StoreConfig, Tuning};
use crate::core::Core;
use crate::disk::{self, Lock};
use crate::error::OpenError;
use crate::linearize::{self, Reads};
use crate::log::{Log, LogTuning};
use crate::member::Leadership;
use crate::propose::{self, Proposer};
use crate::raft::{Engine, LogStore, Machine, Network, Types};
use crate::runtime::{self, Instant, watch};
use crate::snapshot::SnapshotFiles;
use crate::snapshot_stream::STREAMS;
use crate::transport::Transport;
use crate::{housekeeping, log, membership};

/// Opens the store of `config`.
pub(crate) async fn open(
    config: StoreConfig,
    transport: Arc<dyn Transport>,
) -> Result<Arc<Core>, OpenError> {
    let restoring = config.clone();
    let restored = runtime::spawn_blocking(move || restore(&restoring)).await;
    let Restored { lock, log, found, snapshots, machine } =
        restored.map_err(|error| OpenError::Engine { reason: error.to_string() })??;
    let new = log.vote().is_none();
    let network = Network::new(transport);
    let replica = Arc::clone(machine.replica());
    let log_store = LogStore::new(Arc::clone(&log), Arc::clone(&snapshots), found.committed);
    let engine = Engine::build(
        config.member,
        engine_config(&config.tuning)?,
        network.clone(),
        log_store,
        machine,
    )
    .await
    .map_err(|error| OpenError::Engine { reason: error.to_string() })?;
    // An earlier life may have promised a leader not to help another for a while.
    engine.runtime_config().elect(false);
    engine.run();
    wait_until_known(&engine).await?;
    let (proposer, proposals) = Proposer::new();
    let (reads, waiters) = Reads::new();
    let now = Instant::now();
    let core = Arc::new(Core {
        votes_from: if new { now } else { now + config.tuning.election_max },
        engine,
        replica,
        health: log.health(),
        log,
        snapshots,
        network,
        proposer,
        reads,
        leadership: watch::Sender::new(Leadership::default()),
        changing: Mutex::new(()),
        checking: Mutex::new(()),
        streams: Arc::new(Semaphore::new(STREAMS)),
        stop: CancellationToken::new(),
        config,
        _lock: lock,
    });
    runtime::spawn(propose::run(Arc::clone(&core), proposals));
    runtime::spawn(linearize::run(Arc::clone(&core), waiters));
    runtime::spawn(housekeeping::follow_leadership(Arc::clone(&core)));
    runtime::spawn(housekeeping::run(Arc::clone(&core)));
    runtime::spawn(housekeeping::forget(Arc::clone(&core)));
    runtime::spawn(membership::forget_removed(Arc::clone(&core)));
    runtime::spawn(allow_elections(Arc::clone(&core)));
    Ok(core)
}

/// Waits until the engine says of itself what was restored: whether it is part of a cluster.
async fn wait_until_known(engine: &Engine) -> Result<(), OpenError> {
    let stopped = |reason: String| OpenError::Engine { reason };
    let known = engine
        .with_raft_state(|state| state.membership_state.effective().nodes().next().is_some())
        .await
        .map_err(|error| stopped(error.to_string()))?;
    let said =
        |metrics: &RaftMetrics<Types>| !known || metrics.membership_config.nodes().next().is_some();
    let waited = engine.wait(None).metrics(said, "the engine has started").await;
    waited.map(|_| ()).map_err(|error| stopped(error.to_string()))
}

/// What was found on disk, and the lock that keeps others from it.
pub(crate) struct Restored {
    lock: Lock,
    pub(crate) log: Arc<Log>,
    found: log::Found,
    snapshots: Arc<SnapshotFiles>,
    pub(crate) machine: Machine,
}

/// Reads everything on disk; this can take seconds.
pub(crate) fn restore(config: &StoreConfig) -> Result<Restored, OpenError> {
    let dir = &config.dir;
    let failed = |action| move |source| OpenError::Io { action, path: dir.clone(), source };
    // All that the cluster keeps secret is in these files.
    disk::create_private_dir(dir).map_err(failed("make"))?;
    let lock = lock(dir)?;
    let snapshots = SnapshotFiles::open(dir.join("snapshots")).map_err(failed("read"))?;
    let snapshots = Arc::new(snapshots);
    let Tuning { segment_bytes, spare_segments: spares, .. } = config.tuning;
    let (log, found) = Log::open(dir, config.member, LogTuning { segment_bytes, spares })?;
    let log_start = found.purged.map_or(0, |purged| purged.index + 1);
    let machine = Machine::restore(Arc::clone(&snapshots), log_start)?;
    Ok(Restored { lock, log: Arc::new(log), found, snapshots, machine })
}

/// Keeps other processes from the store in `dir`.
pub(crate) fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join("lock");
    disk::lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::InUse { dir: dir.to_owned() },
        _ => OpenError::Io { action: "open", path, source },
    })
}

fn engine_config(tuning: &Tuning) -> Result<Arc<Config>, OpenError> {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "pontoon".to_owned(),
        heartbeat_interval: ms(tuning.heartbeat),
        election_timeout_min: ms(tuning.election_min),
        election_timeout_max: ms(tuning.election_max),
        enable_pre_vote: Some(true),
        // The state is restored from the log, so a leader is elected anew.
        enable_leader_restore: Some(false),
        // A member whose disk lost its end must not bring the leader down with it.
        allow_log_reversion: Some(true),
        // The store itself decides when, by entries and by bytes.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: tuning.keep_entries,
        purge_batch_size: 64,
        replication_lag_threshold: tuning.snapshot_entries.saturating_mul(2),
        max_payload_entries: 512,
        ..Config::default()
    };
    let config = config.validate();
    Ok(Arc::new(config.map_err(|error| OpenError::Engine { reason: error.to_string() })?))
}

/// Lets this member stand for election: at once if it is alone, else when no promise of an earlier
/// life can hold any more.
async fn allow_elections(core: Arc<Core>) {
    let alone = core
        .engine
        .with_raft_state(|state| state.membership_state.effective().voter_ids().count() <= 1);
    if !alone.await.unwrap_or(false) {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = runtime::sleep_until(core.votes_from) => {}
        }
    }
    core.engine.runtime_config().elect(true);
}
