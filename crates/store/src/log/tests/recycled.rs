//! Files of the log in their second life.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{MEMBER, all, append, copy, files, files_of, record, wait};
use crate::error::OpenError;
use crate::log::{Log, Position, Record};

const SEGMENT: u64 = 4096;

fn reopen(dir: &Path) -> Result<Log, OpenError> {
    Log::open(dir, MEMBER, files_of(SEGMENT)).map(|(log, _)| log)
}

fn inodes(dir: &Path) -> BTreeSet<u64> {
    files(dir).iter().map(|file| std::fs::metadata(file).unwrap().ino()).collect()
}

/// A log whose newest file is a former one, with three groups in it.
struct Recycled {
    dir: TempDir,
    file: PathBuf,
    records: Vec<Record>,
    /// Where in the file each group ends, and how many entries there are then.
    ends: Vec<(u64, usize)>,
}

fn recycled() -> Recycled {
    let dir = tempfile::tempdir().unwrap();
    let log = reopen(dir.path()).unwrap();
    // The last entry of a file fills it, so that the next begins a new one.
    for index in 0..3 {
        append(&log, vec![record(index, 1, 4096)]);
    }
    let before = inodes(dir.path());
    wait(log.purge(Position { term: 1, index: 0 }, u64::MAX));
    while log.spares_ready() == 0 {
        std::thread::yield_now();
    }
    let start = log.size().bytes;
    let groups = [
        vec![record(3, 1, 40)],
        vec![record(4, 1, 9), record(5, 2, 1500)],
        vec![record(6, 2, 700)],
    ];
    let mut ends = vec![(48, all(&log).len())];
    for group in &groups {
        append(&log, group.clone());
        ends.push((log.size().bytes - start, all(&log).len()));
    }
    let file = files(dir.path()).pop().unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), SEGMENT);
    assert!(before.contains(&std::fs::metadata(&file).unwrap().ino()), "it is a former file");
    let records = all(&log);
    drop(log);
    Recycled { dir, file, records, ends }
}

#[test]
fn a_purged_file_is_used_again_and_found_whole() {
    let made = recycled();
    let log = reopen(made.dir.path()).unwrap();
    assert_eq!(all(&log), made.records);
    append(&log, vec![record(7, 3, 100)]);
    drop(log);
    let log = reopen(made.dir.path()).unwrap();
    assert_eq!(all(&log).len(), made.records.len() + 1);
    // A file that grew beyond the zeros, and the next.
    append(&log, vec![record(8, 3, 4000)]);
    append(&log, vec![record(9, 3, 10)]);
    drop(log);
    assert_eq!(all(&reopen(made.dir.path()).unwrap()).len(), made.records.len() + 3);
}

#[test]
fn what_did_not_reach_a_former_file_is_cut_off_wherever_it_ends() {
    let made = recycled();
    let good = std::fs::read(&made.file).unwrap();
    let end = made.ends.last().unwrap().0;
    for cut in 48..=end {
        let torn = copy(made.dir.path());
        let file = torn.path().join("log").join(made.file.file_name().unwrap());
        let mut bytes = good.clone();
        bytes[usize::try_from(cut).unwrap()..].fill(0);
        std::fs::write(&file, &bytes).unwrap();
        let log = match reopen(torn.path()) {
            Ok(log) => log,
            // Disks write whole sectors; an end within one is damage.
            Err(OpenError::Damaged { .. }) if cut % 512 != 0 => continue,
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        let durable = made.ends.iter().rfind(|(end, _)| *end <= cut).unwrap().1;
        let found = all(&log);
        assert!(found.len() >= durable, "cut at {cut}: {} of {durable} entries", found.len());
        assert_eq!(found, made.records[..found.len()], "cut at {cut}");
        if cut % 128 != 0 {
            continue;
        }
        // And the log goes on from there.
        let next = made.records[found.len() - 1].index + 1;
        append(&log, vec![record(next, 9, 3)]);
        drop(log);
        let log = reopen(torn.path()).unwrap();
        assert_eq!(all(&log).len(), found.len() + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_in_a_former_file_is_refused() {
    let made = recycled();
    let good = std::fs::read(&made.file).unwrap();
    let end = usize::try_from(made.ends.last().unwrap().0).unwrap();
    for at in 0..end {
        let damaged = copy(made.dir.path());
        let file = damaged.path().join("log").join(made.file.file_name().unwrap());
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&file, bytes).unwrap();
        assert!(
            matches!(reopen(damaged.path()), Err(OpenError::Damaged { .. })),
            "byte {at}: the flip was not seen"
        );
    }
}

#[test]
fn bytes_of_a_former_life_are_never_taken_for_records() {
    let made = recycled();
    let good = std::fs::read(&made.file).unwrap();
    // What the file would hold had the zeros never come: records that follow, in another file.
    let former = std::fs::read(&files(made.dir.path())[0]).unwrap();
    for (end, entries) in &made.ends {
        let stale = copy(made.dir.path());
        let file = stale.path().join("log").join(made.file.file_name().unwrap());
        let at = usize::try_from(*end).unwrap();
        let mut bytes = good[..at].to_vec();
        bytes.extend_from_slice(&former[48..former.len().min(48 + 4096 - at)]);
        std::fs::write(&file, bytes).unwrap();
        match reopen(stale.path()) {
            Ok(log) => assert_eq!(all(&log), made.records[..*entries]),
            Err(OpenError::Damaged { offset, .. }) => assert_eq!(offset, *end),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn spares_are_few_and_go_when_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let log = reopen(dir.path()).unwrap();
    let spares = || {
        let entries = std::fs::read_dir(dir.path().join("log")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "spare")).count()
    };
    for index in 0..20 {
        append(&log, vec![record(index, 1, 4096)]);
    }
    for index in 0..10 {
        wait(log.purge(Position { term: 1, index }, u64::MAX));
        assert!(spares() <= 2);
    }
    while log.spares_ready() == 0 {
        std::thread::yield_now();
    }
    log.shared().faults.leave_space(10);
    let (sender, receiver) = std::sync::mpsc::channel();
    log.append(vec![record(20, 1, 100)], Box::new(move |result| sender.send(result).unwrap()));
    let mut health = log.health();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(health.wait_for(|now| *now == crate::log::Health::Full)).unwrap();
    assert_eq!(log.spares_ready(), 0);
    log.shared().faults.free();
    receiver.recv().unwrap().expect("it is written");
    assert_eq!(all(&log).last(), Some(&record(20, 1, 100)));
}
