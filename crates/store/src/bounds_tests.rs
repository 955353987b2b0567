//! A store that is written to for long, with nobody tending it: disk and memory stay bounded.

use std::path::Path;
use std::time::Duration;

use crate::testing::{Cluster, run};
use crate::{Put, Range, Read, ReadError, Store, Tuning, Txn};

fn small() -> Tuning {
    Tuning {
        request_timeout: Duration::from_secs(60),
        segment_bytes: 64 << 10,
        snapshot_bytes: 256 << 10,
        snapshot_entries: 200,
        keep_entries: 50,
        history_revisions: 100,
        history_bytes: 64 << 10,
        ..Tuning::default()
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("it is there").map(|entry| entry.unwrap());
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        Ok(about) => about.len(),
        // Removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// What is at least written before a snapshot counts: much more than the files that are kept to be written again, however
/// slow the disk is.
const BETWEEN_SNAPSHOTS: u64 = 3 << 20;

/// Overwrites 50 keys of 1 KiB until `snapshots` snapshots were made; answers with the bytes written.
async fn write_until(cluster: &Cluster, snapshots: u64) -> u64 {
    let store = cluster.store(1);
    let (mut made, mut newest, mut written, mut number) = (0, 0, 0, 0_u64);
    while made < snapshots || written < snapshots * BETWEEN_SNAPSHOTS {
        let writes = (0..8).map(|_| {
            number += 1;
            store.txn(Txn::new().then(Put::new(format!("{}", number % 50), vec![1; 1024])))
        });
        for result in futures::future::join_all(writes).await {
            result.expect("written");
            written += 1024;
        }
        let snapshot = store.status().snapshot_index;
        if snapshot > newest {
            (made, newest) = (made + 1, snapshot);
        }
    }
    written
}

/// Returns when a store that nobody writes to has no more history than so many bytes.
async fn little_history(store: &Store, bytes: u64) {
    while store.core_for_tests().replica.state().history_bytes() > bytes {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn disk_and_history_stay_bounded_however_much_is_written() {
    run(async {
        let cluster = Cluster::new(1, small()).await;
        // What it takes after a while is what it takes for ever.
        let mut written = write_until(&cluster, 3).await;
        let (mut disk, mut history) = (0, 0);
        for _ in 0..6 {
            written += write_until(&cluster, 1).await;
            disk = disk.max(bytes_below(&cluster.dir(1)));
            let status = cluster.store(1).status();
            history = history.max(status.revision - status.compact_revision);
        }
        // Between two looks, a second apart, as much is added as is written in a second. The share
        // of that in all that was written is what can be told without looking at a clock.
        assert!(disk < written / 2 + (4 << 20), "{disk} bytes on disk of {written} written");
        let store = cluster.store(1);
        let revision = store.revision();
        assert!(history < revision / 2, "{history} revisions of {revision}");
        let read = store.range(Range::prefix(""), Read::Local).await.expect("read");
        assert_eq!(read.count, 50, "and nothing is lost");
        // When it is quiet, no more is left than may be.
        little_history(store, small().history_bytes).await;
    });
}

#[test]
fn history_is_bounded_by_bytes_too() {
    run(async {
        let tuning = Tuning { history_bytes: 1 << 20, ..Tuning::default() };
        let cluster = Cluster::new(1, tuning).await;
        let store = cluster.store(1);
        for _ in 0..40 {
            store.put("key", vec![1; 100_000]).await.expect("written");
        }
        // Far fewer revisions than are kept otherwise; housekeeping does it by itself.
        little_history(store, 1 << 20).await;
        assert!(store.compact_revision() > 20, "{}", store.compact_revision());
    });
}

#[test]
fn a_range_of_too_many_bytes_is_refused_by_what_would_be_answered() {
    run(async {
        let cluster = Cluster::new(1, Tuning::default()).await;
        let store = cluster.store(1);
        for number in 0..20 {
            store.put(format!("{number:02}"), vec![1; 100_000]).await.expect("written");
        }
        let all = Range::prefix("");
        let keys_only = Range { keys_only: true, ..all.clone() };
        for range in [all.clone(), keys_only, all.limit(3)] {
            let found = store.range(range.clone(), Read::Local).await.expect("read");
            let bytes = found.kvs.iter().map(|kv| kv.weight()).sum();
            let within = store.range_within(range.clone(), Read::Local, bytes).await;
            assert_eq!(within, Ok(found), "{range:?}");
            let refused = store.range_within(range.clone(), Read::Local, bytes - 1).await;
            assert_eq!(refused, Err(ReadError::TooLarge { bytes, limit: bytes - 1 }), "{range:?}");
        }
    });
}
