//! Elections that are not held, and reads that ask nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;

use super::{around, leader, life, on, patient, simulated, world, write};
use crate::{MemberId, Range, Read, ReadPolicy, Tuning};

#[test]
fn a_member_that_was_cut_off_comes_back_without_an_election() {
    simulated(async {
        let world = world(3, patient()).await;
        let (old, others) = leader(&world).await;
        let (leading, lost) = (life(&world, old), life(&world, others[0]));
        let term = leading.store.leadership().borrow().term;
        world.net.block(around(&world, others[0]));
        // It misses the leader for many times as long as a member waits before it stands.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(lost.store.leadership().borrow().leader, None);
        write(&leading, 0..3, 1).await;
        world.net.block(BTreeSet::new());
        let read = on(&lost, |store| async move {
            store.range(Range::prefix(""), Read::Linearizable).await.expect("it is back").count
        });
        assert_eq!(read.await, 3);
        for (id, life) in world.lives() {
            let now = *life.store.leadership().borrow();
            assert_eq!((now.leader, now.term), (Some(old), term), "as member {id} sees it");
        }
    });
}

#[test]
fn a_leader_that_stops_has_handed_over_before() {
    simulated(async {
        let world = world(3, patient()).await;
        let (old, others) = leader(&world).await;
        let term = life(&world, old).store.leadership().borrow().term;
        on(&life(&world, old), |store| async move { store.shutdown().await }).await;
        // Nobody had to miss it first: at the moment when it has stopped another leads, elected at the first attempt.
        let leads = |id: &&MemberId| life(&world, **id).store.leadership().borrow().is_me;
        let new = life(&world, *others.iter().find(leads).expect("another leads already"));
        assert_eq!(new.store.leadership().borrow().term, term + 1);
        write(&new, 0..1, 1).await;
    });
}

/// How often a leader writes to others while it answers a hundred linearizable reads.
async fn sent_for_reads(policy: ReadPolicy) -> u64 {
    let world = world(3, Tuning { read_policy: policy, ..patient() }).await;
    let (id, others) = leader(&world).await;
    write(&life(&world, id), 0..1, 1).await;
    let sent = || others.iter().map(|other| world.net.sent(id, *other)).sum::<u64>();
    let before = sent();
    on(&life(&world, id), |store| async move {
        for _ in 0..100 {
            let read = store.range(Range::prefix(""), Read::Linearizable).await.expect("read");
            assert_eq!(read.count, 1);
        }
    })
    .await;
    sent() - before
}

#[test]
fn a_leader_with_a_lease_asks_nobody_for_a_read() {
    simulated(async {
        assert_eq!(sent_for_reads(ReadPolicy::Lease).await, 0);
        let asked = sent_for_reads(ReadPolicy::Quorum).await;
        assert!(asked >= 100, "one after the other, each asks: {asked}");
    });
}

#[test]
fn reads_that_wait_on_a_follower_ask_the_leader_together_and_see_what_was_written() {
    simulated(async {
        let world = world(3, patient()).await;
        let (id, others) = leader(&world).await;
        let follower: MemberId = others[0];
        for turn in 0..20 {
            write(&life(&world, id), turn..turn + 1, 1).await;
            let last = world.net.sent(follower, id);
            let reads = on(&life(&world, follower), |store| async move {
                let read = || store.range(Range::prefix(""), Read::Linearizable);
                join_all((0..100).map(|_| read())).await
            })
            .await;
            for read in reads {
                assert_eq!(read.expect("read").count, turn + 1);
            }
            let asked = world.net.sent(follower, id) - last;
            // Among them are its answers to what the leader sends.
            assert!((1..=20).contains(&asked), "{asked}");
        }
    });
}

#[test]
fn a_transaction_that_only_reads_writes_nothing() {
    simulated(async {
        let world = world(3, patient()).await;
        let (id, others) = leader(&world).await;
        write(&life(&world, id), 0..2, 1).await;
        let last = || life(&world, id).store.status().last_index;
        let before = last();
        for member in [id, others[0]] {
            let answer = on(&life(&world, member), |store| async move {
                let inner = crate::Txn::new().then(Range::key("000001"));
                let txn = crate::Txn::new().then(Range::prefix("")).then(inner);
                store.txn(txn).await.expect("read")
            })
            .await;
            assert_eq!(answer.responses.len(), 2);
        }
        assert_eq!(last(), before);
    });
}
