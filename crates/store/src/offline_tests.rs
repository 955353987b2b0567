//! Stores made of a backup, and of what one member was left with; and the checking of files.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::testing::{Cluster, as_over_etcd, member, run};
use crate::{
    DetachedState, FileReport, MemberError, MemberId, OpenError, Put, Range, Read, Tuning, Txn,
    WatchError, WatchRequest, inspect_snapshot, store_member, verify_store,
};

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

async fn save(cluster: &Cluster, path: &Path) {
    let mut stream = cluster.store(1).snapshot_stream().await.expect("a stream");
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("a chunk"));
    }
    std::fs::write(path, bytes).unwrap();
}

/// Opens a directory that may still be on its way to being closed.
fn detach(dir: &Path) -> DetachedState {
    loop {
        match DetachedState::from_store(dir) {
            Err(OpenError::InUse { .. }) => std::thread::yield_now(),
            other => return other.expect("it is read"),
        }
    }
}

#[test]
fn a_store_is_made_of_a_snapshot_and_goes_on_alone_and_grows() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        let lease = cluster.store(1).lease_grant(10_000, None).await.expect("granted");
        for number in 0..100 {
            let put = Put::new(format!("{}", number % 60), format!("{number}")).lease(lease.id);
            cluster.store(1).txn(Txn::new().then(put)).await.expect("written");
        }
        cluster.store(2).delete("7").await.expect("deleted");
        let file = cluster.dir.path().join("backup");
        save(&cluster, &file).await;
        let summary = inspect_snapshot(&file).expect("it is whole");
        assert_eq!(summary.keys, 59);
        let hash = cluster.store(1).hash(summary.revision).await.expect("hashed");
        assert_eq!((summary.hash, summary.revision), (hash.hash, hash.revision));
        let lost = cluster.store(1).put("lost", "x").await.expect("written after the backup");
        for id in cluster.ids() {
            cluster.kill(id).await;
        }
        // As `etcdctl snapshot save` writes it.
        let plain = std::fs::read(&file).unwrap();
        std::fs::write(&file, as_over_etcd(&plain)).unwrap();
        let restored = DetachedState::from_snapshot(&file).expect("it is read");
        assert!(restored.revision() > lost, "no revision comes twice");
        let dir = cluster.dir(9);
        restored.into_store(&dir, &member(9)).expect("a store");
        let again = DetachedState::from_snapshot(&file).unwrap().into_store(&dir, &member(9));
        assert!(matches!(again, Err(OpenError::InUse { .. })), "nothing is overwritten");
        cluster.start(9).await;
        let store = cluster.store(9);
        let read = store.range(Range::prefix(""), Read::Linearizable).await.expect("read");
        assert_eq!(read.count, 59);
        assert_eq!(
            &store.range(Range::key("59"), Read::Local).await.unwrap().kvs[0].value[..],
            b"59"
        );
        assert_eq!(store.leases(), [lease]);
        let old = store.watch(WatchRequest::prefix("").from(summary.revision)).err();
        assert!(matches!(old, Some(WatchError::Compacted { .. })), "{old:?}");
        store.put("new", "x").await.expect("written");
        // It survives a restart, and others can join.
        cluster.kill(9).await;
        cluster.start(9).await;
        cluster.start(10).await;
        cluster.store(9).add_member(member(10)).await.expect("a second member");
        let read = cluster.store(10).range(Range::prefix(""), Read::Linearizable).await;
        assert_eq!(read.expect("read").count, 60);
        let hashes = cluster.store(10).hashes().await.expect("hashed");
        let sums: Vec<_> = hashes.into_iter().map(|answer| answer.hash.expect("a sum")).collect();
        assert!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
    });
}

#[test]
fn one_of_three_goes_on_alone_with_all_that_was_acknowledged() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        for number in 0..80 {
            cluster.store(1).put(format!("{number}"), "x").await.expect("written");
        }
        cluster.store(2).snapshot().await.expect("a snapshot");
        let newest = cluster.store(1).put("newest", "x").await.expect("written");
        let store = cluster.store(2);
        store.range(Range::key("-"), Read::Linearizable).await.expect("it has all");
        for id in cluster.ids() {
            cluster.kill(id).await;
        }
        let mut state = detach(&cluster.dir(2));
        assert!(state.revision() > newest);
        assert_eq!(store_member(&cluster.dir(2)).expect("it is told"), 2);
        state.txn(Txn::new().then(Put::new("changed", "x"))).expect("changed");
        state.into_store(&cluster.dir(8), &member(8)).expect("a store");
        cluster.start(8).await;
        let read = cluster.store(8).range(Range::prefix(""), Read::Linearizable).await;
        assert_eq!(read.expect("read").count, 82);
        assert_eq!(cluster.store(8).members().len(), 1);
        cluster.store(8).put("after", "x").await.expect("written");
        // Nobody of those who were dropped comes back under the number it had.
        for id in 1..=3 {
            let refused = cluster.store(8).add_learner(member(id)).await;
            assert_eq!(refused, Err(MemberError::Former { id }));
        }
    });
}

#[test]
fn verifying_tells_what_is_damaged_and_changes_nothing() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        for number in 0..30 {
            cluster.store(1).put(format!("{number}"), vec![1; 500]).await.expect("written");
        }
        cluster.store(1).snapshot().await.expect("a snapshot");
        cluster.store(1).put("more", vec![1; 500]).await.expect("written");
        let dir = cluster.dir(1);
        assert!(matches!(verify_store(&dir), Err(OpenError::InUse { .. })));
        cluster.kill(1).await;
        let report = loop {
            match verify_store(&dir) {
                Err(OpenError::InUse { .. }) => std::thread::yield_now(),
                other => break other.expect("it is checked"),
            }
        };
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!((report.member, report.torn_bytes), (Some(1), 0));
        assert_eq!(report.snapshots[0].1.keys, 30);
        let log = std::fs::read_dir(dir.join("log")).unwrap().next().unwrap().unwrap().path();
        let snapshot = report.snapshots[0].0.clone();
        for path in [&log, &dir.join("vote"), &snapshot] {
            let good = std::fs::read(path).unwrap();
            let mut bad = good.clone();
            // Within the first slot of the vote, a record, a block.
            bad[600] ^= 4;
            if path.ends_with("vote") {
                bad[30] ^= 4;
            }
            std::fs::write(path, &bad).unwrap();
            let report = verify_store(&dir).expect("it is checked");
            let told = format!("{:?}", report.problems);
            assert!(told.contains(path.to_str().unwrap()), "{}: {told}", path.display());
            assert_eq!(std::fs::read(path).unwrap(), bad, "nothing was changed");
            std::fs::write(path, &good).unwrap();
        }
        let good = std::fs::read(&log).unwrap();
        std::fs::write(&log, &good[..good.len() - 5]).unwrap();
        let report = verify_store(&dir).expect("it is checked");
        assert!(report.problems.is_empty() && report.torn_bytes > 0, "a crash is no damage");
        assert_eq!(std::fs::read(&log).unwrap().len(), good.len() - 5, "nothing was cut off");
        assert!(matches!(verify_store(&dir.join("none")), Err(OpenError::Io { .. })));
    });
}

/// What all members find on their disks, by asking `at`.
async fn files(cluster: &Cluster, at: MemberId) -> Vec<(MemberId, FileReport)> {
    let answers = cluster.store(at).files().await.into_iter();
    answers.map(|answer| (answer.member.id, answer.files.expect("it answers"))).collect()
}

/// Changes one bit of a file that is in use.
fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 8], at).unwrap();
}

fn oldest(dir: &Path, ending: &str) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).min().unwrap()
}

#[test]
fn members_find_what_is_damaged_on_their_disks_while_they_run() {
    run(async {
        let tuning = Tuning { segment_bytes: 64 << 10, snapshot_entries: 400, ..patient() };
        let cluster = Cluster::new(3, tuning).await;
        let write = async |number: u64| {
            let value = vec![7; 300];
            cluster.store(1).put(format!("{}", number % 50), value).await.expect("written");
        };
        // Files are made, closed and removed while they are read.
        let (mut written, mut found) = (0, Vec::new());
        while written < 1500 || found.len() < 5 {
            let writing = async {
                for number in written..written + 300 {
                    write(number).await;
                }
            };
            let ((), read) = tokio::join!(writing, files(&cluster, 2));
            written += 300;
            found.push(read);
        }
        for (id, report) in found.iter().flatten() {
            assert!(report.problems.is_empty() && report.log_bytes > 0, "{id}: {report:?}");
        }
        cluster.store(3).snapshot().await.expect("a snapshot");
        for (what, ending) in [("log", "log"), ("snapshots", "snap")] {
            let path = oldest(&cluster.dir(3).join(what), ending);
            flip(&path, 150);
            for (id, report) in files(&cluster, 1).await {
                let told =
                    report.problems.iter().filter(|told| told.contains(path.to_str().unwrap()));
                assert_eq!(told.count(), usize::from(id == 3), "{what}, {id}: {report:?}");
                assert_eq!(report.problems.is_empty(), id != 3, "{what}, {id}: {report:?}");
            }
            flip(&path, 150);
        }
        assert!(files(&cluster, 1).await.iter().all(|(_, report)| report.problems.is_empty()));
    });
}

#[test]
fn verifying_finds_every_bit_that_was_flipped_in_a_small_log() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        for number in 0..5 {
            cluster.store(1).put(format!("{number}"), "value").await.expect("written");
        }
        cluster.store(1).snapshot().await.expect("a snapshot");
        cluster.kill(1).await;
        let dir = cluster.dir(1);
        while matches!(verify_store(&dir), Err(OpenError::InUse { .. })) {
            std::thread::yield_now();
        }
        let good = verify_store(&dir).expect("it is checked");
        assert!(good.problems.is_empty() && good.torn_bytes == 0, "{good:?}");
        for path in [oldest(&dir.join("log"), "log"), oldest(&dir.join("snapshots"), "snap")] {
            for at in 0..std::fs::metadata(&path).unwrap().len() {
                flip(&path, at);
                let report = verify_store(&dir).expect("it is checked");
                // The end of the log may look as a crash leaves it; then that is said.
                let told = !report.problems.is_empty() || report.torn_bytes > 0;
                assert!(told, "{} at {at}: {report:?}", path.display());
                flip(&path, at);
            }
        }
    });
}
