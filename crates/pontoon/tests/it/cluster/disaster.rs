//! Disaster: all managers lost and a backup left, or one manager left of three.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::{World, cluster, machines, text, wait};

fn write_some(world: &World, at: &str) -> BTreeSet<String> {
    for number in 0..20 {
        world.write(at, &format!("kept-{number}"), 1000).unwrap();
    }
    world.written(at).unwrap()
}

/// What is lost with a disk.
fn lose_disk(world: &World, machine: &str) {
    let dir = world.data_dir(machine);
    fs::remove_file(dir.join("node.json")).unwrap();
    fs::remove_dir_all(dir.join("store")).unwrap();
}

/// All managers have whole files, and hold the same.
fn verify(world: &World, at: &str, managers: usize) {
    let report = world.json(at, &["store", "verify"]);
    let found = report["managers"].as_array().unwrap();
    assert!(report["good"] == true && found.len() == managers, "{report}");
    assert!(found.iter().all(|manager| manager["logBytes"].as_u64() > Some(0)), "{report}");
}

fn save(world: &World, at: &str) -> (PathBuf, Value) {
    let file = world.machine_dir(at).join("backup.snap");
    let saved = world.json(at, &["store", "snapshot", "save", file.to_str().unwrap()]);
    (file, saved)
}

/// Changes one bit of a file that may be in use.
fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// The oldest file of a machine's log.
fn log_file(world: &World, machine: &str) -> PathBuf {
    let dir = world.data_dir(machine).join("store/log");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "log")).min().unwrap()
}

#[test]
fn a_flipped_bit_is_found_while_the_managers_run_and_when_they_are_off() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    write_some(&world, "a");
    verify(&world, "b", 3);
    let log = log_file(&world, "c");
    let path = log.to_str().unwrap();
    flip(&log, 200);
    let report = world.on("a", &["store", "verify", "--output", "json"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    assert!(report.err.contains("c: ") && report.err.contains(path), "{report:?}");
    let found: Value = serde_json::from_str(&report.out).unwrap();
    assert!(found["good"] == false && found["copiesAgree"] == true, "{found}");
    for manager in found["managers"].as_array().unwrap() {
        let problems = manager["problems"].as_array().unwrap().len();
        assert_eq!(problems, usize::from(manager["name"] == "c"), "{found}");
    }
    let dir = world.data_dir("c");
    let offline = ["store", "verify", "--offline", "--data-dir", dir.to_str().unwrap()];
    let refused = world.on("c", &offline).expect_error();
    assert!(refused.contains("in use"), "{refused}");
    world.kill("c");
    let told = world.on("c", &offline).expect_error();
    assert!(told.contains(path) && told.contains("at byte"), "{told}");
    flip(&log, 200);
    let whole = world.on("c", &offline).expect_ok();
    assert!(whole.out.contains("are whole"), "{whole:?}");
    let silent = world.on("a", &["store", "verify"]).expect_error();
    assert!(silent.contains("c: "), "{silent}");
}

#[test]
fn a_cluster_that_lost_every_disk_comes_back_from_a_backup() {
    let Some(world) = machines(&["a", "b", "c", "w"]) else { return };
    world.on("a", &["init"]).expect_ok();
    for (name, role) in [("b", "manager"), ("c", "manager"), ("w", "worker")] {
        world.join(name, "a", role).expect_ok();
    }
    world.wait_for_nodes("a", 4);
    let kept = write_some(&world, "a");
    world.on("a", &["run", "hello", "--replicas", "4"]).expect_ok();
    world.wait_for_pods("a", "hello", 4);
    let (file, saved) = save(&world, "b");
    let name = file.to_str().unwrap().to_owned();
    let status = world.json("b", &["store", "snapshot", "status", &name]);
    assert_eq!(status, saved);
    let bytes = fs::read(&file).unwrap();
    let again = world.on("b", &["store", "snapshot", "save", &name]).expect_error();
    assert!(again.contains("exists") && fs::read(&file).unwrap() == bytes, "{again}");
    // A damaged backup is told, by place.
    let damaged = world.machine_dir("b").join("damaged.snap");
    fs::write(&damaged, &bytes).unwrap();
    flip(&damaged, bytes.len() as u64 / 2);
    let refused = world.on("b", &["store", "snapshot", "status", damaged.to_str().unwrap()]);
    let refused = refused.expect_error();
    assert!(refused.contains("at byte") && refused.contains("check sum"), "{refused}");

    for name in ["a", "b", "c"] {
        world.kill(name);
        lose_disk(&world, name);
    }
    let data_dir = world.data_dir("a");
    let restore = |file: &str, node: &str| {
        let dir = data_dir.to_str().unwrap();
        let words = ["store", "snapshot", "restore", file, "--node-name", node, "--data-dir", dir];
        world.on("a", &words)
    };
    let refused = restore(damaged.to_str().unwrap(), "a").expect_error();
    assert!(refused.contains("check sum") && !data_dir.join("store").exists(), "{refused}");
    let unknown = restore(&name, "z").expect_error();
    assert!(unknown.contains("--advertise-addr"), "{unknown}");
    restore(&name, "a").expect_ok();
    let again = restore(&name, "a").expect_error();
    assert!(again.contains("belongs to a node already"), "{again}");
    let dir = data_dir.to_str().unwrap();
    world.on("a", &["store", "verify", "--offline", "--data-dir", dir]).expect_ok();

    world.start("a");
    let found = wait("a answers", || world.written("a"));
    assert!(found.is_superset(&kept), "{found:?}");
    // The worker finds it by itself.
    world.wait_for_nodes("a", 2);
    // Until the leader has looked, pods are told to run where the backup has them.
    wait("no pod is on a machine that is gone", || {
        let pods = world.wait_for_pods("a", "hello", 4);
        pods.iter().all(|(_, node)| node == "a" || node == "w").then_some(())
    });
    world.write("a", "after", 10).unwrap();
    // Those who lost their disks join anew.
    for name in ["b", "c"] {
        world.start(name);
        world.join(name, "a", "manager").expect_ok();
    }
    world.wait_for_nodes("a", 4);
    verify(&world, "b", 3);
    assert!(wait("c answers", || world.written("c")).contains("after"));
}

#[test]
fn what_is_restored_is_safe_from_a_daemon_that_is_in_no_cluster() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.wait_for_nodes("a", 1);
    world.write("a", "kept", 10).unwrap();
    let refused = world.on("a", &["store", "snapshot", "save", "-"]).expect_error();
    assert!(refused.contains("standard output"), "{refused}");
    let (file, _) = save(&world, "a");
    let restore = |dir: &Path| {
        let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
        let words = ["store", "snapshot", "restore", file, "--node-name", "a", "--data-dir", dir];
        world.on("b", &words)
    };
    // The daemon of b runs, in no cluster.
    let used = world.data_dir("b");
    let refused = restore(&used).expect_error();
    assert!(refused.contains("a daemon uses") && !used.join("store").exists(), "{refused}");
    // It came there all the same.
    let aside = world.machine_dir("b").join("restored");
    let told = restore(&aside).expect_ok().err;
    assert!(told.contains(aside.to_str().unwrap()), "it says where it writes: {told}");
    for name in ["store", "node.json"] {
        fs::rename(aside.join(name), used.join(name)).unwrap();
        let refused = world.on("b", &["init"]).expect_error();
        assert!(refused.contains("nothing was touched"), "{refused}");
        let refused = world.join("b", "a", "worker").expect_error();
        assert!(refused.contains("nothing was touched"), "{refused}");
    }
    let dir = used.to_str().unwrap();
    world.on("b", &["store", "verify", "--offline", "--data-dir", dir]).expect_ok();
    assert!(used.join("node.json").exists());
}

#[test]
fn one_manager_of_three_goes_on_alone_when_it_is_told_to() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    let kept = write_some(&world, "a");
    world.on("a", &["run", "hello", "--replicas", "3"]).expect_ok();
    world.wait_for_pods("a", "hello", 3);
    let force = ["init", "--force-new-cluster", "--yes"];
    let refused = world.on("a", &force).expect_error();
    assert!(refused.contains("have a quorum"), "{refused}");
    let usage = world.on("a", &["init", "--force-new-cluster"]);
    assert!(usage.code == Some(2) && usage.err.contains("--yes"), "{usage:?}");

    for name in ["b", "c"] {
        world.kill(name);
        lose_disk(&world, name);
    }
    assert!(world.write("a", "without-a-quorum", 10).is_err());
    world.on("a", &force).expect_ok();
    let found = wait("a answers", || world.written("a"));
    assert!(found.is_superset(&kept), "{found:?}");
    wait("writes go on", || world.write("a", "after", 10).ok());
    let nodes = world.json("a", &["node", "ls"]);
    let names: Vec<String> =
        nodes["nodes"].as_array().unwrap().iter().map(|node| text(&node["name"])).collect();
    assert_eq!(names, ["a"]);
    let pods = world.wait_for_pods("a", "hello", 3);
    assert!(pods.iter().all(|(_, node)| node == "a"), "{pods:?}");
    assert!(world.data_dir("a").join("store.before-force").exists(), "what was there is kept");
    let again = world.on("a", &force).expect_error();
    assert!(again.contains("only manager already"), "{again}");

    // New managers join, on new disks and under the names of those that were lost.
    for name in ["b", "c"] {
        world.start(name);
        world.join(name, "a", "manager").expect_ok();
    }
    world.wait_for_nodes("a", 3);
    verify(&world, "c", 3);
    // And it survives the loss of the one that was forced.
    world.kill("a");
    let found = wait("b and c answer", || world.written("b"));
    assert!(found.is_superset(&kept) && found.contains("after"), "{found:?}");
    world.start("a");
    world.wait_for_nodes("b", 3);
    let pods = world.wait_for_pods("b", "hello", 3);
    assert_eq!(pods.len(), 3, "{pods:?}");
}
