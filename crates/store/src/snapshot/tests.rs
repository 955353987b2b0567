//! Snapshots: what was written is read, what was damaged is not.

use std::path::Path;
use std::sync::RwLock;

use super::{SnapshotFiles, SnapshotName, open, read, write};
use crate::command::Command;
use crate::error::OpenError;
use crate::lease::Lease;
use crate::mvcc::{Effects, State};
use crate::range::Range;
use crate::txn::{DeleteRange, Put, Txn};

fn state() -> State {
    let mut state = State::default();
    let mut run = |command| {
        state.execute(&command, &mut Effects::default()).expect("it is done");
    };
    run(Command::LeaseGrant(Lease { id: 3, ttl: 60 }));
    for number in 0..5 {
        let put = Put::new(format!("/k/{number}"), format!("value {number}")).lease(3);
        run(Command::Txn(Txn::new().then(put)));
    }
    run(Command::Txn(Txn::new().then(DeleteRange::key("/k/1"))));
    run(Command::Compact(3));
    state
}

fn save(path: &Path) -> State {
    let state = RwLock::new(state());
    let mut dump = state.read().unwrap().dump();
    write(path, b"meta".to_vec(), &mut dump, &state).expect("it is written");
    state.into_inner().unwrap()
}

fn same(left: &State, right: &State) {
    assert_eq!(left.revision(), right.revision());
    assert_eq!(left.compact_revision(), right.compact_revision());
    assert_eq!(left.leases(), right.leases());
    assert_eq!(left.lease(3), right.lease(3));
    for revision in left.compact_revision()..=left.revision() {
        let range = Range::prefix("").at(revision);
        assert_eq!(left.range(&range), right.range(&range));
    }
    let history = |state: &State| {
        state.history_from(state.compact_revision()).unwrap().cloned().collect::<Vec<_>>()
    };
    assert_eq!(history(left).len(), history(right).len());
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let before = save(&path);
    let (meta, after) = read(&path).expect("it is read");
    assert_eq!(meta, b"meta");
    same(&before, &after);
    let opened = open(&path).unwrap();
    assert_eq!((&opened.meta[..], opened.revision), (&b"meta"[..], before.revision()));
}

#[test]
fn a_snapshot_cut_or_flipped_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    save(&path);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(matches!(read(&path), Err(OpenError::Damaged { .. })), "cut at {at}");
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, flipped).unwrap();
        assert!(matches!(read(&path), Err(OpenError::Damaged { .. })), "flip at {at}");
    }
    let longer = [&good[..], b"x"].concat();
    std::fs::write(&path, longer).unwrap();
    assert!(matches!(read(&path), Err(OpenError::Damaged { .. })), "something after the end");
}

#[test]
fn the_two_newest_are_kept_and_leavings_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = SnapshotFiles::open(dir.path().to_owned()).unwrap();
    for index in [10, 30, 20] {
        let unfinished = files.unfinished();
        save(&unfinished);
        files.publish(&unfinished, SnapshotName { index, term: 1 }).unwrap();
    }
    let indexes = |files: &SnapshotFiles| {
        files.list().unwrap().iter().map(|name| name.index).collect::<Vec<_>>()
    };
    assert_eq!(indexes(&files), [30, 20]);
    assert_eq!(files.oldest().unwrap().map(|name| name.index), Some(20));
    std::fs::write(files.unfinished(), b"half").unwrap();
    let files = SnapshotFiles::open(dir.path().to_owned()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    files.put_aside([SnapshotName { index: 30, term: 1 }].into_iter());
    assert_eq!(indexes(&files), [20]);
}
