//! Daemons are killed at any moment while writes go on: what was acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{World, cluster, wait};

const WRITERS: usize = 4;

#[test]
fn a_manager_that_is_killed_loses_no_acknowledged_write() {
    let Some(world) = cluster(&["a"]) else { return };
    kill_while_writing(&world, &["a"], 6);
}

#[test]
fn three_managers_that_are_killed_lose_no_acknowledged_write() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    kill_while_writing(&world, &["a", "b", "c"], 12);
}

fn kill_while_writing(world: &World, managers: &[&str], kills: usize) {
    let acknowledged = Mutex::new(BTreeSet::new());
    let done = AtomicBool::new(false);
    let count = || acknowledged.lock().unwrap().len();
    let random = |below: u64| RandomState::new().hash_one(0) % below;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (acknowledged, done) = (&acknowledged, &done);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("w{writer}-{number}");
                    let manager = managers[(writer + number) % managers.len()];
                    match world.write(manager, &name, 100) {
                        Ok(()) => drop(acknowledged.lock().unwrap().insert(name)),
                        // Not to spin on a daemon that is just killed.
                        Err(_) => std::thread::yield_now(),
                    }
                }
            });
        }
        for _ in 0..kills {
            let enough = count() + 20 + usize::try_from(random(100)).unwrap();
            wait("writes go on", || (count() >= enough).then_some(()));
            let victim = managers[usize::try_from(random(managers.len() as u64)).unwrap()];
            world.kill_daemon(victim);
        }
        let enough = count() + 50;
        wait("writes go on after the last kill", || (count() >= enough).then_some(()));
        done.store(true, Ordering::Relaxed);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    println!("{} writes acknowledged, {kills} kills", acknowledged.len());
    for manager in managers {
        let found = wait(&format!("{manager} answers"), || world.written(manager));
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{manager} lost {lost:?}");
    }
}
