//! The log under crashes, damage and a full disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Found, Health, Kind, Log, LogTuning, Position, Record};
use crate::error::OpenError;

mod damaged;
mod recycled;

const MEMBER: u64 = 7;

fn record(index: u64, term: u64, len: usize) -> Record {
    let payload = (0..len).map(|at| (at as u64 * 7 + index + 1) as u8 | 1).collect::<Vec<_>>();
    Record { index, term, kind: Kind::Commands, payload: Bytes::from(payload) }
}

fn files_of(segment_bytes: u64) -> LogTuning {
    LogTuning { segment_bytes, spares: 2 }
}

fn open(dir: &Path) -> (Log, Found) {
    Log::open(dir, MEMBER, files_of(1 << 20)).expect("the log opens")
}

/// Appends as one group and waits until it is durable.
fn append(log: &Log, records: Vec<Record>) {
    let (sender, receiver) = mpsc::channel();
    log.append(records, Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap().expect("the append succeeds");
}

fn all(log: &Log) -> Vec<Record> {
    log.read(0, u64::MAX, usize::MAX).expect("the log can be read")
}

fn wait(receiver: tokio::sync::oneshot::Receiver<std::io::Result<()>>) {
    receiver.blocking_recv().unwrap().expect("it succeeds");
}

/// Copies a store's directory, to damage the copy.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("log")).unwrap();
    std::fs::copy(from.join("vote"), to.path().join("vote")).unwrap();
    for file in files(from) {
        std::fs::copy(&file, to.path().join("log").join(file.file_name().unwrap())).unwrap();
    }
    to
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("log")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// A log of three groups, and where in its file each group ends.
fn three_groups() -> (TempDir, Vec<Record>, Vec<(u64, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let groups =
        [vec![record(0, 1, 40)], vec![record(1, 1, 9), record(2, 2, 700)], vec![record(3, 2, 0)]];
    let mut ends = vec![(log.size().bytes, 0)];
    for group in &groups {
        append(&log, group.clone());
        ends.push((log.size().bytes, all(&log).len()));
    }
    (dir, groups.concat(), ends)
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let (dir, records, _) = three_groups();
    let (log, found) = open(dir.path());
    assert_eq!(all(&log), records);
    assert_eq!(found.purged, None);
    assert_eq!(log.ends().1, Some(Position { term: 2, index: 3 }));
    append(&log, vec![record(4, 3, 5)]);
    assert_eq!(all(&log).len(), 5);
}

#[test]
fn a_file_torn_at_any_byte_gives_the_last_good_prefix() {
    let (dir, records, ends) = three_groups();
    let len = std::fs::metadata(&files(dir.path())[0]).unwrap().len();
    for cut in ends[0].0..=len {
        let torn = copy(dir.path());
        let file = std::fs::File::options().write(true).open(&files(torn.path())[0]).unwrap();
        file.set_len(cut).unwrap();
        let (log, _) = open(torn.path());
        let durable = ends.iter().rfind(|(end, _)| *end <= cut).unwrap().1;
        let found = all(&log);
        assert!(found.len() >= durable, "cut at {cut}: {} of {durable} entries", found.len());
        assert_eq!(found, records[..found.len()], "cut at {cut}");
        // And the log goes on from there.
        append(&log, vec![record(found.len() as u64, 9, 3)]);
        drop(log);
        assert_eq!(all(&open(torn.path()).0).len(), found.len() + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_by_file_and_offset() {
    let (dir, _, _) = three_groups();
    for name in ["log", "vote"] {
        let source =
            if name == "log" { files(dir.path())[0].clone() } else { dir.path().join(name) };
        let good = std::fs::read(&source).unwrap();
        for at in 0..good.len() {
            let damaged = copy(dir.path());
            let target = damaged.path().join(source.strip_prefix(dir.path()).unwrap());
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&target, bytes).unwrap();
            match Log::open(damaged.path(), MEMBER, files_of(1 << 20)) {
                Err(OpenError::Damaged { path, offset, .. }) => {
                    assert_eq!(path, target);
                    assert!(offset <= at as u64, "byte {at} of {name}: found at {offset}");
                }
                Err(other) => panic!("byte {at} of {name}: {other}"),
                Ok(_) => panic!("byte {at} of {name}: the flip was not seen"),
            }
        }
    }
}

#[test]
fn a_group_of_which_a_sector_never_reached_the_disk_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    append(&log, vec![record(0, 1, 10)]);
    let start = usize::try_from(log.size().bytes).unwrap();
    append(&log, vec![record(1, 1, 2000), record(2, 1, 2000)]);
    drop(log);
    // The second record is whole, but a sector of the first, in the same group, holds zeros.
    let file = files(dir.path())[0].clone();
    let mut bytes = std::fs::read(&file).unwrap();
    let sector = (start / 512 + 2) * 512;
    bytes[sector..sector + 512].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let (log, _) = open(dir.path());
    assert_eq!(all(&log), [record(0, 1, 10)]);
}

#[test]
fn zeros_before_a_later_group_are_damage_not_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    append(&log, vec![record(0, 1, 2000)]);
    append(&log, vec![record(1, 1, 10)]);
    drop(log);
    let file = files(dir.path())[0].clone();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[512..1024].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(
        Log::open(dir.path(), MEMBER, files_of(1 << 20)),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn a_full_disk_holds_writes_back_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    append(&log, vec![record(0, 1, 100)]);
    log.shared().faults.leave_space(50);
    let (sender, receiver) = mpsc::channel();
    log.append(vec![record(1, 1, 100)], Box::new(move |result| sender.send(result).unwrap()));
    let mut health = log.health();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(health.wait_for(|health| *health == Health::Full)).unwrap();
    assert!(receiver.try_recv().is_err(), "nothing is acknowledged that is not on disk");
    // What a crash would find now.
    let crashed = copy(dir.path());
    assert_eq!(all(&open(crashed.path()).0), [record(0, 1, 100)]);
    log.shared().faults.free();
    receiver.recv().unwrap().expect("the append succeeds when there is space");
    runtime.block_on(health.wait_for(|health| *health == Health::Good)).unwrap();
    drop(log);
    assert_eq!(all(&open(dir.path()).0), [record(0, 1, 100), record(1, 1, 100)]);
}

#[test]
fn truncation_removes_the_end_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), MEMBER, files_of(4096)).unwrap();
    for index in 0..20 {
        append(&log, vec![record(index, 1, 1000)]);
    }
    assert!(files(dir.path()).len() > 3, "the log has several files");
    wait(log.truncate(6));
    append(&log, vec![record(6, 2, 30)]);
    let expected: Vec<Record> =
        (0..6).map(|index| record(index, 1, 1000)).chain([record(6, 2, 30)]).collect();
    assert_eq!(all(&log), expected);
    drop(log);
    assert_eq!(all(&Log::open(dir.path(), MEMBER, files_of(4096)).unwrap().0), expected);
    let (log, _) = Log::open(dir.path(), MEMBER, files_of(4096)).unwrap();
    wait(log.truncate(0));
    assert_eq!(log.ends(), (None, None));
    append(&log, vec![record(0, 3, 1)]);
    drop(log);
    assert_eq!(all(&open(dir.path()).0), [record(0, 3, 1)]);
}

#[test]
fn purging_removes_whole_files_but_not_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), MEMBER, files_of(4096)).unwrap();
    for index in 0..20 {
        append(&log, vec![record(index, 1, 1000)]);
    }
    let before = files(dir.path()).len();
    wait(log.purge(Position { term: 1, index: 15 }, 8));
    assert_eq!(all(&log)[0].index, 16);
    let after = files(dir.path()).len();
    assert!(after < before);
    drop(log);
    let (log, found) = Log::open(dir.path(), MEMBER, files_of(4096)).unwrap();
    let first = found.purged.unwrap().index + 1;
    assert!(first <= 9, "entries after 8 are still on disk: {first}");
    assert_eq!(all(&log).last(), Some(&record(19, 1, 1000)));
}

#[test]
fn a_snapshot_beyond_the_log_begins_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    append(&log, vec![record(0, 1, 10), record(1, 1, 10)]);
    wait(log.purge(Position { term: 4, index: 100 }, 0));
    assert_eq!(
        log.ends(),
        (Some(Position { term: 4, index: 100 }), Some(Position { term: 4, index: 100 }))
    );
    append(&log, vec![record(101, 5, 10)]);
    drop(log);
    let (log, found) = open(dir.path());
    assert_eq!(found.purged, Some(Position { term: 4, index: 100 }));
    assert_eq!(all(&log), [record(101, 5, 10)]);
}

#[test]
fn the_vote_and_what_is_committed_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, found) = open(dir.path());
    assert_eq!((log.vote(), found.committed), (None, None));
    for round in 0..5_u8 {
        wait(log.save_vote(Bytes::from(vec![round; 20])));
    }
    append(&log, vec![record(0, 1, 10), record(1, 1, 10)]);
    log.note_committed(Position { term: 1, index: 1 });
    drop(log);
    let (log, found) = open(dir.path());
    assert_eq!(log.vote(), Some(Bytes::from(vec![4; 20])));
    assert_eq!(found.committed, Some(Position { term: 1, index: 1 }));
}

#[test]
fn a_missing_file_and_a_strange_member_are_refused() {
    let (dir, _, _) = three_groups();
    assert!(matches!(
        Log::open(dir.path(), MEMBER + 1, files_of(1 << 20)),
        Err(OpenError::WrongMember { found: MEMBER, .. })
    ));
    let without_vote = copy(dir.path());
    std::fs::remove_file(without_vote.path().join("vote")).unwrap();
    assert!(matches!(
        Log::open(without_vote.path(), MEMBER, files_of(1 << 20)),
        Err(OpenError::Damaged { .. })
    ));
    std::fs::remove_file(&files(dir.path())[0]).unwrap();
    assert!(matches!(
        Log::open(dir.path(), MEMBER, files_of(1 << 20)),
        Err(OpenError::Damaged { .. })
    ));
}
