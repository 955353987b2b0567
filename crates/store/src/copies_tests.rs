//! Copies of the state: that members hold the same, and that one can be taken while writes go on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::testing::{Cluster, run};
use crate::{DeleteRange, Put, Range, Read, ReadError, SnapshotError, Store, Tuning, Txn};

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

async fn catch_up(store: &Store) {
    store.range(Range::key("-"), Read::Linearizable).await.expect("read");
}

#[test]
fn members_have_one_hash_whatever_they_went_through() {
    run(async {
        let tuning = Tuning { keep_entries: 5, segment_bytes: 8192, ..patient() };
        let mut cluster = Cluster::new(3, tuning).await;
        let lease = cluster.store(1).lease_grant(1000, None).await.expect("granted");
        let leader = cluster.leader(&cluster.ids()).await;
        let behind = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
        cluster.kill(behind).await;
        for number in 0..700 {
            let put = Put::new(format!("{}", number % 300), format!("{number}")).lease(lease.id);
            cluster.store(leader).txn(Txn::new().then(put)).await.expect("written");
        }
        let delete = Txn::new().then(DeleteRange::prefix("1"));
        let deleted = cluster.store(leader).txn(delete).await.expect("deleted").revision;
        cluster.store(leader).compact(deleted - 50).await.expect("compacted");
        cluster.store(leader).snapshot().await.expect("a snapshot");
        let newest = cluster.store(leader).put("last", "x").await.expect("written");
        // One is restored from a snapshot of the leader's, one from its own disk.
        cluster.start(behind).await;
        let third = cluster.ids().into_iter().find(|id| ![leader, behind].contains(id)).unwrap();
        cluster.kill(third).await;
        cluster.start(third).await;
        for revision in [deleted - 50, deleted, newest, 0] {
            let mut hashes = Vec::new();
            for id in cluster.ids() {
                catch_up(cluster.store(id)).await;
                hashes.push(cluster.store(id).hash(revision).await.expect("hashed"));
            }
            assert_eq!(hashes[0].compact_revision, deleted - 50);
            assert_eq!(hashes[0].revision, if revision == 0 { newest } else { revision });
            assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{revision}: {hashes:?}");
        }
        let store = cluster.store(leader);
        let compacted = store.hash(deleted - 51).await;
        assert!(matches!(compacted, Err(ReadError::Compacted { .. })), "{compacted:?}");
        let future = store.hash(newest + 1).await;
        assert!(matches!(future, Err(ReadError::Future { .. })), "{future:?}");
    });
}

#[test]
fn a_hash_tells_states_apart_and_stays_while_writes_go_on() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        let mut hashes = BTreeMap::new();
        for turn in 0..40 {
            let revision = store.put(format!("{}", turn % 7), "same").await.expect("written");
            hashes.insert(revision, store.hash(revision).await.expect("hashed").hash);
        }
        let distinct: std::collections::BTreeSet<_> = hashes.values().collect();
        assert_eq!(distinct.len(), hashes.len(), "every revision has a sum of its own");
        for (revision, hash) in hashes {
            assert_eq!(store.hash(revision).await.expect("hashed").hash, hash);
        }
    });
}

#[test]
fn a_snapshot_is_streamed_while_writes_go_on() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        for number in 0..50 {
            store.put(format!("{number}"), vec![7; 20_000]).await.expect("written");
        }
        let mut streams = Vec::new();
        for _ in 0..crate::snapshot_stream::STREAMS {
            streams.push(store.snapshot_stream().await.expect("a stream"));
        }
        let busy = store.snapshot_stream().await.err();
        assert!(matches!(busy, Some(SnapshotError::Busy { .. })), "{busy:?}");
        let mut stream = streams.pop().unwrap();
        drop(streams);
        let (revision, wanted) = (stream.revision(), stream.remaining());
        let hash = store.hash(revision).await.expect("hashed");
        // Half way its file is replaced twice, and so removed.
        let mut bytes = stream.next().await.unwrap().expect("the first part").to_vec();
        for turn in 0..3 {
            store.put("more", format!("{turn}")).await.expect("written");
            store.snapshot().await.expect("another snapshot");
        }
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.expect("the rest"));
        }
        assert_eq!(bytes.len() as u64, wanted);
        let file = cluster.dir.path().join("copy");
        std::fs::write(&file, bytes).unwrap();
        let (_, state) = crate::snapshot::read(&file).expect("it is whole");
        assert_eq!(state.revision(), revision);
        assert_eq!(state.live_keys(), 50);
        assert!(hash.revision == revision && store.revision() > revision);
    });
}
