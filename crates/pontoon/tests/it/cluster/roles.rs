//! Roles that change and nodes that go and come back while pods run.

use std::collections::BTreeMap;

use crate::world::{World, cluster, has_kubectl, machines, text, wait};

#[test]
fn pods_run_on_while_their_node_becomes_a_manager_and_a_worker_again() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "4", "--port", "80:8080"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    let before = world.containers("a", "hello");
    assert_eq!(before.len(), 4);
    let processes = world.processes("b");
    assert!(!processes.is_empty());
    for command in ["promote", "demote", "drain", "activate", "inspect", "rm"] {
        let missing = world.on("a", &["node", command, "nobody"]);
        assert_eq!(missing.code, Some(1));
        let words = "error: node \"nobody\" not found; see `pontoon node ls`\n";
        assert_eq!(missing.err, words, "{command}");
    }
    world.on("a", &["node", "promote", "b"]).expect_ok();
    wait("b is a manager", || {
        (world.json_or_null("b", &["node", "ls"])["nodes"].as_array()?.len() == 2).then_some(())
    });
    wait("b has a vote", || (node(&world, "b")?["managerStatus"] == "Reachable").then_some(()));
    world.wait_for_nodes("b", 2);
    world.wait_for_pods("b", "hello", 4);
    world.wait_for_adoption("b", before.keys());
    assert_eq!(world.containers("b", "hello"), before, "promoting restarts nothing");
    assert_eq!(world.processes("b"), processes, "the same processes");
    let acknowledged = world.write("b", "through-b", 10);
    assert_eq!(acknowledged, Ok(()));
    let config = world.on("b", &["kubeconfig", "--server", "a"]).expect_ok().out;
    let contexts = ["current-context: pontoon\n", "name: pontoon-b\n"];
    assert!(contexts.iter().all(|part| config.contains(part)), "{config}");
    let two = world.json("a", &["status"]);
    assert!(text(&two["warning"]).contains("two managers"), "{two}");
    assert_eq!(two["managers"][1]["reachable"], true, "{two}");
    let demoted = world.on("a", &["node", "demote", "b"]).expect_ok();
    assert!(demoted.err.contains("warning: one manager is left"), "{}", demoted.err);
    wait("b is a worker", || {
        (world.json_or_null("b", &["status"])["role"] == "worker").then_some(())
    });
    world.wait_for_nodes("a", 2);
    world.wait_for_pods("a", "hello", 4);
    world.wait_for_adoption("a", before.keys());
    assert_eq!(world.containers("a", "hello"), before, "demoting restarts nothing");
    assert_eq!(world.processes("b"), processes, "the same processes");
    assert!(!world.data_dir("b").join("store").exists(), "a worker keeps no state of the cluster");
    let only = world.on("a", &["node", "demote", "a"]).expect_error();
    assert!(only.contains("only manager"), "{only}");
    assert!(world.written("a").unwrap().contains("through-b"));
}

#[test]
fn a_manager_is_kept_when_the_others_would_be_no_quorum() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    world.kill("c");
    wait("c is missed", || (node(&world, "c")?["status"] == "NotReady").then_some(()));
    let refused = world.on("a", &["node", "demote", "b"]).expect_error();
    assert!(refused.contains("no quorum") && refused.contains("bring back c"), "{refused}");
    assert_eq!(node(&world, "b").unwrap()["role"], "manager", "nothing was begun");
    world.start("c");
    world.wait_for_nodes("a", 3);
    wait("b can be spared", || world.on("a", &["node", "demote", "b"]).ok.then_some(()));
    wait("b is a worker", || {
        (world.json_or_null("b", &["status"])["role"] == "worker").then_some(())
    });
    // The last two, both at once.
    let words = |name| ["node", "demote", name];
    let done = std::thread::scope(|scope| {
        let both = ["a", "c"].map(|name| {
            scope.spawn({
                let world = &world;
                move || world.on("a", &words(name)).ok
            })
        });
        both.map(|one| one.join().unwrap())
    });
    assert!(done != [true, true], "both were demoted");
    let left = if done[0] { "c" } else { "a" };
    wait("one manager is left and leads", || {
        (world.json_or_null(left, &["status"])["leader"] == left).then_some(())
    });
    assert_eq!(world.write(left, "goes-on", 10), Ok(()));
}

#[test]
fn a_drained_node_is_empty_until_it_is_activated() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "4"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    world.on("a", &["node", "drain", "b"]).expect_ok();
    wait("all pods run on a", || {
        let pods = world.ready_pods("a", "hello");
        (pods.len() == 4 && pods.iter().all(|(_, node)| node == "a")).then_some(())
    });
    wait("it is drained", || (node(&world, "b")?["availability"] == "Drained").then_some(()));
    world.on("a", &["node", "activate", "b"]).expect_ok();
    world.on("a", &["run", "more", "--replicas", "4"]).expect_ok();
    wait("new pods run on b", || {
        let pods = world.ready_pods("a", "more");
        (pods.len() == 4 && pods.iter().any(|(_, node)| node == "b")).then_some(())
    });
}

#[test]
fn a_node_comes_back_under_its_name_after_leaving_and_after_being_removed() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    for role in ["worker", "manager"] {
        world.join("b", "a", role).expect_ok();
        world.wait_for_nodes("a", 2);
        world.on("b", &["leave"]).expect_ok();
        assert_eq!(nodes(&world).len(), 1);
    }
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    wait_for_lease_of_b(&world, true);
    let alive = world.on("a", &["node", "rm", "b"]).expect_error();
    assert!(alive.contains("alive"), "{alive}");
    world.kill("b");
    wait("the dead node is removed", || world.on("a", &["node", "rm", "b"]).ok.then_some(()));
    assert_eq!(nodes(&world).len(), 1);
    wait_for_lease_of_b(&world, false);
    world.start("b");
    wait("it was told that it is none of them any more", || {
        world.json_or_null("b", &["status"]).get("cluster")?.is_null().then_some(())
    });
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "2"]).expect_ok();
    let pods = world.wait_for_pods("a", "hello", 2);
    assert!(pods.iter().any(|(_, node)| node == "b"), "{pods:?}");
}

/// A node's Lease comes and goes with the node.
fn wait_for_lease_of_b(world: &World, there: bool) {
    if !has_kubectl() {
        return;
    }
    wait("the node's lease is as the node", || {
        let done = world.kubectl("a", &["get", "lease", "b", "-n", "kube-node-lease"]);
        let as_wanted = if there { done.ok } else { done.err.contains("NotFound") };
        as_wanted.then_some(())
    });
}

fn nodes(world: &World) -> BTreeMap<String, serde_json::Value> {
    let nodes = world.json_or_null("a", &["node", "ls"]);
    let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
    nodes.into_iter().map(|node| (text(&node["name"]), node)).collect()
}

fn node(world: &World, name: &str) -> Option<serde_json::Value> {
    nodes(world).remove(name)
}
