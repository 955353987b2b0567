//! One node is cut off from the others, a follower or the leader, wholly or in one direction, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use pontoon_network::Cuts;
use serde_json::json;

use super::failure::{leader, other_names};
use super::traffic::hello;
use crate::world::{World, cluster, machines, text, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_follower_that_was_cut_off_is_right_again_after_the_healing() {
    let Some(world) = cluster(&NAMES) else { return };
    let led = wait("a leader", || leader(&world, "a"));
    cut_and_heal(&world, other_names(&led)[0]);
}

#[test]
fn a_leader_that_was_cut_off_is_right_again_after_the_healing() {
    let Some(world) = cluster(&NAMES) else { return };
    let led = wait("a leader", || leader(&world, "a"));
    cut_and_heal(&world, &led);
}

#[test]
fn a_worker_that_was_cut_off_is_right_again_after_the_healing() {
    let Some(world) = machines(&NAMES) else { return };
    world.on("a", &["init"]).expect_ok();
    for worker in ["b", "c"] {
        world.join(worker, "a", "worker").expect_ok();
    }
    world.wait_for_nodes("a", 3);
    cut_and_heal(&world, "b");
}

fn cut_and_heal(world: &World, lost: &str) {
    hello(world);
    let observers = observe(world);
    let left = other_names(lost);
    world.host(&["machine", "disconnect", lost]).expect_ok();
    let cut = Instant::now();
    let listed = world.host(&["machine", "ls"]).expect_ok().out;
    let mut listed = listed.lines().filter(|line| line.contains("running, disconnected"));
    assert!(listed.next().is_some_and(|line| line.starts_with(lost)) && listed.next().is_none());
    wait("the others write on", || world.write(left[0], "majority", 10).ok());
    println!("{lost} cut off: writes of the others go on after {:?}", cut.elapsed());
    wait("six pods run on the others", || {
        let pods = world.ready_pods(left[0], "hello");
        (pods.len() == 6 && pods.iter().all(|(_, node)| node != lost)).then_some(())
    });
    println!("{lost} cut off: its pods run elsewhere after {:?}", cut.elapsed());
    let is_manager = world.json(lost, &["status"])["role"] == "manager";
    if is_manager {
        write_in_vain(world, lost);
    }
    world.host(&["machine", "connect", lost]).expect_ok();
    let healed = Instant::now();
    everything_is_right(world, lost, &observers);
    println!("{lost} is back: everything is right on all nodes after {:?}", healed.elapsed());
    if is_manager {
        wait("the one that was cut off knows of everything", || {
            (world.written(lost)? == world.written(left[0])?).then_some(())
        });
    }
    let written = world.written(left[0]).unwrap();
    assert!(written.contains("majority") && !written.contains("minority"), "{written:?}");
}

/// The few refuse to write, in words that leave no doubt.
fn write_in_vain(world: &World, lost: &str) {
    wait("it knows that it is cut off", || {
        (world.json_or_null(lost, &["status"])["leader"] == "none").then_some(())
    });
    let refused = world.write(lost, "minority", 10).unwrap_err();
    let words = ["3 managers, 1 reachable; 2 are needed", "can be neither read nor changed"];
    assert!(words.iter().all(|words| refused.contains(words)), "{refused}");
    // Who has no certificate is not told who the managers are.
    let kubectl = ["kubectl", "--insecure-skip-tls-verify", "--server", "https://127.0.0.1:6443"];
    let asked = world.inside(lost, &[&kubectl[..], &["get", "--raw", "/readyz"]].concat());
    let told = asked.expect_error();
    assert!(!told.contains("managers") && !told.contains("reachable"), "{told}");
    let status = world.json(lost, &["status"]);
    assert!(text(&status["problem"]).contains(words[0]), "{status}");
    let nodes = world.on(lost, &["node", "ls"]).expect_ok();
    assert!(nodes.err.contains("as this node knew them last"), "{}", nodes.err);
    assert!(NAMES.iter().all(|name| nodes.out.contains(name)), "{}", nodes.out);
    let members = world.on(lost, &["members"]).expect_ok();
    assert!(members.err.contains(words[0]), "{}", members.err);
}

/// Pods run where the cluster says, and from every machine the service's name answers with those alone.
fn everything_is_right(world: &World, lost: &str, observers: &BTreeMap<String, String>) {
    let at = other_names(lost)[0];
    world.wait_for_nodes(at, 3);
    wait("the surplus pods are gone", || {
        (world.processes(lost).len() == assigned(world, at, lost)?).then_some(())
    });
    let living: BTreeSet<String> =
        world.ready_pods(at, "hello").into_iter().map(|(pod, _)| pod).collect();
    assert_eq!(living.len(), 6);
    for machine in NAMES {
        wait(&format!("{machine} knows names and services"), || {
            let answers = world.answers(at, &observers[machine], "http://hello/", 12);
            (answers.into_iter().collect::<BTreeSet<_>>() == living).then_some(())
        });
    }
}

/// How many pods the cluster has put on a machine.
pub(super) fn assigned(world: &World, at: &str, machine: &str) -> Option<usize> {
    let pods = world.json_or_null(at, &["ps", "-A"]);
    let pods = pods["items"].as_array()?.iter();
    Some(pods.filter(|pod| pod["spec"]["nodeName"] == machine).count())
}

/// A pod on each machine, from which names and services are asked; it stays when its node is lost.
fn observe(world: &World) -> BTreeMap<String, String> {
    let path = "/apis/apps/v1/namespaces/default/daemonsets";
    let labels = json!({ "app": "observer" });
    let container = json!({ "name": "observer", "image": "pontoon.local/hello" });
    let template =
        json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
    let spec = json!({ "selector": { "matchLabels": labels }, "template": template });
    let set = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "observer" }, "spec": spec });
    let (code, answer) = world.ask("a", "POST", path, &set).unwrap();
    assert_eq!(code, 201, "{answer}");
    let pods = world.wait_for_pods("a", "observer", 3);
    pods.into_iter().map(|(pod, node)| (node, pod)).collect()
}

#[test]
fn a_node_that_hears_but_is_not_heard_does_no_harm() {
    let Some(world) = cluster(&NAMES) else { return };
    hello(&world);
    let observers = observe(&world);
    let led = wait("a leader", || leader(&world, "a"));
    let mute = other_names(&led)[0];
    let address = |name: &str| -> Ipv4Addr {
        let machines = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
        let machines: serde_json::Value = serde_json::from_str(&machines).unwrap();
        let mut machines = machines["machines"].as_array().unwrap().iter();
        let found = machines.find(|m| m["name"] == name).unwrap();
        text(&found["address"]).parse().unwrap()
    };
    let pairs = other_names(mute).map(|other| (address(mute), address(other)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let table = format!("pontoon-it-{}", std::process::id());
    let cuts = Cuts::new(&table).unwrap();
    runtime.block_on(cuts.set(BTreeSet::from(pairs))).unwrap();
    wait("pods run where they are heard of", || {
        let pods = world.ready_pods(&led, "hello");
        (pods.len() == 6 && pods.iter().all(|(_, node)| node != mute)).then_some(())
    });
    let revision = |at: &str| world.json(at, &["status"])["revision"].as_u64();
    let before = revision(&led);
    world.on(&led, &["run", "more"]).expect_ok();
    assert!(revision(&led) > before);
    runtime.block_on(cuts.set(BTreeSet::new())).unwrap();
    let healed = Instant::now();
    everything_is_right(&world, mute, &observers);
    println!("{mute} is heard again: everything is right after {:?}", healed.elapsed());
}
