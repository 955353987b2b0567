//! Snapshots: what was written is read, what was damaged is not.

use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use proptest::prelude::*;

use super::{MAGIC, SnapshotFiles, SnapshotName, inspect_snapshot, open, read, read_backup, write};
use crate::command::{Command, Proposal};
use crate::error::OpenError;
use crate::lease::Lease;
use crate::mvcc::{Changes, Effects, State};
use crate::range::Range;
use crate::testing::as_over_etcd;
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
        state
            .history_from(state.compact_revision())
            .unwrap()
            .map(Changes::batch)
            .collect::<Vec<_>>()
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
fn a_snapshot_that_came_over_etcds_api_is_checked_to_its_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let before = save(&path);
    let plain = std::fs::read(&path).unwrap();
    let good = as_over_etcd(&plain);
    std::fs::write(&path, &good).unwrap();
    let (meta, after) = read_backup(&path).expect("it is read");
    assert_eq!(meta, b"meta");
    same(&before, &after);
    let summary = inspect_snapshot(&path).expect("it is read");
    let bytes = good.len() as u64;
    assert_eq!((summary.bytes, summary.revision, summary.keys), (bytes, before.revision(), 4));
    assert!(matches!(read(&path), Err(OpenError::Damaged { .. })), "it is no store's own");
    let refused = |what: &str| {
        let both = (read_backup(&path).err(), inspect_snapshot(&path).err());
        let damaged = |error: &Option<OpenError>| matches!(error, Some(OpenError::Damaged { .. }));
        assert!(damaged(&both.0) && damaged(&both.1), "{what}: {both:?}");
    };
    for at in 0..good.len() {
        std::fs::write(&path, &good[..at]).unwrap();
        if at == plain.len() {
            assert!(read_backup(&path).is_ok(), "nothing of the snapshot itself is missing");
        } else {
            refused(&format!("cut at {at}"));
        }
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, flipped).unwrap();
        refused(&format!("flip at {at}"));
    }
    for (bytes, words) in [
        (good[..good.len() - 1].to_vec(), "it is cut short"),
        (plain[..plain.len() - 1].to_vec(), "it is cut short"),
        ([&good[..], b"x"].concat(), "something follows"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let refused = inspect_snapshot(&path).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    refused("something after the end");
    std::fs::write(&path, [&plain[..], &[0; 512], &good[plain.len()..]].concat()).unwrap();
    refused("a sector too many");
}

#[test]
fn what_etcd_keeps_on_its_own_disk_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    // The first page of a bbolt database: its header, then the number that it is known by, and its version.
    let mut page = vec![0; 4096];
    page[16..24].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0]);
    std::fs::write(&path, as_over_etcd(&page)).unwrap();
    for error in [read_backup(&path).err(), inspect_snapshot(&path).err()] {
        let told = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(matches!(error, Some(OpenError::Foreign { .. })), "{told}");
        assert!(told.contains("etcd") && told.contains("bbolt"), "{told}");
    }
}

#[test]
fn large_values_make_many_blocks_of_a_bounded_size() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut before = State::default();
    for number in 0..24_u8 {
        // A few keys, each of them with versions.
        let put = Put::new(format!("{}", number % 12), vec![number; MIB]);
        let command = Command::Txn(Txn::new().then(put));
        before.execute(&command, &mut Effects::default()).unwrap();
    }
    let mut dump = before.dump();
    let state = RwLock::new(before);
    write(&path, b"meta".to_vec(), &mut dump, &state).expect("it is written");
    let blocks = blocks(&std::fs::read(&path).unwrap());
    let sizes: Vec<usize> = blocks.iter().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| *size < 7 * MIB), "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() > 24 * MIB, "{sizes:?}");
    let (_, after) = read(&path).expect("it is read");
    same(&state.into_inner().unwrap(), &after);
}

#[test]
fn what_was_answered_is_kept_in_blocks_of_a_bounded_size() {
    const COMMANDS: u64 = 1500;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut before = State::default();
    let put = Command::Txn(Txn::new().then(Put::new("key", vec![1; 3000])));
    before.execute(&put, &mut Effects::default()).unwrap();
    let command = Txn::new().then(Put::new("other", "x")).then(Range::key("key"));
    let command = Arc::new(Command::Txn(command));
    let proposal = |client, seq| Proposal { client, seq, floor: 1, command: Arc::clone(&command) };
    let all = || (1..=2).flat_map(|client| (1..=COMMANDS).map(move |seq| (client, seq)));
    let apply = |state: &mut State| -> Vec<_> {
        let apply = |(client, seq)| state.apply(&proposal(client, seq), &mut Effects::default());
        all().map(apply).collect()
    };
    let answers = apply(&mut before);
    let before = RwLock::new(before);
    let mut dump = before.read().unwrap().dump();
    write(&path, b"meta".to_vec(), &mut dump, &before).expect("it is written");
    let sizes = blocks(&std::fs::read(&path).unwrap()).into_iter().map(|block| block.len());
    // Also of what one of them was answered.
    assert!(sizes.max() < Some(4 << 20));
    let (_, mut after) = read(&path).expect("it is read");
    same(&before.into_inner().unwrap(), &after);
    let revision = after.revision();
    assert_eq!(apply(&mut after), answers);
    assert_eq!(after.revision(), revision, "nothing is done again");
}

#[test]
fn the_two_newest_are_kept_and_leavings_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = SnapshotFiles::open(dir.path().to_owned()).unwrap();
    for index in [10, 30, 20] {
        let unfinished = files.unfinished();
        save(unfinished.path());
        files.publish(&unfinished, SnapshotName { index, term: 1 }).unwrap();
    }
    let indexes =
        |files: &SnapshotFiles| files.list().iter().map(|name| name.index).collect::<Vec<_>>();
    assert_eq!(indexes(&files), [30, 20]);
    assert_eq!(files.oldest().map(|name| name.index), Some(20));
    let left = files.unfinished();
    std::fs::write(left.path(), b"half").unwrap();
    // As by a process that is killed.
    std::mem::forget(left);
    let files = SnapshotFiles::open(dir.path().to_owned()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let left = files.unfinished();
    std::fs::write(left.path(), b"half").unwrap();
    drop(left);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "what is not wanted goes at once"
    );
    files.put_aside([SnapshotName { index: 30, term: 1 }].into_iter());
    assert_eq!(indexes(&files), [20]);
}

#[test]
fn which_snapshots_there_are_is_known_whatever_the_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots");
    let files = SnapshotFiles::open(path.clone()).unwrap();
    let publish = |index| {
        let unfinished = files.unfinished();
        save(unfinished.path());
        files.publish(&unfinished, SnapshotName { index, term: 1 })
    };
    publish(1).unwrap();
    // One that cannot be removed hinders nobody, and goes later.
    let first = files.path(SnapshotName { index: 1, term: 1 });
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    publish(2).unwrap();
    publish(3).unwrap();
    assert_eq!(files.oldest().map(|name| name.index), Some(1), "it is still there");
    std::fs::remove_dir(&first).unwrap();
    std::fs::write(&first, b"old").unwrap();
    publish(4).unwrap();
    assert!(!first.exists());
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    let indexes: Vec<u64> = files.list().iter().map(|name| name.index).collect();
    assert_eq!(indexes, [4, 3]);
}

/// The bytes of a good snapshot, made once: making one waits for the disk.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        save(&path);
        std::fs::read(&path).unwrap()
    })
}

/// A snapshot's blocks, without their heads.
fn blocks(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    bytes = &bytes[MAGIC.len()..];
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (block, rest) = rest[4..].split_at(u32::from_le_bytes(*len) as usize);
        blocks.push(block.to_vec());
        bytes = rest;
    }
    blocks
}

/// Blocks as a file of which every check sum is right.
fn file(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for block in blocks {
        let len = u32::try_from(block.len()).unwrap().to_le_bytes();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&len);
        crc.update(block);
        file.extend(len);
        file.extend(crc.finalize().to_le_bytes());
        file.extend(block);
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 4,000 files with several bytes changed, moved or cut: refused, or read as what was written.
    #[test]
    fn damaged_snapshots_are_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        let mut bytes = good().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(good().len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Ok((_, after)) => {
                prop_assert_eq!(bytes, good());
                same(&state(), &after);
            }
            Err(error) => prop_assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        }
    }

    /// 4,000 files whose check sums are right and whose content nobody wrote: refused, or read as something.
    #[test]
    fn snapshots_of_nonsense_are_read_or_refused(
        damage in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
            1..8,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        let mut blocks = blocks(good());
        for (block, at, byte) in damage {
            let number = block.index(blocks.len());
            let block = &mut blocks[number];
            let at = at.index(block.len());
            block[at] = byte;
        }
        std::fs::write(&path, file(&blocks)).unwrap();
        if let Err(error) = read(&path) {
            prop_assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn the_blocks_of_a_snapshot_make_the_same_file() {
    assert_eq!(file(&blocks(good())), good());
}
