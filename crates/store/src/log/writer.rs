//! The thread that owns the log's files.
//!
//! It takes every append that waits, writes them with one call, syncs once, and only then says so
//! to all who wait: concurrent writers share one sync.

use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::ballot::Ballot;
use super::disk::{is_full, sync_dir};
use super::record::{Kind, Record};
use super::segment::{FILE_HEADER, Segment};
use super::view::Place;
use super::{Done, Health, Position, Shared};

/// Bytes written at most with one sync, so that the first in a long queue does not wait for all.
const MAX_GROUP: usize = 8 << 20;

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the thread is asked to do, in order.
pub(super) enum Job {
    Append { records: Vec<Record>, done: Done },
    Committed(Position),
    Vote { vote: Bytes, done: Done },
    Truncate { next: u64, done: Done },
    Purge { upto: Position, keep: u64, done: Done },
}

impl Job {
    pub(super) fn fail(self, error: &io::Error) {
        match self {
            Job::Committed(_) => {}
            Job::Append { done, .. }
            | Job::Vote { done, .. }
            | Job::Truncate { done, .. }
            | Job::Purge { done, .. } => done(Err(copy(error))),
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Appends that one sync will cover.
struct Group {
    records: Vec<Record>,
    done: Vec<Done>,
    bytes: usize,
}

/// The owner of the files.
pub(super) struct Writer {
    shared: Arc<Shared>,
    ballot: Ballot,
    segments: Vec<Segment>,
    segment_bytes: u64,
    /// Noted, but not yet in the log.
    committed: Option<Position>,
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        ballot: Ballot,
        segments: Vec<Segment>,
        segment_bytes: u64,
    ) -> Writer {
        shared.view().vote = ballot.vote().cloned();
        Writer {
            shared,
            ballot,
            segments,
            segment_bytes,
            committed: None,
            buffer: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            if let Some(error) = &self.failed {
                job.fail(error);
                continue;
            }
            match job {
                Job::Append { records, done } => self.append(records, done),
                Job::Committed(position) => self.committed = self.committed.max(Some(position)),
                Job::Vote { vote, done } => {
                    let result = self.ballot.save(vote);
                    self.report(result, done);
                }
                Job::Truncate { next, done } => {
                    let result = self.truncate(next);
                    self.report(result, done);
                }
                Job::Purge { upto, keep, done } => {
                    let result = self.purge_until_it_fits(upto, keep);
                    self.report(result, done);
                }
            }
        }
        self.write_committed();
    }

    /// The next job; `None` when the log is closed and nothing waits.
    fn next(&self) -> Option<Job> {
        let mut queue = self.shared.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.stop {
                return None;
            }
            queue = self.shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After a failure nothing is written any more: what the disk holds then is not known.
    fn report(&mut self, result: io::Result<()>, done: Done) {
        if let Err(error) = &result {
            self.fail(error);
        }
        done(result);
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(dir = %self.shared.dir.display(), %error, "the log cannot be written");
        self.shared.health.send_replace(Health::Failed(error.to_string()));
        self.failed = Some(copy(error));
    }

    fn append(&mut self, records: Vec<Record>, done: Done) {
        let mut group = self.gather(records, done);
        let result = self.write_until_it_fits(&group.records);
        if let Err(error) = &result {
            self.fail(error);
        }
        for done in group.done.drain(..) {
            done(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(copy(error)),
            });
        }
    }

    /// Takes all appends that wait behind the first one.
    fn gather(&mut self, records: Vec<Record>, done: Done) -> Group {
        let bytes = records.iter().map(Record::size).sum();
        let mut group = Group { records, done: vec![done], bytes };
        let mut queue = self.shared.queue();
        while group.bytes < MAX_GROUP {
            match queue.jobs.front() {
                Some(Job::Append { .. } | Job::Committed(_)) => {}
                _ => break,
            }
            match queue.jobs.pop_front() {
                Some(Job::Append { records, done }) => {
                    group.bytes += records.iter().map(Record::size).sum::<usize>();
                    group.records.extend(records);
                    group.done.push(done);
                }
                Some(Job::Committed(position)) => {
                    self.committed = self.committed.max(Some(position));
                }
                _ => break,
            }
        }
        drop(queue);
        if let Some(position) = self.committed.take() {
            let Position { term, index } = position;
            let payload = Bytes::new();
            group.records.insert(0, Record { index, term, kind: Kind::Committed, payload });
        }
        group
    }

    /// Writes a group; while the disk is full it waits for space. Nothing was acknowledged, so a
    /// group that did not fit is cut off and written again.
    fn write_until_it_fits(&mut self, records: &[Record]) -> io::Result<()> {
        loop {
            match self.write_group(records) {
                Ok(()) => {
                    self.has_space();
                    return Ok(());
                }
                Err(error) if is_full(&error) => self.wait_for_space(&error)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn has_space(&self) {
        if *self.shared.health.borrow() == Health::Full {
            tracing::info!("the disk of the log has space again");
            self.shared.health.send_replace(Health::Good);
        }
    }

    fn wait_for_space(&mut self, error: &io::Error) -> io::Result<()> {
        self.shared.spares.give_up();
        if let Some(segment) = self.segments.last() {
            segment.file.set_len(segment.len)?;
        }
        if *self.shared.health.borrow() == Health::Good {
            tracing::error!(
                dir = %self.shared.dir.display(), %error,
                "the disk of the log is full: writes are refused until there is space"
            );
            self.shared.health.send_replace(Health::Full);
        }
        let queue = self.shared.queue();
        let waited = self.shared.ready.wait_timeout_while(queue, RETRY, |queue| !queue.stop);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if queue.stop { Err(copy(error)) } else { Ok(()) }
    }

    fn write_group(&mut self, records: &[Record]) -> io::Result<()> {
        if self.segments.last().is_none_or(|segment| segment.len >= self.segment_bytes) {
            self.roll()?;
        }
        let segment = self.segments.last_mut().expect("there always is a file");
        let start = segment.len;
        let group = u32::try_from(start).map_err(io::Error::other)?;
        self.buffer.clear();
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            offsets.push(start + self.buffer.len() as u64);
            record.encode(group, segment.seq, &mut self.buffer);
        }
        self.shared.write_at(&segment.file, &self.buffer, start)?;
        segment.file.sync_data()?;
        let written = self.buffer.len() as u64;
        segment.len += written;
        let mut view = self.shared.view();
        for (record, offset) in records.iter().zip(offsets) {
            if record.kind == Kind::Committed {
                continue;
            }
            segment.last = Some(Position { term: record.term, index: record.index });
            let file = Arc::clone(&segment.file);
            view.placed(record.index, Place { file, seq: segment.seq, offset });
        }
        view.evict();
        drop(view);
        if self.buffer.capacity() > MAX_GROUP {
            self.buffer = Vec::new();
        }
        self.resize(written);
        Ok(())
    }

    /// Begins a new file.
    fn roll(&mut self) -> io::Result<()> {
        let last = self.segments.last();
        let seq = last.map_or(1, |segment| segment.seq + 1);
        let prev = last.and_then(|segment| segment.last);
        let spare = self.shared.spares.take();
        self.segments.push(Segment::create(&self.shared.dir, (seq, prev, false), spare)?);
        Ok(())
    }

    fn truncate(&mut self, next: u64) -> io::Result<()> {
        let (place, last) = {
            let view = self.shared.view();
            let last = next.checked_sub(1).and_then(|index| view.position(index));
            (view.place(next).cloned(), last)
        };
        // Later files go first, so that a crash leaves no hole.
        if let Some(place) = place {
            while self.segments.last().is_some_and(|segment| segment.seq > place.seq) {
                let segment = self.segments.pop().expect("it was just there");
                std::fs::remove_file(&segment.path)?;
                sync_dir(&self.shared.dir)?;
            }
            let segment = self.segments.last_mut().expect("the place's file is there");
            segment.file.set_len(place.offset)?;
            segment.file.sync_all()?;
            segment.len = place.offset;
            segment.last = last;
        }
        self.shared.view().truncate(next);
        self.resize(0);
        Ok(())
    }

    /// Purging can need a new file, and so some space.
    fn purge_until_it_fits(&mut self, upto: Position, keep: u64) -> io::Result<()> {
        loop {
            match self.purge(upto, keep) {
                Err(error) if is_full(&error) => self.wait_for_space(&error)?,
                result => {
                    self.has_space();
                    return result;
                }
            }
        }
    }

    fn purge(&mut self, upto: Position, keep: u64) -> io::Result<()> {
        let behind = self.shared.view().last().is_none_or(|last| last.index < upto.index);
        if behind {
            // A snapshot replaced the whole log: begin again after it.
            let seq = self.segments.last().map_or(1, |segment| segment.seq + 1);
            let about = (seq, Some(upto), true);
            let next = Segment::create(&self.shared.dir, about, self.shared.spares.take())?;
            let old = std::mem::replace(&mut self.segments, vec![next]);
            self.shared.view().purge(upto);
            return self.remove(old);
        }
        self.shared.view().purge(upto);
        let floor = upto.index.min(keep);
        let old = self
            .segments
            .iter()
            .take_while(|segment| segment.last.is_none_or(|last| last.index <= floor))
            .count()
            .min(self.segments.len() - 1);
        let old: Vec<Segment> = self.segments.drain(..old).collect();
        self.remove(old)
    }

    fn remove(&mut self, old: Vec<Segment>) -> io::Result<()> {
        if old.is_empty() {
            self.resize(0);
            return Ok(());
        }
        for segment in old {
            self.shared.spares.give(&segment.path, segment.file)?;
        }
        sync_dir(&self.shared.dir)?;
        self.resize(0);
        Ok(())
    }

    fn resize(&self, written: u64) {
        let bytes = self.segments.iter().map(|segment| segment.len).sum();
        let mut size = self.shared.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.bytes = bytes;
        size.appended += written;
    }

    /// On a clean stop the last word on what is committed is kept, so that the next start knows.
    fn write_committed(&mut self) {
        let Some(Position { term, index }) = self.committed.take() else { return };
        if self.failed.is_some() || *self.shared.health.borrow() != Health::Good {
            return;
        }
        let record = Record { index, term, kind: Kind::Committed, payload: Bytes::new() };
        if let Err(error) = self.write_group(std::slice::from_ref(&record)) {
            tracing::warn!(%error, "the log was closed without its last note");
        }
    }
}

const _: () = assert!(FILE_HEADER < 4096, "a file holds more than its header");
