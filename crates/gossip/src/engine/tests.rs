//! Whole clusters in virtual time, each from a seed.

mod cluster;

use std::collections::BTreeMap;

use self::cluster::{Cluster, Death, name};
use crate::config::Profile;
use crate::engine::{Action, Engine, Start};
use crate::member::{Member, Meta, Status};

/// The times of all survivors, sorted.
fn times_to_see(size: usize, seed: u64, death: Death) -> Vec<u64> {
    let mut cluster = Cluster::joined(size, seed);
    let pause = cluster.random(0..3000);
    cluster.run(pause);
    let victim = cluster.random(0..size as u64) as usize;
    cluster.kill(victim, death);
    let (start, from) = (cluster.now, cluster.history.len());
    cluster
        .run_until("the death is seen", 20_000, |cluster| cluster.all_see(victim, Status::Failed));
    let failed = cluster.history[from..].iter().filter(|seen| seen.status == Status::Failed);
    let mut times: Vec<u64> =
        failed.inspect(|seen| assert_eq!(seen.whom, victim)).map(|seen| seen.at - start).collect();
    times.sort_unstable();
    assert_eq!(times.len(), size - 1, "each survivor saw it once");
    times
}

fn check_deaths(size: usize, seeds: u64, death: Death, worst: u64) {
    let mut all: Vec<u64> = (0..seeds).flat_map(|seed| times_to_see(size, seed, death)).collect();
    all.sort_unstable();
    let (median, last) = (all[all.len() / 2], all[all.len() - 1]);
    println!("{size} nodes, {} deaths seen: median {median} ms, worst {last} ms", all.len());
    assert!(last <= worst, "{size} nodes: worst {last} ms");
}

#[test]
fn a_machine_that_dies_is_seen_by_all_in_about_two_seconds() {
    check_deaths(2, 40, Death::Machine, 3_000);
    check_deaths(3, 40, Death::Machine, 3_000);
    check_deaths(7, 20, Death::Machine, 3_000);
    check_deaths(50, 3, Death::Machine, 5_000);
}

#[test]
fn a_process_that_dies_is_seen_sooner() {
    check_deaths(3, 40, Death::Process, 2_200);
}

#[test]
fn half_a_cluster_dying_at_once_is_seen() {
    let mut cluster = Cluster::joined(10, 5);
    let dead = [1, 3, 5, 7, 9];
    for victim in dead {
        cluster.kill(victim, Death::Machine);
    }
    let seen =
        |cluster: &Cluster| dead.iter().all(|victim| cluster.all_see(*victim, Status::Failed));
    cluster.run_until("all deaths are seen", 10_000, seen);
    assert!(cluster.all_see_all(Status::Alive), "and the living are not mistaken");
}

#[test]
fn a_starved_cpu_and_a_bad_network_raise_no_false_alarm() {
    for seed in 0..6 {
        let mut cluster = Cluster::joined(5, seed);
        cluster.loss = 0.1;
        for _ in 0..300 {
            // Each machine is held up again and again, several at once, up to three seconds each time.
            for node in 0..5 {
                let (dice, ms) = (cluster.random(0..100), cluster.random(50..3000));
                if dice < 15 && !cluster.is_stalled(node) {
                    cluster.stall(node, ms);
                }
            }
            cluster.run(400);
        }
        assert_eq!(cluster.ever(Status::Failed), [].into(), "seed {seed}");
        let suspected = cluster.ever(Status::Suspect).len();
        assert!(suspected > 0, "the test stresses nothing");
        cluster.loss = 0.0;
        cluster
            .run_until("all is well again", 10_000, |cluster| cluster.all_see_all(Status::Alive));
    }
}

#[test]
fn a_death_is_seen_on_a_starved_cluster_too() {
    let mut cluster = Cluster::joined(5, 11);
    cluster.kill(4, Death::Machine);
    for _ in 0..40 {
        for node in 0..4 {
            let (dice, ms) = (cluster.random(0..100), cluster.random(50..500));
            if dice < 30 {
                cluster.stall(node, ms);
            }
        }
        cluster.run(250);
    }
    cluster.run_until("the death is seen", 5_000, |cluster| cluster.all_see(4, Status::Failed));
    assert!(cluster.ever(Status::Failed).iter().all(|(_, whom)| *whom == 4));
}

#[test]
fn a_process_that_hangs_for_good_is_given_up() {
    let mut cluster = Cluster::joined(3, 1);
    cluster.stall(2, 1_000_000);
    let hung = |cluster: &Cluster| (0..2).all(|by| cluster.status(by, 2) == Some(Status::Failed));
    let took = cluster.run_until("the hung one is given up", 15_000, hung);
    assert!(took > 4_000, "it was given time while its machine answered");
}

#[test]
fn a_partition_heals_within_seconds() {
    let mut worst = 0;
    for (seed, size, side) in [(0, 3, 1), (1, 3, 1), (2, 5, 2), (3, 9, 4), (4, 9, 1), (5, 20, 10)] {
        let mut cluster = Cluster::joined(size, seed);
        let others: Vec<usize> = (0..side).collect();
        cluster.partition(&others);
        let split = |cluster: &Cluster| {
            (0..size).all(|by| {
                (0..size).all(|whom| {
                    let same = others.contains(&by) == others.contains(&whom);
                    cluster.status(by, whom)
                        == Some(if same { Status::Alive } else { Status::Failed })
                })
            })
        };
        cluster.run_until("each side gives up the other", 30_000, split);
        let pause = cluster.random(20_000..40_000);
        cluster.run(pause);
        cluster.partition(&[]);
        let healed = |cluster: &Cluster| cluster.all_see_all(Status::Alive);
        let took = cluster.run_until("all see all again", 5_000, healed);
        worst = worst.max(took);
        let from = cluster.history.len();
        cluster.run(30_000);
        let after = &cluster.history[from..];
        assert!(after.iter().all(|seen| seen.status != Status::Failed), "no relapse: {after:?}");
    }
    println!("healed within {worst} ms");
}

#[test]
fn a_restarted_node_is_back_at_once_and_its_new_address_wins() {
    for seen_dead in [false, true] {
        let mut cluster = Cluster::joined(4, 3);
        cluster.kill(2, Death::Process);
        if seen_dead {
            cluster.run_until("the death is seen", 5_000, |cluster| {
                cluster.all_see(2, Status::Failed)
            });
        }
        cluster.restart(2);
        cluster.join(2, 1);
        let address = cluster.address(2);
        let back = |cluster: &mut Cluster| {
            (0..4).all(|by| {
                cluster.on(by, |engine, _| {
                    let members = engine.members();
                    let two = members.iter().find(|member| member.name == name(2)).unwrap();
                    (two.address, two.status) == (address, Status::Alive)
                })
            })
        };
        cluster.run(1_000);
        assert!(back(&mut cluster), "seen dead before: {seen_dead}");
        cluster.run(30_000);
        assert!(back(&mut cluster) && cluster.all_see_all(Status::Alive));
    }
}

#[test]
fn a_clock_that_went_backwards_does_not_keep_a_restarted_node_out() {
    let mut cluster = Cluster::joined(3, 8);
    cluster.kill(1, Death::Process);
    cluster.now -= 500_000;
    cluster.restart(1);
    cluster.now += 500_000;
    cluster.join(1, 0);
    cluster.run(3_000);
    assert!(cluster.all_see_all(Status::Alive));
}

#[test]
fn who_leaves_is_seen_as_left_and_never_as_failed() {
    for size in [2, 5, 30] {
        let mut cluster = Cluster::joined(size, 9);
        cluster.leave(1);
        cluster.run(20);
        cluster.kill(1, Death::Process);
        cluster
            .run_until("the good-bye is heard", 3_000, |cluster| cluster.all_see(1, Status::Left));
        cluster.run(60_000);
        assert!(cluster.all_see(1, Status::Left));
        assert_eq!(cluster.ever(Status::Failed), [].into());
        cluster.restart(1);
        cluster.join(1, 0);
        cluster.run(2_000);
        assert!(cluster.all_see_all(Status::Alive), "and may come back");
    }
}

#[test]
fn forcing_out_sticks_to_the_dead_and_not_to_the_living() {
    let mut cluster = Cluster::joined(5, 4);
    cluster.kill(3, Death::Machine);
    cluster.run_until("the death is seen", 5_000, |cluster| cluster.all_see(3, Status::Failed));
    assert!(cluster.on(0, |engine, now| engine.force_leave(now, &name(3))));
    cluster.run_until("it counts as left", 3_000, |cluster| cluster.all_see(3, Status::Left));
    assert!(!cluster.on(0, |engine, now| engine.force_leave(now, "nobody")));
    assert!(!cluster.on(0, |engine, now| engine.force_leave(now, &name(0))));
    assert!(cluster.on(0, |engine, now| engine.force_leave(now, &name(4))));
    cluster.run(5_000);
    assert!(cluster.all_see(4, Status::Alive), "it is alive and says so");
}

#[test]
fn metadata_reaches_all() {
    let mut cluster = Cluster::joined(12, 2);
    let tags = BTreeMap::from([("zone".to_owned(), "z".repeat(400))]);
    let meta = Meta { role: "manager".into(), version: "2".into(), tags };
    let new = meta.clone();
    cluster.on(7, move |engine, now| engine.set_meta(now, new));
    cluster.run(3_000);
    for by in 0..12 {
        let members = cluster.on(by, |engine, _| engine.members());
        let seven: Vec<&Member> = members.iter().filter(|member| member.name == name(7)).collect();
        assert_eq!(seven[0].meta, meta, "at node {by}");
    }
}

#[test]
fn a_lone_node_finds_its_seed_whenever_that_comes_up() {
    let mut cluster = Cluster::new(2, 6);
    cluster.kill(0, Death::Machine);
    cluster.join(1, 0);
    cluster.run(120_000);
    let mut other = Cluster::new(2, 7);
    other.partition(&[1]);
    other.join(1, 0);
    other.run(120_000);
    assert_eq!(other.status(0, 1), None);
    other.partition(&[]);
    other.run_until("they find each other", 20_000, |cluster| {
        cluster.all_see_all(Status::Alive) && cluster.status(0, 1).is_some()
    });
}

#[test]
fn the_dead_are_forgotten_after_three_days_by_all() {
    let mut cluster = Cluster::joined(2, 12);
    cluster.kill(1, Death::Machine);
    cluster.run(70 * 3_600_000);
    assert_eq!(cluster.status(0, 1), Some(Status::Failed));
    cluster.run(3 * 3_600_000);
    assert_eq!(cluster.status(0, 1), None);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::joined(6, seed);
        cluster.loss = 0.2;
        cluster.stall(2, 1500);
        cluster.run(5_000);
        cluster.kill(0, Death::Machine);
        cluster.run(5_000);
        cluster.history
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
}

fn engine(name: &str) -> Engine {
    Engine::new(Start {
        name: name.into(),
        address: ([10, 0, 0, name.len() as u8], 7946).into(),
        meta: Meta::default(),
        profile: Profile::Lan,
        now: 1_000,
        seed: 1,
    })
}

/// Datagrams and a state as they really are, for tests to spoil.
fn real_messages() -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut a, mut b) = (engine("a"), engine("bb"));
    b.merge(1_000, a.state());
    a.merge(1_000, b.state());
    let mut messages = Vec::new();
    for now in (1_000..4_000).step_by(50) {
        a.tick(now);
        while let Some(action) = a.take_action() {
            if let Action::Send { data, .. } = action {
                b.datagram(now, &data);
                messages.push(data.to_vec());
            }
        }
    }
    (messages, a.state().encode())
}

proptest::proptest! {
    #[test]
    fn no_message_makes_it_panic(random in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0usize..10_000, bit in 0u8..8) {
        let (messages, state) = real_messages();
        let mut target = engine("bb");
        target.datagram(2_000, &random);
        for message in &messages {
            let mut spoiled = message.clone();
            let at = at % spoiled.len();
            spoiled[at] ^= 1 << bit;
            target.datagram(2_000, &spoiled);
            target.datagram(2_000, &message[..at]);
        }
        let mut spoiled = state;
        let at = at % spoiled.len();
        spoiled[at] ^= 1 << bit;
        for bytes in [&spoiled[..], &random[..]] {
            if let Some(exchange) = crate::exchange::Exchange::decode(bytes) {
                target.merge(2_000, exchange);
            }
        }
        for now in (2_000..6_000).step_by(100) {
            target.tick(now);
        }
    }
}
