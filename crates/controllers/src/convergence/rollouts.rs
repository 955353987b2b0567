//! Deployments and ReplicaSets.

use k8s_openapi::api::core::v1::Pod;
use pontoon_model::resource;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{SEEDS, condition, count, deploy, deployment, image, key, read};
use crate::key::Key;
use crate::pod_state;
use crate::simulator::World;

fn ready(pods: &[Pod]) -> usize {
    pods.iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p)).count()
}

fn active(pods: &[Pod]) -> usize {
    pods.iter().filter(|p| pod_state::is_active(p)).count()
}

fn images(world: &World) -> Vec<String> {
    let pods = world.pods();
    let image = |p: &Pod| p.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let mut images: Vec<String> = pods.iter().map(image).collect();
    images.sort();
    images.dedup();
    images
}

/// From now on there are never more or fewer pods than that.
fn bound(world: &mut World, fewest_ready: usize, most: usize) {
    world.invariant = Some(Box::new(move |world: &World| {
        // On the JSON itself: this is asked after every step.
        let active = |p: &&Value| p["metadata"]["deletionTimestamp"].is_null();
        let ready = |p: &&Value| active(p) && p["status"]["conditions"][0]["status"] == "True";
        let ready = world.api.pods().map(|(_, p)| p).filter(ready).count();
        let active = world.api.pods().map(|(_, p)| p).filter(active).count();
        assert!(ready >= fewest_ready, "{ready} of {fewest_ready} ready");
        assert!(active <= most, "{active} pods, {most} at most");
    }));
}

#[test]
fn six_replicas_are_two_on_each_of_three_nodes() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 6);
        assert_eq!(world.ready_by_node().into_values().collect::<Vec<_>>(), [2, 2, 2]);
        let status = read(&world, "web").status.unwrap();
        assert_eq!(status.available_replicas, Some(6));
        assert_eq!(status.observed_generation, Some(1));
        assert_eq!(condition(&world, "web", "Available").0, "True");
        assert_eq!(condition(&world, "web", "Progressing").1, "NewReplicaSetAvailable");
        assert_eq!(world.api.created["pods"], 6);
        let (_, pod) = world.api.pods().next().unwrap();
        assert_eq!(pod["spec"]["unknownField"], json!({"kept": true}));
    }
}

#[test]
fn whatever_users_write_into_revisions_is_borne() {
    let mut world = World::with_nodes(1, 3);
    deploy(&mut world, "web", 2);
    world.patch(&key("web"), image("two"));
    world.settle(30);
    let sets: Vec<Key> =
        world.api.objects.keys().filter(|k| k.is(resource::REPLICA_SETS)).cloned().collect();
    assert_eq!(sets.len(), 2);
    for (set, revision) in sets.iter().zip([i64::MAX - 1, i64::MAX]) {
        let history = format!("x{}", "é".repeat(1_500));
        let written = json!({"deployment.kubernetes.io/revision-history": history,
                             "deployment.kubernetes.io/revision": revision.to_string()});
        world.patch(set, json!({"metadata": {"annotations": written}}));
    }
    for name in ["one", "two", "one"] {
        world.patch(&key("web"), image(name));
        world.settle(30);
        assert_eq!(images(&world), [name]);
    }
}

#[test]
fn a_lagging_cache_makes_no_pod_twice() {
    for seed in 0..SEEDS * 2 {
        let mut world = World::with_nodes(seed, 3);
        world.reads_own_writes = false;
        bound(&mut world, 0, 20);
        deploy(&mut world, "web", 20);
        assert_eq!(world.api.created["pods"], 20);
        assert_eq!(ready(&world.pods()), 20);
    }
}

#[test]
fn a_lagging_cache_replaces_each_pod_once() {
    for seed in 0..SEEDS * 3 {
        let mut world = World::with_nodes(seed, 3);
        world.reads_own_writes = false;
        bound(&mut world, 0, 8);
        deploy(&mut world, "web", 8);
        let mut deleted = 0;
        for _ in 0..12 {
            let steps = world.draw(40);
            world.run(steps);
            let there =
                world.api.pods().filter(|(_, p)| p["metadata"]["deletionTimestamp"].is_null());
            // One that goes before the cache has seen it come is made again under its name, and a
            // cache without its own writes then takes the second for the first: one too many for
            // a moment. With them, as in a cluster, that does not happen.
            let known = there.filter(|(k, _)| world.cache.entry(k).is_some());
            let keys: Vec<_> = known.map(|(k, _)| k.clone()).collect();
            if !keys.is_empty() {
                let at = world.draw(keys.len());
                world.delete(&keys[at], crate::Propagation::Background);
                deleted += 1;
            }
        }
        world.settle(30);
        assert_eq!(world.api.created["pods"], 8 + deleted, "one for each, seed {seed}");
    }
}

#[test]
fn a_rolling_update_stays_within_its_bounds() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 8);
        bound(&mut world, 6, 10);
        world.patch(&key("web"), image("two"));
        world.settle(30);
        assert_eq!(images(&world), ["two"]);
        assert_eq!(active(&world.pods()), 8);
        assert_eq!(count(&world, resource::REPLICA_SETS), 2);
        let status = read(&world, "web").status.unwrap();
        assert_eq!((status.updated_replicas, status.replicas), (Some(8), Some(8)));
        assert_eq!(status.observed_generation, Some(2));
    }
}

#[test]
fn an_update_that_does_not_start_leaves_the_old_pods_and_times_out() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 4);
        bound(&mut world, 3, 5);
        world.patch(&key("web"), image("broken"));
        world.settle(300);
        assert_eq!(condition(&world, "web", "Progressing").1, "ReplicaSetUpdated");
        world.settle(400);
        let (status, reason) = condition(&world, "web", "Progressing");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ProgressDeadlineExceeded"));
        // Back to what worked: the old ReplicaSet has the highest revision then.
        world.patch(&key("web"), image("one"));
        world.settle(30);
        assert_eq!(images(&world), ["one"]);
        assert_eq!(count(&world, resource::REPLICA_SETS), 2);
        let annotations = read(&world, "web").metadata.annotations.unwrap();
        assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
        assert_eq!(condition(&world, "web", "Progressing").1, "NewReplicaSetAvailable");
    }
}

#[test]
fn recreate_never_mixes_revisions() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 2);
        let mut body = deployment("web", 4, "one");
        body["spec"]["strategy"] = json!({"type": "Recreate"});
        world.create(resource::DEPLOYMENTS, Some("default"), body);
        world.settle(30);
        world.invariant = Some(Box::new(|world| assert!(images(world).len() <= 1)));
        world.patch(&key("web"), image("two"));
        world.settle(30);
        assert_eq!(images(&world), ["two"]);
        assert_eq!(ready(&world.pods()), 4);
    }
}

#[test]
fn scaling_goes_up_and_down_and_stays_even() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 3);
        for (replicas, each) in
            [(9, vec![3, 3, 3]), (6, vec![2, 2, 2]), (3, vec![1, 1, 1]), (0, vec![])]
        {
            world.patch(&key("web"), json!({"spec": {"replicas": replicas}}));
            world.settle(30);
            assert_eq!(world.ready_by_node().into_values().collect::<Vec<_>>(), each);
        }
    }
}

#[test]
fn scaling_amid_an_update_keeps_both_revisions_in_proportion() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 8);
        world.patch(&key("web"), image("broken"));
        world.settle(60);
        world.patch(&key("web"), json!({"spec": {"replicas": 16}}));
        world.settle(60);
        assert!(ready(&world.pods()) >= 12, "{}", ready(&world.pods()));
        assert!(active(&world.pods()) <= 20);
        world.patch(&key("web"), image("three"));
        world.settle(60);
        assert_eq!(images(&world), ["three"]);
        assert_eq!(active(&world.pods()), 16);
    }
}

#[test]
fn a_paused_deployment_waits() {
    let mut world = World::with_nodes(1, 2);
    deploy(&mut world, "web", 2);
    world.patch(&key("web"), json!({"spec": {"paused": true}}));
    world.patch(&key("web"), image("two"));
    world.settle(30);
    assert_eq!(images(&world), ["one"]);
    world.patch(&key("web"), json!({"spec": {"replicas": 4}}));
    world.settle(30);
    assert_eq!((images(&world), ready(&world.pods())), (vec!["one".to_owned()], 4));
    world.patch(&key("web"), json!({"spec": {"paused": null}}));
    world.settle(30);
    assert_eq!(images(&world), ["two"]);
}

#[test]
fn only_so_many_revisions_are_kept() {
    let mut world = World::with_nodes(1, 2);
    deploy(&mut world, "web", 2);
    world.patch(&key("web"), json!({"spec": {"revisionHistoryLimit": 2}}));
    for version in 0..6 {
        world.patch(&key("web"), image(&format!("v{version}")));
        world.settle(30);
    }
    assert_eq!(count(&world, resource::REPLICA_SETS), 3);
    let annotations = read(&world, "web").metadata.annotations.unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "7");
}

#[test]
fn a_taken_name_is_a_collision_and_no_dead_end() {
    let mut world = World::with_nodes(1, 2);
    deploy(&mut world, "web", 1);
    let name = world.api.objects.keys().find(|k| k.is(resource::REPLICA_SETS)).unwrap().clone();
    let mut other = World::with_nodes(2, 2);
    let strange = json!({
        "metadata": {"name": name.name, "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}},
                 "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": []}}},
    });
    other.create(resource::REPLICA_SETS, Some("default"), strange);
    other.settle(10);
    deploy(&mut other, "web", 1);
    assert_eq!(ready(&other.pods()), 1);
    assert_eq!(read(&other, "web").status.unwrap().collision_count, Some(1));
}

#[test]
fn minimum_ready_time_is_waited_for() {
    let mut world = World::with_nodes(1, 2);
    let mut body = deployment("web", 2, "one");
    body["spec"]["minReadySeconds"] = json!(20);
    world.create(resource::DEPLOYMENTS, Some("default"), body);
    world.settle(10);
    assert_eq!(read(&world, "web").status.unwrap().available_replicas, Some(0));
    world.settle(20);
    assert_eq!(read(&world, "web").status.unwrap().available_replicas, Some(2));
}

#[test]
fn pods_are_adopted_and_released() {
    let mut world = World::with_nodes(1, 2);
    world.create(
        resource::PODS,
        Some("default"),
        json!({
            "metadata": {"name": "stray", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "one"}]},
        }),
    );
    world.create(
        resource::REPLICA_SETS,
        Some("default"),
        json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}},
                                  "spec": {"containers": [{"name": "c", "image": "one"}]}}},
        }),
    );
    world.settle(10);
    assert_eq!(world.api.created["pods"], 2, "the stray one counts");
    let stray = Key::new(resource::PODS, Some("default"), "stray");
    world.patch(&stray, json!({"metadata": {"labels": {"app": "debug"}}}));
    world.settle(10);
    assert_eq!(count(&world, resource::PODS), 3, "it was replaced");
    assert_eq!(world.api.objects[&stray]["metadata"]["ownerReferences"], json!([]));
}

#[derive(Clone, Debug)]
enum Deed {
    Image(u8),
    Replicas(u8),
    Kill(u8),
    Revive,
    Delete(u8),
    Wait(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (0u8..4).prop_map(Deed::Image),
        (0u8..9).prop_map(Deed::Replicas),
        (0u8..3).prop_map(Deed::Kill),
        Just(Deed::Revive),
        any::<u8>().prop_map(Deed::Delete),
        (0u8..20).prop_map(Deed::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to it, a Deployment comes to rest as it was asked for, and then every
    /// reconciler has nothing to do (`settle` checks that).
    #[test]
    fn all_deeds_come_to_rest(
        seed in any::<u64>(), own in any::<bool>(), deeds in prop::collection::vec(deed(), 1..12),
    ) {
        let mut world = World::with_nodes(seed, 3);
        world.reads_own_writes = own;
        deploy(&mut world, "web", 4);
        let mut wanted = 4;
        for deed in deeds {
            match deed {
                Deed::Image(n) => world.patch(&key("web"), image(&format!("v{n}"))),
                Deed::Replicas(n) => {
                    wanted = usize::from(n);
                    world.patch(&key("web"), json!({"spec": {"replicas": n}}));
                }
                Deed::Kill(n) => world.set_alive(["a", "b", "c"][usize::from(n)], false),
                Deed::Revive => ["a", "b", "c"].into_iter().for_each(|n| world.set_alive(n, true)),
                Deed::Delete(n) => {
                    let keys: Vec<_> = world.api.pods().map(|(k, _)| k.clone()).collect();
                    if !keys.is_empty() {
                        let key = &keys[usize::from(n) % keys.len()];
                        world.delete(key, crate::Propagation::Background);
                    }
                }
                Deed::Wait(n) => world.settle(i64::from(n)),
            }
        }
        ["a", "b", "c"].into_iter().for_each(|n| world.set_alive(n, true));
        world.settle(60);
        prop_assert_eq!(ready(&world.pods()), wanted);
        prop_assert_eq!(world.pods().len(), wanted);
        prop_assert!(images(&world).len() <= 1);
    }
}
