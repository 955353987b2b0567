//! Joining and leaving, and everything that can be wrong with a token.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use pontoon_network::Tables;
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::outage::member;
use crate::world::{World, cluster, machines, text, wait};

#[test]
fn a_node_joins_only_with_the_right_token_and_name() {
    let Some(world) = machines(&["a", "b", "other"]) else { return };
    let refused = world.on("b", &["join-token", "worker"]).expect_error();
    assert!(refused.contains("pontoon init"), "{refused}");
    world.on("a", &["init"]).expect_ok();
    world.on("other", &["init"]).expect_ok();
    let token = world.json("a", &["join-token", "worker"]);
    let (token, address) = (text(&token["token"]), text(&token["address"]));
    let foreign = text(&world.json("other", &["join-token", "worker"])["token"]);
    let wrong = format!("{}{}", &token[..token.len() - 25], "0".repeat(25));
    for (token, why) in [
        (token[..token.len() - 3].to_owned(), "cut off"),
        ("hello".to_owned(), "must begin with"),
        (wrong, "not valid"),
        (foreign, "another cluster"),
    ] {
        let refused = world.on("b", &["join", "--token", &token, &address]).expect_error();
        assert!(refused.contains(why), "{why}: {refused}");
        let status = world.json("b", &["status"]);
        assert!(status["cluster"].is_null(), "half joined after {why}: {status}");
    }
    let unreachable = world.on("b", &["join", "--token", &token, "127.0.0.1:1"]).expect_error();
    assert!(unreachable.contains("no manager answers"), "{unreachable}");
    world.on("a", &["join-token", "worker", "--rotate"]).expect_ok();
    let old = world.on("b", &["join", "--token", &token, &address]).expect_error();
    assert!(old.contains("rotated"), "{old}");
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    let again = world.join("b", "a", "manager").expect_ok();
    assert!(again.out.contains("a worker of that cluster already"), "{}", again.out);
    let elsewhere = world.join("b", "other", "worker").expect_error();
    assert!(
        elsewhere.contains("another cluster's") && elsewhere.contains("pontoon leave"),
        "{elsewhere}"
    );
    let on_worker = world.on("b", &["ps"]).expect_error();
    assert!(on_worker.contains("run from a manager"), "{on_worker}");
    let members = world.json("b", &["members"]);
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "{members}");
}

#[test]
fn nothing_is_left_of_a_node_that_leaves() {
    let Some(world) = machines(&["a", "b"]) else { return };
    let look = |machine: &str| look(&world, machine);
    let (clean_a, clean) = (look("a"), look("b"));
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "4", "--port", "80:8080"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    assert_ne!(look("b"), clean, "a node with pods has devices");
    assert_eq!(tables(&world, "b").len(), 2);
    world.on("b", &["leave"]).expect_ok();
    wait("the cgroups are gone", || (!has_cgroups(&look("b"))).then_some(()));
    assert_eq!(look("b"), clean);
    let status = world.json("b", &["status"]);
    assert!(status["cluster"].is_null(), "{status}");
    wait("the pods run on the node that is left", || {
        let pods = world.ready_pods("a", "hello");
        (pods.len() == 4 && pods.iter().all(|(_, node)| node == "a")).then_some(())
    });
    let nodes = world.json("a", &["node", "ls"]);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
    let last = world.on("a", &["leave"]).expect_error();
    assert!(last.contains("last manager"), "{last}");
    world.on("a", &["leave", "--force"]).expect_ok();
    wait("the cgroups are gone", || (!has_cgroups(&look("a"))).then_some(()));
    assert_eq!(look("a"), clean_a);
}

#[test]
fn a_node_that_cannot_remove_everything_has_left_all_the_same_and_goes_on_removing() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "4"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    let stuck = world.data_dir("b").join("pods/stuck");
    fs::create_dir(&stuck).unwrap();
    let path = stuck.to_str().unwrap();
    world.inside("b", &["mount", "-t", "tmpfs", "none", path]).expect_ok();
    let refused = world.on("b", &["leave"]).expect_error();
    assert!(refused.contains("pods") && refused.contains("`pontoon leave`"), "{refused}");
    assert!(world.processes("b").is_empty(), "all else is removed");
    let nodes = world.json("a", &["node", "ls"]);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
    world.on("b", &["leave"]).expect_error();
    world.kill_daemon("b");
    wait("the next daemon knows that it is to leave", || {
        let status = world.json_or_null("b", &["status"]);
        status["problem"].as_str()?.contains("has left").then_some(())
    });
    world.inside("b", &["umount", path]).expect_ok();
    // Unless it has tried again by itself and is done.
    world.on("b", &["leave"]);
    wait("it is in no cluster", || {
        world.json_or_null("b", &["status"]).get("cluster")?.is_null().then_some(())
    });
    assert!(!stuck.exists());
    world.join("b", "a", "worker").expect_ok();
}

#[test]
fn a_node_that_lost_its_disk_finds_its_name_and_address_taken_until_it_is_removed() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.kill("b");
    fs::remove_dir_all(world.data_dir("b")).unwrap();
    world.start("b");
    let taken = world.join("b", "a", "worker").expect_error();
    assert!(taken.contains("a node named b is in the cluster already"), "{taken}");
    assert!(taken.contains("pontoon node rm b --force"), "{taken}");
    world.hold_daemon("b");
    wait("it is down", || (!world.on("b", &["status"]).ok).then_some(()));
    let token = world.json("a", &["join-token", "worker"]);
    let at = format!("{}@{}", text(&token["token"]), text(&token["address"]));
    let up = ["pontoon", "up", "--node-name", "z", "--cgroup-parent", "unused", "--join", &at];
    let taken = world.inside("b", &up).expect_error();
    assert!(taken.contains("is the address of node b"), "{taken}");
    world.release_daemon("b");
    wait("its daemon is back", || world.on("b", &["status"]).ok.then_some(()));
    assert!(world.json("b", &["status"])["cluster"].is_null(), "nothing is half joined");
    world.on("a", &["node", "rm", "b", "--force"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
}

#[test]
fn a_node_that_did_not_hear_that_it_was_let_in_asks_again() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    let old = world.json("a", &["join-token", "worker"]);
    world.on("a", &["join-token", "worker", "--rotate"]).expect_ok();
    let (token, address) = (text(&old["token"]), text(&old["address"]));
    world.on("b", &["join", "--token", &token, &address]).expect_error();
    let attempt = world.data_dir("b").join("joining.json");
    let asked = fs::read(&attempt).expect("what was asked is kept until it is answered");
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    assert!(!attempt.exists(), "it is answered");
    // As if the daemon had died before it could write the answer down.
    world.kill("b");
    fs::remove_file(world.data_dir("b").join("node.json")).unwrap();
    fs::write(&attempt, asked).unwrap();
    world.start("b");
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
}

#[test]
fn the_managers_token_is_rotated_alone() {
    let Some(world) = machines(&["a", "b", "c"]) else { return };
    world.on("a", &["init"]).expect_ok();
    let tokens = ["worker", "manager"].map(|role| world.json("a", &["join-token", role]));
    let [worker, manager] = tokens.each_ref().map(|answer| text(&answer["token"]));
    let address = text(&tokens[0]["address"]);
    let rotated = world.json("a", &["join-token", "manager", "--rotate"]);
    assert_ne!(text(&rotated["token"]), manager);
    let old = world.on("b", &["join", "--token", &manager, &address]).expect_error();
    assert!(old.contains("rotated"), "{old}");
    world.on("c", &["join", "--token", &worker, &address]).expect_ok();
    world.on("b", &["join", "--token", &text(&rotated["token"]), &address]).expect_ok();
    assert_eq!(world.json("b", &["status"])["role"], "manager");
    assert_eq!(world.json("c", &["status"])["role"], "worker");
}

#[test]
fn members_are_told_as_alive_suspect_failed_and_left() {
    let Some(world) = machines(&["a", "b", "c"]) else { return };
    world.on("a", &["init"]).expect_ok();
    for name in ["b", "c"] {
        world.join(name, "a", "worker").expect_ok();
    }
    world.wait_for_nodes("a", 3);
    wait("b is alive", || (member(&world, "a", "b")? == "alive").then_some(()));
    world.host(&["machine", "disconnect", "b"]).expect_ok();
    let mut seen = Vec::new();
    wait("b has failed", || {
        let now = member(&world, "a", "b")?;
        if seen.last() != Some(&now) {
            seen.push(now.clone());
        }
        (now == "failed").then_some(())
    });
    assert!(seen.ends_with(&["suspect".to_owned(), "failed".to_owned()]), "{seen:?}");
    world.host(&["machine", "connect", "b"]).expect_ok();
    wait("b is alive again", || (member(&world, "a", "b")? == "alive").then_some(()));
    world.on("c", &["leave"]).expect_ok();
    wait("c has left", || (member(&world, "a", "c")? == "left").then_some(()));
}

/// The log says of the founder that it alone was the cluster once. Should it come back under its old number
/// with an empty log, it would read that and lead alone.
#[test]
fn a_founder_that_was_a_worker_for_a_while_leads_nobody_but_the_cluster() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    world.on("a", &["run", "hello", "--replicas", "6"]).expect_ok();
    let pods = world.wait_for_pods("a", "hello", 6);
    let is = |role: &str, status: &[&str]| {
        let nodes = world.json_or_null("b", &["node", "ls"]);
        let node = nodes["nodes"].as_array()?.iter().find(|node| node["name"] == "a")?;
        let right =
            text(&node["role"]) == role && status.contains(&text(&node["managerStatus"]).as_str());
        (right && text(&node["status"]) == "Ready").then_some(())
    };
    let is_told = |role: &str| (world.json_or_null("a", &["status"])["role"] == role).then_some(());
    world.on("b", &["node", "demote", "a"]).expect_ok();
    wait("the founder is a worker", || is_told("worker"));
    assert!(!world.data_dir("a").join("admin.kubeconfig").exists(), "a worker administers nothing");
    let before = world.json("b", &["status"])["revision"].as_u64();
    wait("it can be promoted again", || {
        world.on("b", &["node", "promote", "a"]);
        is_told("manager")
    });
    wait("the founder is a manager again", || is("manager", &["Leader", "Reachable"]));
    for machine in ["a", "b", "c"] {
        wait("every manager has the state", || {
            let status = world.json_or_null(machine, &["status"]);
            let nodes = world.json_or_null(machine, &["node", "ls"]);
            let all = nodes["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3);
            (all && status["revision"].as_u64() >= before).then_some(())
        });
    }
    assert_eq!(world.ready_pods("b", "hello"), pods, "pods do not notice");
}

/// Dying processes hold their cgroups for a moment.
pub(super) fn has_cgroups(found: &BTreeSet<String>) -> bool {
    found.iter().any(|line| line.starts_with("/sys/fs/cgroup"))
}

/// The nftables tables of a node that a machine has; the program that lists them all may not be installed.
pub(super) fn tables(world: &World, machine: &str) -> Vec<&'static str> {
    let list = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let mut all = list["machines"].as_array().unwrap().iter();
    let pid = all.find(|found| found["name"] == machine).unwrap()["pid"].as_u64().unwrap();
    let looking = std::thread::spawn(move || {
        let space = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let exists = |name| runtime.block_on(Tables::new(name).unwrap().exist()).unwrap();
        ["pontoon", "pontoon-overlay"].into_iter().filter(|name| exists(name)).collect()
    });
    looking.join().unwrap()
}

/// What a machine has that a node could leave behind, in words, one thing a line.
pub(super) fn look(world: &World, machine: &str) -> BTreeSet<String> {
    let inside = |words: &[&str]| {
        let out = world.inside(machine, words).out;
        let lines = out.lines().map(|line| format!("{}: {line}", words[0]));
        lines.collect::<Vec<_>>()
    };
    let mut found = BTreeSet::new();
    let links = inside(&["ip", "-o", "link"]);
    found.extend(links.iter().filter_map(|l| Some(l.split(": ").nth(2)?.to_owned())));
    // The kernel's own addresses come a moment after the machine's start.
    let routes = inside(&["ip", "route", "show", "table", "all"]);
    found.extend(routes.into_iter().filter(|route| !route.contains("fe80:")));
    found.extend(inside(&["ip", "neigh", "show", "nud", "permanent"]));
    found.extend(tables(world, machine).into_iter().map(str::to_owned));
    // The host's own mounts, which a machine sees, come and go.
    let mounts = inside(&["cat", "/proc/mounts"]);
    found.extend(mounts.into_iter().filter(|mount| mount.contains("pontoon")));
    let processes = inside(&["ps", "-e", "-o", "args="]);
    let own = |line: &&String| line.contains("shim") || line.contains("pontoon hello");
    found.extend(processes.iter().filter(own).cloned());
    for dir in [world.data_dir(machine), world.run_dir(machine)] {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.map(|path| path.display().to_string()));
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for mount in table.lines().filter(|line| line.contains(" - cgroup")) {
        let root = Path::new(mount.split(' ').nth(4).unwrap());
        let parent = root.join(world.cgroup_parent(machine));
        found.extend(parent.exists().then(|| parent.display().to_string()));
    }
    found
}
