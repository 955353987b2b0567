//! The engine's log, kept in our log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::machine::blocking;
use super::types::{LogEntry, LogId, Types, Vote, log_id, position};
use crate::command::Entry;
use crate::log::{Kind, Log, Position, Record, Stored};
use crate::snapshot::SnapshotFiles;

/// Entry bytes sent to a member in one message, unless one entry alone is larger.
const SEND_BYTES: usize = 1 << 20;

/// The engine's handle on the log; cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<Log>,
    snapshots: Arc<SnapshotFiles>,
    /// What the log knew to be committed when it was opened.
    committed: Option<Position>,
}

impl LogStore {
    pub(crate) fn new(
        log: Arc<Log>,
        snapshots: Arc<SnapshotFiles>,
        committed: Option<Position>,
    ) -> LogStore {
        LogStore { log, snapshots, committed }
    }

    async fn entries(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let found = self.log.find(start, end, max_bytes);
        if found.iter().all(Stored::is_here) {
            return load(&self.log, &found);
        }
        // A disk that is slow must not keep heartbeats waiting.
        let log = Arc::clone(&self.log);
        blocking(move || load(&log, &found)).await
    }
}

/// Reads the entries that were found, as many as are still there: some may be cut off meanwhile.
fn load(log: &Log, found: &[Stored]) -> io::Result<Vec<LogEntry>> {
    let mut entries = Vec::with_capacity(found.len());
    for stored in found {
        match stored.load().and_then(to_entry) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                let now = log.find(stored.index(), stored.index() + 1, usize::MAX);
                if now.first().is_some_and(|now| now.is_same(stored)) {
                    return Err(error);
                }
                break;
            }
        }
    }
    Ok(entries)
}

fn to_record(entry: LogEntry) -> io::Result<Record> {
    let Position { term, index } = position(&entry.log_id());
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (Kind::Blank, Bytes::new()),
        EntryPayload::Normal(entry) => (Kind::Commands, entry.encoded().clone()),
        EntryPayload::Membership(membership) => {
            let bytes = postcard::to_stdvec(&membership).map_err(io::Error::other)?;
            (Kind::Members, Bytes::from(bytes))
        }
    };
    Ok(Record { index, term, kind, payload })
}

fn to_entry(record: Record) -> io::Result<LogEntry> {
    let payload = match record.kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Commands => EntryPayload::Normal(Entry::from_encoded(record.payload)),
        Kind::Members => EntryPayload::Membership(
            postcard::from_bytes(&record.payload).map_err(io::Error::other)?,
        ),
        Kind::Committed => return Err(io::Error::other("a note is no entry")),
    };
    let id = log_id(Position { term: record.term, index: record.index });
    Ok(LogEntry::new(id, payload))
}

/// Waits for the log's thread.
async fn written(receiver: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log's thread stopped")))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => *start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => *end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let Some(vote) = self.log.vote() else { return Ok(None) };
        postcard::from_bytes(&vote).map(Some).map_err(io::Error::other)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<LogEntry>, io::Error> {
        self.entries(start, end, SEND_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let (purged, last) = self.log.ends();
        Ok(LogState { last_purged_log_id: purged.map(log_id), last_log_id: last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    /// Durable when it returns.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = postcard::to_stdvec(vote).map_err(io::Error::other)?;
        written(self.log.save_vote(Bytes::from(bytes))).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.note_committed(position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed.map(log_id))
    }

    /// Durable when the callback is called.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: io::Result<Vec<Record>> = entries.into_iter().map(to_record).collect();
        self.log.append(records?, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    /// Durable when it returns.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let next = last.map_or(0, |last| last.index() + 1);
        written(self.log.truncate(next)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        // With the older snapshot the log can be replayed should the newer one be damaged.
        let keep = self.snapshots.oldest().map_or(0, |oldest| oldest.index);
        written(self.log.purge(position(&upto), keep)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::log::LogTuning;

    fn open(dir: &std::path::Path) -> Log {
        let tuning = LogTuning { segment_bytes: 4096, spares: 2 };
        Log::open(dir, 1, tuning).expect("the log opens").0
    }

    fn append(log: &Log, index: u64, term: u64) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let payload = Bytes::from(vec![1; 1500]);
        let record = Record { index, term, kind: Kind::Commands, payload };
        log.append(vec![record], Box::new(move |done| sender.send(done).unwrap()));
        receiver.recv().unwrap().expect("it is written");
    }

    /// A log of ten entries in several files, none of them in memory.
    fn on_disk() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        (0..10).for_each(|index| append(&log, index, 1));
        drop(log);
        let log = open(dir.path());
        (dir, log)
    }

    fn indexes(entries: &[LogEntry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id().index()).collect()
    }

    #[test]
    fn what_is_cut_off_while_it_is_read_is_not_taken_for_damage() {
        for next in 0..10 {
            for again in [false, true] {
                let (_dir, log) = on_disk();
                let found = log.find(0, 10, usize::MAX);
                assert!(!found.iter().any(Stored::is_here));
                log.truncate(next).blocking_recv().unwrap().expect("it is cut off");
                if again {
                    // Others, of which the first are where the former ones were.
                    (next..10).for_each(|index| append(&log, index, 2));
                }
                let read = load(&log, &found).expect("nothing is damaged");
                let read = indexes(&read);
                // A file that was removed as a whole can still be read.
                assert!(read.len() as u64 >= next, "{read:?} of those before {next}");
                assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_damaged_while_it_is_there_is_an_error() {
        let (dir, log) = on_disk();
        let found = log.find(0, 10, usize::MAX);
        let first = dir.path().join("log/0000000000000001.log");
        let file = std::fs::File::options().write(true).open(first).unwrap();
        file.write_all_at(b"damage", 1000).unwrap();
        assert!(load(&log, &found).is_err());
    }
}
