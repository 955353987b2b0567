//! What makes the store fast, calm and small is seen at work: by what goes over wires and to disks, never by a clock.

mod alone;
mod copies;
mod leading;
mod scarce;

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::{Life, World};
use super::dice::Dice;
use crate::{MemberId, Store, Tuning};

/// No test takes so long, in virtual time, unless something hangs.
const HANGS: Duration = Duration::from_secs(3600);

/// Nor does what is sent need so long, whatever the wires do.
const ARRIVES: Duration = Duration::from_secs(60);

fn simulated(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test hangs") });
}

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

/// A cluster of the members 1 to `size`.
async fn world(size: MemberId, tuning: Tuning) -> World {
    let mut world = World::new(Dice::new(7), tuning);
    world.form(size).await.expect("a cluster");
    world
}

fn life(world: &World, id: MemberId) -> Life {
    world.machines[&id].life.clone().expect("it runs")
}

/// Does something on the host of a member.
async fn on<T, F>(life: &Life, work: impl FnOnce(Store) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    life.host.spawn(work(life.store.clone())).await.expect("the host lives")
}

/// Who leads, as soon as one says so, and the others.
async fn leader(world: &World) -> (MemberId, Vec<MemberId>) {
    let waits = world.lives().into_iter().map(|(id, life)| {
        Box::pin(async move {
            let mut leadership = life.store.leadership();
            leadership.wait_for(|now| now.is_me).await.expect("it runs");
            id
        })
    });
    let (leader, ..) = futures::future::select_all(waits).await;
    let others = world.machines.keys().copied().filter(|id| *id != leader).collect();
    (leader, others)
}

/// Writes one key after the other.
async fn write(life: &Life, keys: std::ops::Range<u64>, bytes: usize) {
    on(life, move |store| async move {
        for key in keys {
            store.put(format!("{key:06}"), vec![b'v'; bytes]).await.expect("written");
        }
    })
    .await;
}

/// Returns when a member has stored the entries up to `index`.
async fn stored(life: &Life, index: u64) {
    on(life, move |store| async move {
        let wait = store.core_for_tests().engine.wait(Some(ARRIVES));
        let there = wait.metrics(|metrics| metrics.last_log_index >= Some(index), "it has them");
        there.await.expect("the entries arrive");
    })
    .await;
}

/// All ways between one member and the others.
fn around(world: &World, id: MemberId) -> BTreeSet<(MemberId, MemberId)> {
    let others = world.machines.keys().copied().filter(|other| *other != id);
    others.flat_map(|other| [(id, other), (other, id)]).collect()
}
