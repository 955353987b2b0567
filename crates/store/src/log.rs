//! The log on disk: segments of checked records, written by one thread that gathers what waits.
//!
//! Knows nothing of consensus: records have an index, a term, a kind and bytes.

mod ballot;
mod disk;
mod driver;
mod record;
mod recover;
mod segment;
mod spare;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

pub(crate) use ballot::owner;
pub(crate) use disk::is_full;
pub(crate) use record::{Kind, Record};
pub(crate) use recover::check_files;

use crate::error::OpenError;
use crate::runtime::watch;
use ballot::Ballot;
use driver::Bell;
use spare::Spares;
pub(crate) use view::Stored;
use view::View;
use writer::{Job, Writer};

/// An index and the term of the leader that chose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// Whether the log can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Good,
    /// The disk is full; what waits is written when there is space.
    Full,
    /// Writing failed in a way that must not be tried again.
    Failed(String),
}

/// How the log is kept in files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTuning {
    /// A file is closed at this size.
    pub(crate) segment_bytes: u64,
    /// Purged files kept to be used again.
    pub(crate) spares: usize,
}

/// How big the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSize {
    /// Bytes on disk now.
    pub(crate) bytes: u64,
    /// Bytes appended since the store was opened.
    pub(crate) appended: u64,
}

/// Called when records are on disk, or cannot be.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The log. Dropping it waits for what is queued to be written.
pub(crate) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the log's owner and its thread share.
pub(crate) struct Shared {
    dir: PathBuf,
    queue: Mutex<Queue>,
    pub(crate) bell: Bell,
    view: Mutex<View>,
    health: watch::Sender<Health>,
    size: Mutex<LogSize>,
    spares: Spares,
    #[cfg(test)]
    pub(crate) faults: disk::Faults,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    stop: bool,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Entries up to here are not in the log (any more).
    pub(crate) purged: Option<Position>,
    /// The last entry known to be committed, as far as the log was told.
    pub(crate) committed: Option<Position>,
}

impl Log {
    /// Opens the log in `dir`, or makes one. Cuts off what a crash left half written; refuses
    /// anything else that is not as it was written.
    pub(crate) fn open(
        dir: &Path,
        member: u64,
        tuning: LogTuning,
    ) -> Result<(Log, Found), OpenError> {
        // Offsets within a file have 32 bits.
        let segment_bytes = tuning.segment_bytes.clamp(4096, 1 << 30);
        let mut ballot = Ballot::open(dir, member)?;
        let log_dir = dir.join("log");
        let recovered = recover::recover(&log_dir, ballot.is_new())?;
        if ballot.is_new() && recovered.view.last().is_some() {
            let path = dir.join("vote");
            let reason = "it is missing, but there is a log";
            return Err(OpenError::Damaged { path, offset: 0, reason });
        }
        ballot.finish(dir).map_err(|source| OpenError::Io {
            action: "write the vote in",
            path: dir.to_owned(),
            source,
        })?;
        let found = Found { purged: recovered.view.purged(), committed: recovered.committed };
        let bytes = recovered.segments.iter().map(|segment| segment.len).sum();
        let shared = Arc::new(Shared {
            dir: log_dir,
            queue: Mutex::default(),
            bell: Bell::default(),
            view: Mutex::new(recovered.view),
            health: watch::Sender::new(Health::Good),
            size: Mutex::new(LogSize { bytes, appended: 0 }),
            spares: Spares::new(tuning.spares, segment_bytes),
            #[cfg(test)]
            faults: disk::Faults::default(),
        });
        let writer = Writer::new(Arc::clone(&shared), ballot, recovered.segments, segment_bytes);
        let thread = driver::start(Arc::clone(&shared), writer).map_err(|source| {
            OpenError::Io { action: "start the log's thread for", path: dir.to_owned(), source }
        })?;
        Ok((Log { shared, thread: Mutex::new(thread) }, found))
    }

    /// Appends entries, which follow the last one. They can be read when this returns and are
    /// durable when `done` is called.
    pub(crate) fn append(&self, records: Vec<Record>, done: Done) {
        self.shared.view().extend(&records);
        self.push(Job::Append { records, done });
    }

    /// Notes that entries up to `position` are committed; durable with some later append, not
    /// before.
    pub(crate) fn note_committed(&self, position: Position) {
        self.push(Job::Committed(position));
    }

    /// Saves the vote; durable when the receiver gets `Ok`.
    pub(crate) fn save_vote(&self, vote: Bytes) -> oneshot::Receiver<io::Result<()>> {
        self.shared.view().vote = Some(vote.clone());
        self.queued(|done| Job::Vote { vote, done })
    }

    /// Removes the entries from `next` on; durable when the receiver gets `Ok`.
    pub(crate) fn truncate(&self, next: u64) -> oneshot::Receiver<io::Result<()>> {
        self.queued(|done| Job::Truncate { next, done })
    }

    /// Forgets the entries up to `upto`. Files are kept while they hold entries after `keep`.
    pub(crate) fn purge(&self, upto: Position, keep: u64) -> oneshot::Receiver<io::Result<()>> {
        self.queued(|done| Job::Purge { upto, keep, done })
    }

    /// Finds the entries that exist from `start` to before `end`, stopping after about `max_bytes`
    /// but not before the first.
    pub(crate) fn find(&self, start: u64, end: u64, max_bytes: usize) -> Vec<Stored> {
        self.shared.view().look_up(start, end, max_bytes)
    }

    /// As [`Log::find`], and reads what is on the disk, for one who may wait for it.
    pub(crate) fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Record>> {
        self.find(start, end, max_bytes).iter().map(Stored::load).collect()
    }

    /// The last vote saved or being saved.
    pub(crate) fn vote(&self) -> Option<Bytes> {
        self.shared.view().vote.clone()
    }

    /// What the log holds now: the last purged position and the last one.
    pub(crate) fn ends(&self) -> (Option<Position>, Option<Position>) {
        let view = self.shared.view();
        (view.purged(), view.last())
    }

    /// Whether the log can be written, and when that changes.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// How big the log is.
    pub(crate) fn size(&self) -> LogSize {
        *self.shared.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the log lives.
    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Writes what is queued and stops. What is appended later fails.
    pub(crate) fn close(&self) {
        self.shared.queue().stop = true;
        self.shared.bell.ring();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }

    fn queued(&self, job: impl FnOnce(Done) -> Job) -> oneshot::Receiver<io::Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.push(job(Box::new(move |result| {
            // The one who asked may have stopped waiting.
            sender.send(result).ok();
        })));
        receiver
    }

    fn push(&self, job: Job) {
        let mut queue = self.shared.queue();
        if queue.stop {
            drop(queue);
            job.fail(&io::Error::other("the log is closed"));
            return;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.bell.ring();
    }

    /// Bytes of entries that are in memory.
    #[cfg(test)]
    pub(crate) fn payloads_in_memory(&self) -> usize {
        self.shared.view().cached()
    }

    /// Former files that are ready to be used again.
    #[cfg(test)]
    pub(crate) fn spares_ready(&self) -> usize {
        self.shared.spares.ready()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
