//! Nodes that die, owners that go, namespaces that are deleted.

use std::collections::BTreeSet;

use pontoon_model::resource;
use serde_json::json;

use super::{SEEDS, count, deploy, key};
use crate::key::Key;
use crate::plan::Propagation;
use crate::pod_state;
use crate::simulator::{World, namespace};

fn node(name: &str) -> Key {
    Key::new(resource::NODES, None, name)
}

#[test]
fn a_dead_nodes_pods_run_elsewhere_in_seconds() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 6);
        world.set_alive("c", false);
        world.settle(3);
        assert_eq!(
            world.ready_by_node().into_iter().collect::<Vec<_>>(),
            [("a".into(), 3), ("b".into(), 3)]
        );
        assert_eq!(world.pods().len(), 6, "nothing is left of those on the dead node");
        let c = &world.api.objects[&node("c")];
        let taints = c["spec"]["taints"].as_array().unwrap();
        assert_eq!(taints.len(), 2);
        assert_eq!(c["status"]["conditions"][0]["status"], "Unknown");
        world.set_alive("c", true);
        world.settle(3);
        let c = &world.api.objects[&node("c")];
        assert_eq!(c["spec"]["taints"], json!([]));
        assert_eq!(c["status"]["conditions"][0]["status"], "True");
    }
}

#[test]
fn a_node_that_was_away_for_a_moment_keeps_its_pods() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        world.cache.settings.unreachable_seconds = 2;
        deploy(&mut world, "web", 6);
        let before: BTreeSet<Key> = world.api.pods().map(|(k, _)| k.clone()).collect();
        world.set_alive("c", false);
        world.settle(1);
        world.set_alive("c", true);
        world.settle(30);
        assert_eq!(world.api.pods().map(|(k, _)| k.clone()).collect::<BTreeSet<_>>(), before);
        assert!(world.pods().iter().all(pod_state::is_ready));
    }
}

#[test]
fn a_pod_stays_as_long_as_it_tolerates() {
    let mut world = World::with_nodes(1, 2);
    let toleration = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
                             "effect": "NoExecute", "tolerationSeconds": 60}]);
    let pinned = |name: &str, tolerations| {
        json!({
            "metadata": {"name": name},
            "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "i"}], "tolerations": tolerations},
        })
    };
    world.create(resource::PODS, Some("default"), pinned("patient", toleration));
    world.create(resource::PODS, Some("default"), pinned("plain", json!([])));
    let always = json!([{"operator": "Exists"}]);
    world.create(resource::PODS, Some("default"), pinned("stubborn", always));
    world.settle(10);
    world.set_alive("a", false);
    world.settle(30);
    let names =
        |world: &World| -> Vec<String> { world.api.pods().map(|(k, _)| k.name.clone()).collect() };
    assert_eq!(names(&world), ["patient", "stubborn"]);
    world.settle(40);
    assert_eq!(names(&world), ["stubborn"]);
    assert!(world.api.events.iter().any(|(reason, _)| reason == "TaintManagerEviction"));
}

#[test]
fn a_taint_of_the_users_evicts_at_once() {
    let mut world = World::with_nodes(1, 2);
    deploy(&mut world, "web", 4);
    let taint = json!([{"key": "maintenance", "effect": "NoExecute"}]);
    world.patch(&node("a"), json!({"spec": {"taints": taint}}));
    world.settle(1);
    assert_eq!(world.ready_by_node().into_iter().collect::<Vec<_>>(), [("b".into(), 4)]);
}

#[test]
fn nodes_get_ranges_of_their_own() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 9);
        deploy(&mut world, "web", 2);
        let ranges = |world: &World| -> BTreeSet<String> {
            let nodes = world.api.objects.iter().filter(|(k, _)| k.is(resource::NODES));
            nodes.map(|(_, n)| n["spec"]["podCIDR"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ranges(&world).len(), 9);
        world.delete(&node("d"), Propagation::Background);
        world.settle(10);
        world.add_node("x");
        world.add_node("y");
        world.settle(10);
        assert_eq!(ranges(&world).len(), 10);
    }
}

#[test]
fn a_deployment_takes_its_pods_along() {
    for seed in 0..SEEDS {
        for propagation in [Propagation::Background, Propagation::Foreground] {
            let mut world = World::with_nodes(seed, 3);
            deploy(&mut world, "web", 5);
            if propagation == Propagation::Foreground {
                world.invariant = Some(Box::new(|w| {
                    let owner = w.api.objects.contains_key(&key("web"));
                    assert!(owner || count(w, resource::REPLICA_SETS) == 0, "dependents first");
                }));
            }
            world.delete(&key("web"), propagation);
            world.settle(30);
            assert_eq!(count(&world, resource::DEPLOYMENTS), 0);
            assert_eq!(count(&world, resource::REPLICA_SETS), 0);
            assert_eq!(count(&world, resource::PODS), 0);
        }
    }
}

#[test]
fn orphans_stay_and_are_adopted() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        deploy(&mut world, "web", 3);
        world.delete(&key("web"), Propagation::Orphan);
        world.settle(30);
        assert_eq!(count(&world, resource::DEPLOYMENTS), 0);
        assert_eq!((count(&world, resource::REPLICA_SETS), count(&world, resource::PODS)), (1, 3));
        deploy(&mut world, "web", 3);
        assert_eq!((count(&world, resource::REPLICA_SETS), world.api.created["pods"]), (1, 3));
    }
}

#[test]
fn one_of_two_owners_is_enough_to_live() {
    let mut world = World::with_nodes(1, 1);
    for name in ["one", "two"] {
        let body = json!({"metadata": {"name": name}, "data": {}});
        world.create(resource::CONFIG_MAPS, Some("default"), body);
    }
    let owner = |name: &str| {
        let key = Key::new(resource::CONFIG_MAPS, Some("default"), name);
        let uid = world.api.objects[&key]["metadata"]["uid"].clone();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
    };
    let foreign = json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "t"});
    let body =
        |name, owners| json!({"metadata": {"name": name, "ownerReferences": owners}, "data": {}});
    let both = body("both", json!([owner("one"), owner("two")]));
    let strange = body("strange", json!([foreign]));
    world.create(resource::SECRETS, Some("default"), both);
    world.create(resource::SECRETS, Some("default"), strange);
    world.settle(10);
    for (gone, left) in [("one", 2), ("two", 1)] {
        let key = Key::new(resource::CONFIG_MAPS, Some("default"), gone);
        world.delete(&key, Propagation::Background);
        world.settle(10);
        assert_eq!(count(&world, resource::SECRETS), left, "after {gone}");
    }
}

#[test]
fn a_namespace_takes_everything_along() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 2);
        world.create(resource::NAMESPACES, None, namespace("shop"));
        world.settle(5);
        let account = Key::new(resource::SERVICE_ACCOUNTS, Some("shop"), "default");
        assert!(world.api.objects.contains_key(&account));
        let mut body = super::deployment("web", 4, "one");
        body["metadata"]["namespace"] = json!("shop");
        world.create(resource::DEPLOYMENTS, Some("shop"), body);
        world.create(resource::SERVICES, Some("shop"), json!({
            "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }));
        deploy(&mut world, "web", 2);
        world.delete(&Key::new(resource::NAMESPACES, None, "shop"), Propagation::Background);
        world.settle(30);
        let left = world.api.objects.keys().filter(|k| {
            k.namespace.as_deref() == Some("shop")
                || (k.is(resource::NAMESPACES) && k.name == "shop")
        });
        assert_eq!(left.count(), 0);
        assert_eq!(count(&world, resource::PODS), 2, "those of the other namespace");
    }
}

#[test]
fn finished_pods_are_kept_up_to_a_bound() {
    let mut world = World::with_nodes(1, 1);
    world.cache.settings.finished_pods_kept = 3;
    for n in 0..8 {
        world.create(
            resource::PODS,
            Some("default"),
            json!({
                "metadata": {"name": format!("job-{n}")},
                "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "broken"}]},
                "status": {"phase": "Succeeded"},
            }),
        );
    }
    world.settle(10);
    assert_eq!(count(&world, resource::PODS), 3);
}
