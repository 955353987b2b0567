//! Nodes that were removed while they were away, and gossip's key, which they know.

use std::fs;

use serde_json::Value;

use super::joining::{has_cgroups, look};
use crate::world::{World, machines, text, wait};

/// Waits until a machine says that it was removed; answers its words.
fn is_told(world: &World, machine: &str) -> String {
    let status = wait(&format!("{machine} is in no cluster any more"), || {
        let status = world.json_or_null(machine, &["status"]);
        (status["node"].is_string() && status["cluster"].is_null()).then_some(status)
    });
    let problem = text(&status["problem"]);
    assert!(
        problem.contains("was removed from cluster") && problem.contains("join again"),
        "{problem}"
    );
    problem
}

fn gossip_key(world: &World, machine: &str) -> String {
    let bytes = fs::read(world.data_dir(machine).join("node.json")).unwrap();
    text(&serde_json::from_slice::<Value>(&bytes).unwrap()["gossip_key"])
}

#[test]
fn a_worker_removed_while_it_was_off_stops_its_pods_and_says_why() {
    let Some(world) = machines(&["a", "b"]) else { return };
    let clean = look(&world, "b");
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "4"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    let old_key = gossip_key(&world, "b");
    assert_eq!(gossip_key(&world, "a"), old_key);
    // Cut off, not dead: its pods run on, and it asks as soon as it reaches a manager.
    world.host(&["machine", "disconnect", "b"]).expect_ok();
    wait("the lost node is removed", || world.on("a", &["node", "rm", "b"]).ok.then_some(()));
    assert!(world.json("b", &["status"])["cluster"].is_string(), "it cannot know");
    assert_ne!(look(&world, "b"), clean, "its pods run");
    world.host(&["machine", "connect", "b"]).expect_ok();
    is_told(&world, "b");
    wait("nothing of its pods is left", || (!has_cgroups(&look(&world, "b"))).then_some(()));
    let note = world.data_dir("b").join("removed.json").display().to_string();
    let left: Vec<String> = look(&world, "b").difference(&clean).cloned().collect();
    assert_eq!(left, [note]);
    world.kill("b");
    world.start("b");
    is_told(&world, "b");
    wait("gossip's key has changed", || (gossip_key(&world, "a") != old_key).then_some(()));
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    // For a moment it has no pod range yet.
    wait("nothing is wrong with it", || {
        world.json_or_null("b", &["status"]).get("problem")?.is_null().then_some(())
    });
    assert_eq!(gossip_key(&world, "b"), gossip_key(&world, "a"));
}

#[test]
fn a_manager_removed_while_it_was_off_gives_its_copy_up() {
    let Some(world) = crate::world::cluster(&["a", "b", "c"]) else { return };
    let key = gossip_key(&world, "a");
    world.kill("c");
    wait("the dead manager is removed", || world.on("a", &["node", "rm", "c"]).ok.then_some(()));
    world.start("c");
    is_told(&world, "c");
    assert!(!world.data_dir("c").join("store").exists(), "nothing of the state is left");
    assert!(!world.data_dir("c").join("admin.kubeconfig").exists());
    // All others hear each other while the key changes, and after.
    world.wait_for_nodes("a", 2);
    wait("the key changes on both", || {
        let now = gossip_key(&world, "a");
        (now != key && now == gossip_key(&world, "b")).then_some(())
    });
    let members = world.json("a", &["members"]);
    let alive = members["members"].as_array().unwrap().iter().filter(|m| m["status"] == "alive");
    assert_eq!(alive.count(), 2, "{members}");
    world.join("c", "a", "manager").expect_ok();
    world.wait_for_nodes("a", 3);
}
