//! Local machines under several hands at once: two that switch one on, one that does so while another removes it.

use std::fs;
use std::process::{Child, Output, Stdio};

use crate::world::{World, machines};

/// Begins a command on machines, beside others.
fn begin(world: &World, words: &[&str]) -> Child {
    let mut command = world.host_command(&[&["machine"], words].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

/// The keepers of this machine: one while it runs.
fn keepers(name: &str) -> usize {
    let marked = format!("machine-keeper\0{name}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&marked)).count()
}

/// A name that no other world has.
fn name() -> String {
    format!("racer-{}", std::process::id())
}

#[test]
fn a_machine_that_several_start_runs_once() {
    let name = name();
    let Some(world) = machines(&[&name]) else { return };
    for round in 0..3 {
        world.kill(&name);
        assert_eq!(keepers(&name), 0);
        let starts: Vec<Child> = (0..4).map(|_| begin(&world, &["start", &name])).collect();
        for start in starts {
            let done = end(start);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        assert_eq!(keepers(&name), 1, "round {round}");
        assert!(world.on(&name, &["status"]).ok);
    }
    world.kill(&name);
    assert_eq!(keepers(&name), 0, "the one that runs is the one that is known");
}

#[test]
fn a_machine_that_is_removed_while_it_starts_is_gone() {
    let name = name();
    let Some(world) = machines(&["other", &name]) else { return };
    for round in 0..6 {
        world.kill(&name);
        // Whoever comes first: in the end it is removed.
        let orders: [&[&str]; 3] = [&["start", &name], &["rm", &name], &["start", &name]];
        let [first, removal, second] = if round % 2 == 0 { [0, 1, 2] } else { [1, 0, 2] }
            .map(|n: usize| (n, begin(&world, orders[n])));
        for (order, child) in [first, removal, second] {
            let done = end(child);
            let words = String::from_utf8_lossy(&done.stderr);
            let missed = order != 1 && !done.status.success();
            assert!(done.status.success() || missed, "{words}");
            if missed {
                let known = words.contains("not found") || words.contains("switched off");
                assert!(known, "{words}");
            }
        }
        assert_eq!(keepers(&name), 0, "round {round}");
        assert!(!world.machine_dir(&name).exists(), "round {round}");
        let left = fs::read_dir(world.machine_dir("other").parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|file| !file.to_string_lossy().starts_with(&name)), "{left:?}");
        world.host(&["machine", "create", &name]).expect_ok();
    }
    assert!(world.on("other", &["status"]).ok, "the other one was not touched");
}
