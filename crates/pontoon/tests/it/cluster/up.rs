//! `pontoon up --join` on a node that is a member already.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{World, machines, text};

/// A second daemon in a machine, with directories of its own.
fn up(world: &World, machine: &str, join: &str) -> Command {
    let dir = world.machine_dir(machine);
    let record = fs::read(dir.join("machine.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let (data, run) = (dir.join("data2"), dir.join("run2"));
    let words = ["machine", "ssh", machine, "--", "pontoon", "--data-dir"];
    let mut command = world.host_command(&words);
    command.arg(data).arg("--run-dir").arg(run);
    command.args(["up", "--node-name", "second", "--cgroup-parent"]);
    command.arg(text(&record["cgroup_parent"])).args(["--join", join]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Has it run until it has said something; answers that.
fn first_words(world: &World, machine: &str, join: &str) -> String {
    let mut child = up(world, machine, join).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut errors));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    world.inside(machine, &["pkill", "-TERM", "-f", "up --node-name second"]).expect_ok();
    child.wait().unwrap();
    let log = reading.join().unwrap().unwrap();
    assert!(log.contains(" INFO the daemon listens"), "{log}");
    assert!(!log.contains('{') && !log.contains("Some("), "{log}");
    line
}

#[test]
fn up_on_a_member_says_what_it_is() {
    let Some(world) = machines(&["a", "b", "other"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.on("other", &["init"]).expect_ok();
    let token = |at: &str| {
        let token = world.json(at, &["join-token", "worker"]);
        format!("{}@{}", text(&token["token"]), text(&token["address"]))
    };
    let (own, foreign) = (token("a"), token("other"));
    let joined = first_words(&world, "b", &own);
    assert!(joined.contains("(second) is a worker of the cluster."), "{joined}");
    let again = first_words(&world, "b", &own);
    assert!(again.contains("a worker of that cluster already, and goes on"), "{again}");
    let refused = up(&world, "b", &foreign).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("another cluster's") && words.contains("pontoon leave"), "{words}");
}
