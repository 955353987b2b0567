//! Ports that are taken, directories in use, ranges that cannot be: refused in words, nothing half done.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use super::damage::kill_daemon;
use crate::world::{World, in_network, machines, program, wait};

const PORTS: [u16; 4] = [2377, 6443, 7946, 10250];

/// A port held by somebody else, until it is dropped.
enum Held {
    Tcp(#[expect(dead_code, reason = "it holds the port")] TcpListener),
    Udp(#[expect(dead_code, reason = "it holds the port")] UdpSocket),
}

/// Takes a port in a machine's network, as another program there would.
fn take(world: &World, machine: &str, port: u16, udp: bool) -> Option<Held> {
    in_network(world.pid(machine), move || {
        if udp {
            UdpSocket::bind(("0.0.0.0", port)).map(Held::Udp).ok()
        } else {
            TcpListener::bind(("0.0.0.0", port)).map(Held::Tcp).ok()
        }
    })
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_port_that_is_taken_is_told_and_nothing_is_begun() {
    let Some(world) = machines(&["a", "b"]) else { return };
    let before = names_in(&world.data_dir("a"));
    for (port, udp) in PORTS.map(|port| (port, false)).into_iter().chain([(7946, true)]) {
        let held = take(&world, "a", port, udp).unwrap();
        let refused = world.on("a", &["init"]).expect_error();
        println!("{refused}");
        assert!(refused.contains(&port.to_string()), "{port}: {refused}");
        assert!(refused.contains("taken") || refused.contains("in use"), "{port}: {refused}");
        assert!(world.json("a", &["status"])["cluster"].is_null(), "{port}");
        assert_eq!(names_in(&world.data_dir("a")), before, "{port}");
        drop(held);
    }
    world.on("a", &["init"]).expect_ok();
    let held = take(&world, "b", 10250, false).unwrap();
    let refused = world.join("b", "a", "worker").expect_error();
    assert!(refused.contains("10250"), "{refused}");
    assert!(world.json("b", &["status"])["cluster"].is_null());
    let nodes = world.json("a", &["node", "ls"]);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "b is not counted in: {nodes}");
    drop(held);
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
}

#[test]
fn a_member_that_finds_its_port_taken_waits_for_it() {
    let Some(world) = machines(&["a"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.wait_for_nodes("a", 1);
    let held = wait("the port is taken while the daemon is dead", || {
        kill_daemon(&world, "a");
        let held = take(&world, "a", 6443, false);
        wait("the daemon is back", || world.on("a", &["status"]).ok.then_some(()));
        held
    });
    let said = wait("the daemon tells", || {
        world.json_or_null("a", &["status"])["problem"].as_str().map(str::to_owned)
    });
    assert!(said.contains("6443") && said.contains("taken"), "{said}");
    drop(held);
    world.wait_for_nodes("a", 1);
    // What was listed may be the node as it was before its daemon died.
    wait("all is well", || world.json_or_null("a", &["status"])["problem"].is_null().then_some(()));
}

#[test]
fn the_ports_of_names_and_of_the_overlay_are_waited_for() {
    let Some(world) = machines(&["a"]) else { return };
    let overlay = take(&world, "a", 4789, true).unwrap();
    let names = take(&world, "a", 53, true).unwrap();
    world.on("a", &["init"]).expect_ok();
    let problem = |words: &str| {
        let told = wait(words, || {
            let problem = world.json_or_null("a", &["status"])["problem"].as_str()?.to_owned();
            problem.contains(words).then_some(problem)
        });
        println!("{told}");
    };
    problem("the node's network is not as it should be");
    drop(overlay);
    problem(":53");
    // Pods that look up no names can run.
    world.wait_for_nodes("a", 1);
    drop(names);
    wait("all is well", || world.json_or_null("a", &["status"])["problem"].is_null().then_some(()));
}

#[test]
fn directories_in_use_and_paths_too_long_are_refused() {
    let Some(world) = machines(&["a"]) else { return };
    let daemon = |data: &std::path::Path, run: &std::path::Path| {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(data).arg("--run-dir").arg(run);
        let done = command.args(["daemon", "--node-name", "second"]).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let free = tempfile::tempdir().unwrap();
    for (data, run) in [
        (world.data_dir("a"), free.path().join("run")),
        (free.path().join("data"), world.run_dir("a")),
    ] {
        let refused = daemon(&data, &run);
        assert!(refused.contains("another daemon uses"), "{refused}");
    }
    let long = free.path().join("x".repeat(100));
    let refused = daemon(&free.path().join("data"), &long);
    assert!(refused.contains("shorter --run-dir"), "{refused}");
    assert!(!long.exists(), "nothing is made");
    let status = world.json("a", &["status"]);
    assert_eq!(status["node"], "a", "the first daemon goes on");
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let Some(world) = machines(&["a"]) else { return };
    let list = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let own = crate::world::text(&list["machines"][0]["address"]);
    let around = format!("{}.0/24", own.rsplit_once('.').unwrap().0);
    for (option, range, why) in [
        ("--cluster-cidr", "hello", "no range"),
        ("--cluster-cidr", "10.244.0.0/33", "no range"),
        ("--cluster-cidr", "10.244.0.1/16", "host bits"),
        ("--cluster-cidr", "10.244.0.0/28", "/8 to /24"),
        ("--cluster-cidr", "10.96.0.0/12", "overlap"),
        ("--cluster-cidr", "127.0.0.0/16", "another use"),
        ("--cluster-cidr", "224.0.0.0/8", "another use"),
        ("--service-cidr", "fd00::/64", "no range"),
        ("--cluster-cidr", &around, "an address of this machine"),
        ("--service-cidr", &around, "an address of this machine"),
        ("--advertise-addr", "192.0.2.7", "no address of this machine"),
    ] {
        let refused = world.on("a", &["init", option, range]).expect_error();
        assert!(refused.contains(why), "{option} {range}: {refused}");
        assert!(world.json("a", &["status"])["cluster"].is_null(), "{option} {range}");
    }
    let ranges = ["--cluster-cidr", "10.50.0.0/20", "--service-cidr", "10.51.0.0/24"];
    world.on("a", &[&["init"][..], &ranges].concat()).expect_ok();
    world.wait_for_nodes("a", 1);
    world.on("a", &["run", "hello", "--port", "80:8080"]).expect_ok();
    let (pod, _) = world.wait_for_pods("a", "hello", 1).remove(0);
    wait("the service answers", || {
        (world.answers("a", &pod, "http://hello/", 1) == [pod.as_str()]).then_some(())
    });
}
