//! Taking a copy of the whole state, on disk or as a stream of bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::WaitError;
use tokio::sync::OwnedSemaphorePermit;

use crate::core::Core;
use crate::disk::File;
use crate::error::SnapshotError;
use crate::raft::{Types, blocking, snapshot_bytes, would_lack};
use crate::runtime::Instant;
use crate::snapshot;

/// Snapshots that can be read at a time: each may keep a file on disk that is not wanted otherwise.
pub(crate) const STREAMS: usize = 4;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// How long to wait for a snapshot until it is asked for again: while one is written, the engine
/// takes no order for the next.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long a snapshot may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A snapshot file that is read piece by piece. However slowly that is done, the store keeps
/// nothing in memory for it.
pub struct SnapshotStream {
    file: Arc<File>,
    at: u64,
    bytes: u64,
    revision: u64,
    _slot: OwnedSemaphorePermit,
}

impl SnapshotStream {
    /// The revision of the state in it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.bytes - self.at
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let len = usize::try_from(self.remaining()).unwrap_or(CHUNK).min(CHUNK);
        if len == 0 {
            return None;
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let read = blocking(move || {
            let mut chunk = vec![0; len];
            file.read_exact_at(&mut chunk, at)?;
            Ok(Bytes::from(chunk))
        });
        let read = read.await;
        self.at += len as u64;
        Some(read)
    }
}

impl Core {
    /// Sees to it that a snapshot on disk holds all that is applied now.
    pub(crate) async fn snapshot(&self) -> Result<(), SnapshotError> {
        let applied = *self.replica.applied().borrow();
        if applied == 0 {
            return Err(SnapshotError::NotInCluster);
        }
        let holds = |metrics: &RaftMetrics<Types>| {
            metrics.snapshot.as_ref().is_some_and(|id| id.index() + 1 >= applied)
        };
        if holds(&self.engine.metrics().borrow_watched()) {
            return Ok(());
        }
        // Whoever waits for it is told at once; and the log, on the same disk, keeps what room there is.
        let needed = snapshot_bytes(&self.replica.state());
        if let Some(shortage) = would_lack(self.snapshots.dir(), needed) {
            return Err(SnapshotError::NoRoom(shortage));
        }
        let began = Instant::now();
        while !holds(&self.engine.metrics().borrow_watched()) {
            if self.engine.trigger().snapshot().await.is_err() {
                return Err(SnapshotError::Stopped);
            }
            let wait = self.engine.wait(Some(ASK_AGAIN));
            match wait.metrics(holds, "a snapshot is written").await {
                Err(WaitError::ShuttingDown) => return Err(SnapshotError::Stopped),
                Ok(_) => return Ok(()),
                Err(WaitError::Timeout(..)) => {}
            }
            if let Some(shortage) = self.replica.room.shortage() {
                return Err(SnapshotError::NoRoom(shortage));
            }
            if began.elapsed() > PATIENCE {
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Err(SnapshotError::Timeout { waited_ms });
            }
        }
        Ok(())
    }

    /// Opens a snapshot that holds all that is applied now. It is the file of the newest snapshot,
    /// which stays readable when it is replaced.
    pub(crate) async fn snapshot_stream(&self) -> Result<SnapshotStream, SnapshotError> {
        let slot = Arc::clone(&self.streams).try_acquire_owned();
        let slot = slot.map_err(|_| SnapshotError::Busy { limit: STREAMS })?;
        self.snapshot().await?;
        let snapshots = Arc::clone(&self.snapshots);
        let open = move || {
            let newest = snapshots.list().first().copied();
            let newest = newest.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(snapshot::open(&snapshots.path(newest)))
        };
        let opened = blocking(open).await.map_err(|_| SnapshotError::Stopped)??;
        let bytes = opened.bytes;
        Ok(SnapshotStream {
            file: Arc::new(opened.file),
            at: 0,
            bytes,
            revision: opened.revision,
            _slot: slot,
        })
    }
}
