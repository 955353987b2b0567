//! The owner of the log's files; a thread gives it its turns.
//!
//! It takes every append that waits, writes them with one call, syncs once, and only then says so
//! to all who wait: concurrent writers share one sync.

use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::ballot::Ballot;
use super::disk::is_full;
use super::record::{Kind, Record};
use super::segment::{FILE_HEADER, Segment};
use super::spare::Leaving;
use super::view::Place;
use super::{Done, Health, Position, Shared};
use crate::disk::{self, sync_dir};

/// Bytes written at most with one sync, so that the first in a long queue does not wait for all.
const MAX_GROUP: usize = 8 << 20;

/// How often a full disk is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

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

/// What can be done after a turn.
pub(super) enum Turn {
    /// There may be more to do.
    More,
    /// Nothing waits.
    Idle,
    /// The disk is full: another turn is worth while after [`RETRY`], or when the log is closed.
    Full,
    /// The log is closed, and all is done.
    Closed,
}

/// What did not fit on the disk.
enum Held {
    Group(Group),
    Purge { upto: Position, keep: u64, done: Done },
    Truncate { next: u64, done: Done },
}

impl Held {
    fn end(self, result: &io::Result<()>) {
        let done = match self {
            Held::Group(group) => group.done,
            Held::Purge { done, .. } | Held::Truncate { done, .. } => vec![done],
        };
        for done in done {
            done(match result {
                Ok(()) => Ok(()),
                Err(error) => Err(copy(error)),
            });
        }
    }
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
    /// Files that are not wanted any more.
    leaving: Leaving,
    segment_bytes: u64,
    /// Noted, but not yet in the log.
    committed: Option<Position>,
    buffer: Vec<u8>,
    held: Option<Held>,
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
            leaving: Leaving::default(),
            segment_bytes,
            committed: None,
            buffer: Vec::new(),
            held: None,
            failed: None,
        }
    }

    /// Does what waits longest.
    pub(super) fn turn(&mut self) -> Turn {
        if let Some(held) = self.held.take() {
            return self.try_again(held);
        }
        let job = {
            let mut queue = self.shared.queue();
            match queue.jobs.pop_front() {
                Some(job) => job,
                None if !queue.stop => return Turn::Idle,
                None => {
                    drop(queue);
                    self.write_committed();
                    return Turn::Closed;
                }
            }
        };
        if let Some(error) = &self.failed {
            job.fail(error);
            return Turn::More;
        }
        match job {
            Job::Append { records, done } => {
                let group = self.gather(records, done);
                return self.try_again(Held::Group(group));
            }
            Job::Committed(position) => self.committed = self.committed.max(Some(position)),
            Job::Vote { vote, done } => {
                let result = self.ballot.save(vote);
                self.report(result, done);
            }
            Job::Truncate { next, done } => {
                return self.try_again(Held::Truncate { next, done });
            }
            Job::Purge { upto, keep, done } => {
                return self.try_again(Held::Purge { upto, keep, done });
            }
        }
        Turn::More
    }

    /// Does what needs space. Nothing was acknowledged, so a group that does not fit is cut off and
    /// written again when there is space; purging can need a new file, and whatever changes names an open directory.
    /// Each can be done again from the beginning.
    fn try_again(&mut self, held: Held) -> Turn {
        let mut result = match &held {
            Held::Group(group) => self.write_group(&group.records),
            Held::Purge { upto, keep, .. } => self.purge(*upto, *keep),
            Held::Truncate { next, .. } => self.truncate(*next),
        };
        match &result {
            Ok(()) => self.has_space(),
            Err(error) if is_full(error) => match self.no_space(error) {
                Ok(()) => {
                    self.held = Some(held);
                    return Turn::Full;
                }
                Err(error) => result = Err(error),
            },
            Err(_) => {}
        }
        if let Err(error) = &result {
            self.fail(error);
        }
        held.end(&result);
        Turn::More
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

    fn has_space(&self) {
        if *self.shared.health.borrow() == Health::Full {
            tracing::info!("the disk of the log has space again");
            self.shared.health.send_replace(Health::Good);
        }
    }

    /// Cuts off what was half written and says that the disk is full; an error if the log is closed, for
    /// then nobody waits for space.
    fn no_space(&mut self, error: &io::Error) -> io::Result<()> {
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
        if self.shared.queue().stop { Err(copy(error)) } else { Ok(()) }
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
            while let Some(segment) = self.segments.last().filter(|last| last.seq > place.seq) {
                match disk::remove_file(&segment.path) {
                    // It was removed before the disk was full.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
                sync_dir(&self.shared.dir)?;
                self.segments.pop();
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
        old.into_iter().for_each(|segment| self.leaving.add(segment.path, segment.file));
        self.resize(0);
        self.shared.spares.give(&self.shared.dir, &mut self.leaving)
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
