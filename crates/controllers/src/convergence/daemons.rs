//! DaemonSets.

use std::collections::BTreeMap;

use pontoon_model::resource;
use serde_json::{Value, json};

use super::{SEEDS, image};
use crate::key::Key;
use crate::pod_state;
use crate::simulator::World;

fn daemon_set(strategy: Value) -> Value {
    json!({
        "metadata": {"name": "log"},
        "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "log"}},
                         "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    })
}

fn key() -> Key {
    Key::new(resource::DAEMON_SETS, Some("default"), "log")
}

fn start(seed: u64, nodes: usize, strategy: Value) -> World {
    let mut world = World::with_nodes(seed, nodes);
    world.create(resource::DAEMON_SETS, Some("default"), daemon_set(strategy));
    world.settle(30);
    world
}

fn images(world: &World) -> BTreeMap<String, String> {
    let pods = world.pods();
    let of = |p: &k8s_openapi::api::core::v1::Pod| {
        let image = p.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        (pod_state::node(p).unwrap_or_default().to_owned(), image)
    };
    pods.iter().map(of).collect()
}

#[test]
fn every_node_has_one_also_those_that_come_later() {
    for seed in 0..SEEDS {
        let mut world = start(seed, 3, Value::Null);
        assert_eq!(world.ready_by_node().into_values().collect::<Vec<_>>(), [1, 1, 1]);
        world.add_node("z");
        world.settle(30);
        assert_eq!(world.ready_by_node()["z"], 1);
        assert_eq!(world.api.created["pods"], 4);
        let status = &world.api.objects[&key()]["status"];
        assert_eq!(
            (&status["desiredNumberScheduled"], &status["numberReady"]),
            (&json!(4), &json!(4))
        );
        let z = Key::new(resource::NODES, None, "z");
        world.delete(&z, crate::Propagation::Background);
        world.settle(30);
        assert_eq!(world.pods().len(), 3, "the pod of a node that is gone goes");
    }
}

#[test]
fn daemons_stay_on_cordoned_and_lost_nodes_but_not_where_they_are_not_wanted() {
    let mut world = start(5, 3, Value::Null);
    let node = |name: &str| Key::new(resource::NODES, None, name);
    world.patch(&node("a"), json!({"spec": {"unschedulable": true}}));
    world.set_alive("b", false);
    world.settle(600);
    assert_eq!(world.pods().len(), 3);
    world.set_alive("b", true);
    world.patch(&key(), json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}));
    world.settle(60);
    assert_eq!(world.pods().len(), 0);
    world.patch(&node("c"), json!({"metadata": {"labels": {"disk": "ssd"}}}));
    world.settle(60);
    assert_eq!(world.ready_by_node().keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn an_update_takes_so_many_nodes_at_a_time() {
    for seed in 0..SEEDS {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}});
        let mut world = start(seed, 5, strategy);
        world.invariant = Some(Box::new(|w| assert!(w.ready_by_node().len() >= 3)));
        world.patch(&key(), image("two"));
        world.settle(60);
        assert!(images(&world).values().all(|i| i == "two"));
        assert_eq!(world.ready_by_node().len(), 5);
    }
}

#[test]
fn an_update_with_surge_keeps_every_node_served() {
    for seed in 0..SEEDS {
        let rolling = json!({"maxSurge": 1, "maxUnavailable": 0});
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
        let mut world = start(seed, 4, strategy);
        world.invariant = Some(Box::new(|w| assert_eq!(w.ready_by_node().len(), 4)));
        world.patch(&key(), image("two"));
        world.settle(60);
        assert!(images(&world).values().all(|i| i == "two"));
        assert_eq!(world.pods().len(), 4);
    }
}

#[test]
fn on_delete_waits_for_the_user() {
    let mut world = start(1, 2, json!({"type": "OnDelete"}));
    world.patch(&key(), image("two"));
    world.settle(60);
    assert!(images(&world).values().all(|i| i == "one"));
    let pod = world.api.pods().next().unwrap().0.clone();
    world.delete(&pod, crate::Propagation::Background);
    world.settle(60);
    assert_eq!(images(&world).values().filter(|i| *i == "two").count(), 1);
}

/// The revisions by number: the image each keeps.
fn revisions(world: &World) -> BTreeMap<i64, String> {
    let all = world.api.objects.iter();
    let all = all.filter(|(key, _)| key.is(resource::CONTROLLER_REVISIONS));
    let image = |revision: &Value| {
        let template = &revision["data"]["spec"]["template"];
        assert_eq!(template["$patch"], "replace");
        template["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    all.map(|(_, revision)| (revision["revision"].as_i64().unwrap(), image(revision))).collect()
}

/// What `revisions` should say.
fn kept<const N: usize>(expected: [(i64, &str); N]) -> BTreeMap<i64, String> {
    expected.into_iter().map(|(number, image)| (number, image.to_owned())).collect()
}

#[test]
fn revisions_are_kept_numbered_and_go_with_their_set() {
    for seed in 0..SEEDS {
        let mut world = start(seed, 2, Value::Null);
        world.patch(&key(), json!({"spec": {"revisionHistoryLimit": 2}}));
        for tag in ["two", "three"] {
            world.patch(&key(), image(tag));
            world.settle(60);
        }
        assert_eq!(revisions(&world), kept([(1, "one"), (2, "two"), (3, "three")]));
        // Going back makes the old revision the newest, and no other.
        world.patch(&key(), image("one"));
        world.settle(60);
        assert_eq!(revisions(&world), kept([(2, "two"), (3, "three"), (4, "one")]));
        assert!(images(&world).values().all(|i| i == "one"));
        world.patch(&key(), image("four"));
        world.settle(60);
        assert_eq!(revisions(&world), kept([(3, "three"), (4, "one"), (5, "four")]));
        world.delete(&key(), crate::Propagation::Background);
        world.settle(60);
        assert_eq!(revisions(&world), kept([]));
    }
}

#[test]
fn a_revision_with_a_name_that_is_taken_gets_another() {
    let world = start(1, 1, Value::Null);
    let mine = world.api.objects.keys().find(|k| k.is(resource::CONTROLLER_REVISIONS)).cloned();
    let name = mine.unwrap().name;
    let mut world = World::with_nodes(1, 1);
    let taken = json!({"metadata": {"name": name}, "data": {}, "revision": 1});
    world.create(resource::CONTROLLER_REVISIONS, Some("default"), taken);
    world.create(resource::DAEMON_SETS, Some("default"), daemon_set(Value::Null));
    world.settle(30);
    assert_eq!(world.ready_by_node().len(), 1);
    let all = world.api.objects.keys().filter(|k| k.is(resource::CONTROLLER_REVISIONS));
    assert_eq!(all.count(), 2);
    assert_eq!(world.api.objects[&key()]["status"]["collisionCount"], 1);
}

#[test]
fn a_revision_that_pods_are_of_stays() {
    let mut world = start(1, 1, json!({"type": "OnDelete"}));
    world.patch(&key(), json!({"spec": {"revisionHistoryLimit": 0}}));
    for tag in ["two", "three"] {
        world.patch(&key(), image(tag));
        world.settle(60);
    }
    assert_eq!(revisions(&world), kept([(1, "one"), (3, "three")]));
}
