//! Machines that fail, one and all; daemons that are killed; networks that part and heal.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::load::Load;
use super::traffic::hello;
use crate::world::{World, cluster, machines, program, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Who leads, as a machine knows.
pub(super) fn leader(world: &World, at: &str) -> Option<String> {
    let status = world.json_or_null(at, &["status"]);
    status["leader"].as_str().filter(|name| *name != "none").map(str::to_owned)
}

/// The two of the three machines that are not this one.
pub(super) fn other_names(name: &str) -> [&'static str; 2] {
    let others: Vec<&str> = NAMES.into_iter().filter(|other| *other != name).collect();
    others.try_into().unwrap()
}

#[test]
fn a_lost_leader_is_not_missed() {
    let Some(world) = cluster(&NAMES) else { return };
    let led = wait("a leader", || leader(&world, "a"));
    lose(&world, &led);
}

#[test]
fn a_lost_follower_is_not_missed() {
    let Some(world) = cluster(&NAMES) else { return };
    let led = wait("a leader", || leader(&world, "a"));
    lose(&world, other_names(&led)[0]);
}

#[test]
fn a_lost_worker_is_not_missed() {
    let Some(world) = machines(&NAMES) else { return };
    world.on("a", &["init"]).expect_ok();
    for worker in ["b", "c"] {
        world.join(worker, "a", "worker").expect_ok();
    }
    world.wait_for_nodes("a", 3);
    lose(&world, "b");
}

/// Cuts one machine's power while others write and ask.
fn lose(world: &World, lost: &str) {
    let pods = hello(world);
    let at = if lost == "a" { "b" } else { "a" };
    let (asker, _) = pods.iter().find(|(_, node)| node == at).unwrap();
    let (dead, _) = pods.iter().find(|(_, node)| node == lost).unwrap();
    let mut follower = Command::new(program());
    follower.arg("--run-dir").arg(world.run_dir(at)).args(["logs", "-f", dead]);
    let mut follower = follower.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let load = Load::new(world, at, asker);
    let ((), gap) = load.during(|| {
        wait("it is asked and answers", || (load.asked().0 > 20).then_some(()));
        let cut = Instant::now();
        world.kill(lost);
        wait("no slice leads to it", || (serving(world, at, lost)? == 0).then_some(()));
        println!("{lost} is off: no slice leads to it after {:?}", cut.elapsed());
        wait("six pods run elsewhere", || {
            let pods = world.ready_pods(at, "hello");
            (pods.len() == 6 && pods.iter().all(|(_, node)| *node != lost)).then_some(())
        });
        println!("{lost} is off: its pods run elsewhere after {:?}", cut.elapsed());
        let pods_now = world.ready_pods(at, "hello");
        assert!(pods_now.iter().all(|(pod, _)| pod != dead), "{dead} is another pod's name now");
        wait("a log that is followed ends", || follower.try_wait().unwrap());
        println!("{lost} is off: a log that was followed ended after {:?}", cut.elapsed());
        let failed = load.asked().1;
        load.be_strict();
        wait("living pods answer", || (load.strictly_asked().0 >= 100).then_some(()));
        println!("{lost} is off: {failed} of {} requests failed by then", load.asked().0);
    });
    println!("{lost} is off: no write for {gap:?}");
    assert_eq!(load.strictly_asked().1, 0, "requests failed though the pods run elsewhere");
    world.start(lost);
    world.wait_for_nodes(at, 3);
    let its_role = |machine: &str| world.json_or_null(machine, &["status"])["role"].clone();
    wait("the machine that came back is a member again", || {
        its_role(lost).is_string().then_some(())
    });
    wait("all members are alive in its eyes", || {
        let members = world.json_or_null(lost, &["members"]);
        let alive = members["members"].as_array()?.iter().filter(|m| m["status"] == "alive");
        (alive.count() == 3).then_some(())
    });
}

/// How many endpoints of hello on a node get connections.
fn serving(world: &World, at: &str, node: &str) -> Option<usize> {
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (code, list) = world.ask(at, "GET", path, &Value::Null).ok()?;
    let slices = list["items"].as_array().filter(|_| code == 200)?.iter();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    Some(endpoints.filter(|e| e["nodeName"] == node && e["conditions"]["ready"] == true).count())
}

#[test]
fn after_a_power_cut_everything_comes_back() {
    let Some(world) = cluster(&NAMES) else { return };
    let before = hello(&world);
    world.write("b", "kept", 1_000).unwrap();
    let objects = all_objects(&world, "a").unwrap();
    let started = world.containers("a", "hello");
    std::thread::scope(|scope| {
        for name in NAMES {
            let world = &world;
            scope.spawn(move || world.kill(name));
        }
    });
    for name in NAMES {
        world.start(name);
    }
    wait("every container was started anew", || {
        let pods = world.ready_pods("a", "hello");
        let now = if pods.len() == 6 { world.containers("a", "hello") } else { return None };
        let is_newer = |(pod, (_, at)): (&String, &(u64, String))| {
            started.get(pod).is_some_and(|(_, before)| at > before)
        };
        (now.len() == 6 && now.iter().all(is_newer)).then_some(())
    });
    world.wait_for_nodes("a", 3);
    assert_eq!(world.wait_for_pods("a", "hello", 6), before, "the same pods where they were");
    for (asker, node) in &before {
        let answers = wait(&format!("{asker} on {node} is answered"), || {
            let answers = world.answers(node, asker, "http://hello/", 12);
            (answers.len() == 12).then_some(answers)
        });
        assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 6, "{asker}: {answers:?}");
    }
    for name in NAMES {
        assert_eq!(all_objects(&world, name).as_ref(), Some(&objects), "at {name}");
    }
}

/// Every object of the cluster that nothing but its user's will removes, by kind, namespace, name and uid.
fn all_objects(world: &World, at: &str) -> Option<BTreeSet<[String; 4]>> {
    let core =
        ["namespaces", "nodes", "pods", "services", "configmaps", "secrets", "serviceaccounts"];
    let apps = ["deployments", "replicasets", "daemonsets"];
    let paths = core.iter().map(|kind| (*kind, format!("/api/v1/{kind}")));
    let mut found = BTreeSet::new();
    for (kind, path) in
        paths.chain(apps.iter().map(|kind| (*kind, format!("/apis/apps/v1/{kind}"))))
    {
        let (code, list) = world.ask(at, "GET", &path, &Value::Null).ok()?;
        for item in list["items"].as_array().filter(|_| code == 200)? {
            let field = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
            found.insert([kind.to_owned(), field("namespace"), field("name"), field("uid")]);
        }
    }
    Some(found)
}

#[test]
fn containers_outlive_the_daemon() {
    let Some(world) = cluster(&["a"]) else { return };
    world.on("a", &["run", "hello", "--replicas", "2", "--port", "80:8080"]).expect_ok();
    world.wait_for_pods("a", "hello", 2);
    let before = world.containers("a", "hello");
    let processes = world.processes("a");
    assert_eq!(processes.len(), 2);
    world.hold_daemon("a");
    wait("it is down", || (!world.on("a", &["status"]).ok).then_some(()));
    world.release_daemon("a");
    wait("the daemon is back", || world.on("a", &["status"]).ok.then_some(()));
    world.wait_for_nodes("a", 1);
    world.wait_for_pods("a", "hello", 2);
    world.wait_for_adoption("a", before.keys());
    assert_eq!(world.containers("a", "hello"), before);
    assert_eq!(world.processes("a"), processes, "the same processes");
}
