//! What one member does with its disk and its memory: entries, syncs, compaction.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::oneshot;

use super::{leader, life, on, patient, simulated, world, write};
use crate::log::{Kind, Log, LogTuning, Record};
use crate::simulation::dice::Dice;
use crate::simulation::disk::Disk;
use crate::simulation::host::{Clock, Host};
use crate::{Store, Tuning};

#[test]
fn puts_that_come_together_share_entries() {
    simulated(async {
        let world = world(3, patient()).await;
        let (id, others) = leader(&world).await;
        for member in [id, others[0]] {
            let asked = life(&world, member);
            let before = life(&world, id).store.status();
            on(&asked, |store| async move {
                let put = |number: u64| store.put(format!("{number}"), "x");
                for done in join_all((0..1000).map(put)).await {
                    done.expect("written");
                }
            })
            .await;
            let after = life(&world, id).store.status();
            assert_eq!(after.revision - before.revision, 1000, "each is a revision of its own");
            let entries = after.last_index - before.last_index;
            assert!((1..=20).contains(&entries), "{entries} entries, asked of member {member}");
        }
    });
}

/// Appends an entry; the receiver hears when it is durable.
fn append(log: &Log, index: u64) -> oneshot::Receiver<std::io::Result<()>> {
    let (sender, receiver) = oneshot::channel();
    let payload = Bytes::from(vec![1; 100]);
    let record = Record { index, term: 1, kind: Kind::Commands, payload };
    log.append(vec![record], Box::new(move |result| sender.send(result).expect("it waits")));
    receiver
}

#[test]
fn appends_that_wait_share_a_sync() {
    simulated(async {
        let disk = Disk::new(Dice::new(1));
        let host = Host::new(1, Arc::clone(&disk), Clock::new(), Dice::new(2));
        let test = async move {
            let tuning = LogTuning { segment_bytes: 1 << 20, spares: 0 };
            let (log, _) = Log::open("/store".as_ref(), 1, tuning).expect("an empty log");
            // One after the other, each has its own.
            let before = disk.syncs();
            for index in 0..10 {
                append(&log, index).await.expect("it is told").expect("it is written");
            }
            assert!(disk.syncs() - before >= 10, "what is told is durable");
            let before = disk.syncs();
            let waiting: Vec<_> = (10..1010).map(|index| append(&log, index)).collect();
            for told in join_all(waiting).await {
                told.expect("it is told").expect("it is written");
            }
            let syncs = disk.syncs() - before;
            assert!((1..=3).contains(&syncs), "{syncs} syncs for 1000 appends");
        };
        host.spawn(test).await.expect("the host lives");
    });
}

/// Returns when the history before `revision` is forgotten.
async fn compacted(store: &Store, revision: u64) {
    let mut applied = store.core_for_tests().replica.applied();
    while store.compact_revision() < revision {
        applied.changed().await.expect("a compaction is applied");
    }
}

#[test]
fn history_is_compacted_when_it_is_old() {
    simulated(async {
        let tuning =
            Tuning { history_revisions: 10, history_age: Duration::from_secs(600), ..patient() };
        let world = world(1, tuning).await;
        let one = life(&world, 1);
        write(&one, 0..40, 1).await;
        let newest = one.store.revision();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(one.store.compact_revision(), 0, "it is not old, nor much");
        // Nothing more is written.
        compacted(&one.store, 1).await;
        assert_eq!(one.store.compact_revision(), newest - 10, "so many are kept however old");
        assert_eq!(one.store.revision(), newest);
    });
}

#[test]
fn history_is_compacted_when_it_is_much() {
    simulated(async {
        let tuning = Tuning {
            history_revisions: 100,
            history_age: Duration::from_secs(1_000_000),
            ..patient()
        };
        let world = world(3, tuning).await;
        let (id, _) = leader(&world).await;
        let leading = life(&world, id);
        write(&leading, 0..450, 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(leading.store.compact_revision(), 0, "up to five times as many are kept");
        write(&leading, 450..700, 1).await;
        let newest = leading.store.revision();
        for (_, life) in world.lives() {
            compacted(&life.store, newest - 510).await;
            assert!(life.store.compact_revision() <= newest - 100);
        }
    });
}
