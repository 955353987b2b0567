//! How other copies are brought up, and what a slow one costs the leader.

use std::collections::BTreeSet;

use super::{ARRIVES, leader, life, on, patient, simulated, stored, world, write};
use crate::simulation::cluster::Life;
use crate::{Range, Read, Tuning};

#[test]
fn entries_go_out_while_those_before_are_not_answered() {
    simulated(async {
        let world = world(3, patient()).await;
        let (id, others) = leader(&world).await;
        let (leading, unheard) = (life(&world, id), life(&world, others[0]));
        write(&leading, 0..5, 1).await;
        stored(&unheard, leading.store.status().last_index).await;
        // It hears the leader, and the leader does not hear it; the third member is enough to go on.
        world.net.block(BTreeSet::from([(others[0], id)]));
        for key in 5..15 {
            write(&leading, key..key + 1, 1).await;
        }
        let last = leading.store.status().last_index;
        stored(&unheard, last).await;
        let known = leading.store.members().into_iter().find(|m| m.member.id == others[0]);
        let answered = known.expect("it is a member").matched.unwrap_or(0);
        assert!(answered + 10 <= last, "of {last} entries {answered} are answered");
    });
}

/// Returns when the log of a member begins after `index`.
async fn purged(life: &Life, index: u64) {
    on(life, move |store| async move {
        let wait = store.core_for_tests().engine.wait(Some(ARRIVES));
        let there = wait.metrics(
            |metrics| metrics.purged.as_ref().is_some_and(|purged| purged.index() >= index),
            "it has purged them",
        );
        there.await.expect("the log is cut");
    })
    .await;
}

#[test]
fn writes_go_on_while_a_snapshot_is_sent() {
    simulated(async {
        let tuning = Tuning { keep_entries: 0, segment_bytes: 64 << 10, ..patient() };
        let mut world = world(3, tuning).await;
        let (id, others) = leader(&world).await;
        let (leading, behind) = (life(&world, id), others[0]);
        world.kill(behind, false).await;
        write(&leading, 0..100, 20_000).await;
        on(&leading, |store| async move { store.snapshot().await.expect("a snapshot") }).await;
        purged(&leading, 50).await;
        assert!(world.start(behind).await.expect("it opens"));
        let late = life(&world, behind);
        // A part of the snapshot is there.
        let unfinished = || {
            let dir = std::path::Path::new("/store/snapshots");
            let files = late.host.disk.list(dir).expect("a directory");
            files.iter().any(|file| file.extension().is_some_and(|ending| ending == "new"))
        };
        while !unfinished() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // And the rest does not come for now.
        world.net.block(BTreeSet::from([(id, behind)]));
        write(&leading, 100..120, 1).await;
        assert!(unfinished() && late.store.revision() == 1, "it is still being sent");
        world.net.block(BTreeSet::new());
        let read = on(&late, |store| async move {
            store.range(Range::prefix(""), Read::Linearizable).await.expect("it has come up").count
        });
        assert_eq!(read.await, 120);
        assert!(late.store.status().snapshot_index > 50, "by the snapshot");
    });
}

#[test]
fn a_member_that_stands_still_costs_the_leader_little() {
    simulated(async {
        let world = world(3, patient()).await;
        let (id, others) = leader(&world).await;
        let leading = life(&world, id);
        life(&world, others[0]).host.pause();
        write(&leading, 0..400, 100_000).await;
        let kept = leading.store.core_for_tests().log.payloads_in_memory();
        assert!(kept <= 17 << 20, "{kept} of 40 MB");
        life(&world, others[0]).host.resume();
        stored(&life(&world, others[0]), leading.store.status().last_index).await;
    });
}
