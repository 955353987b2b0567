//! Damaged files: told by name and offset, never believed, and with a way back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::world::{World, cluster, text, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn problem(world: &World, machine: &str) -> Option<String> {
    world.json_or_null(machine, &["status"])["problem"].as_str().map(str::to_owned)
}

/// Waits until a machine's daemon says what is wrong.
fn told(world: &World, machine: &str) -> String {
    wait(&format!("{machine} tells of its problem"), || problem(world, machine))
}

/// The newest file of a machine's log.
fn log_file(world: &World, machine: &str) -> PathBuf {
    let dir = world.data_dir(machine).join("store/log");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn half(path: &Path) -> usize {
    usize::try_from(fs::metadata(path).unwrap().len()).unwrap() / 2
}

#[test]
fn a_damaged_manager_of_three_says_so_and_comes_back_from_the_others() {
    let Some(world) = cluster(&NAMES) else { return };
    for number in 0..20 {
        world.write("a", &format!("kept-{number}"), 1000).unwrap();
    }
    let kept = world.written("a").unwrap();
    for what in ["log", "vote"] {
        world.kill("c");
        let (path, offsets) = if what == "log" {
            let path = log_file(&world, "c");
            let offset = half(&path);
            (path, vec![offset])
        } else {
            // It is kept twice.
            (world.data_dir("c").join("store/vote"), vec![30, 512 + 30])
        };
        for offset in offsets {
            flip(&path, offset);
        }
        world.start("c");
        let said = told(&world, "c");
        println!("{what}: {said}");
        assert!(said.contains(path.to_str().unwrap()), "names the file: {said}");
        assert!(said.contains("leave"), "tells the way back: {said}");
        let refused = world.on("c", &["ps"]).expect_error();
        assert!(refused.contains("damaged"), "{refused}");
        let again = world.join("c", "a", "manager").expect_error();
        assert!(again.contains("pontoon leave"), "{again}");
        world.write("a", &format!("without-c-after-{what}"), 10).unwrap();
        world.on("c", &["leave"]).expect_ok();
        world.join("c", "a", "manager").expect_ok();
        world.wait_for_nodes("a", 3);
        let found = wait("c answers", || world.written("c"));
        assert!(found.is_superset(&kept), "{found:?}");
        assert!(found.contains(&format!("without-c-after-{what}")));
    }
}

#[test]
fn a_manager_of_three_whose_log_lost_its_end_has_it_again_from_the_others() {
    let Some(world) = cluster(&NAMES) else { return };
    for number in 0..20 {
        world.write("a", &format!("kept-{number}"), 1000).unwrap();
    }
    world.kill("c");
    let log = log_file(&world, "c");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    let revision = |at: &str| world.json_or_null(at, &["status"])["revision"].as_u64();
    let newest = revision("a").unwrap();
    world.start("c");
    wait("c has all that the others have", || (revision("c")? >= newest).then_some(()));
    world.wait_for_nodes("a", 3);
    // With the two others away in turn, what c has counts.
    for away in ["a", "b"] {
        let kept = world.written("c").unwrap();
        world.kill(away);
        let found = wait("c and the other answer", || world.written("c"));
        assert!(found.is_superset(&kept) && kept.len() >= 20, "{found:?}");
        world.start(away);
        world.wait_for_nodes("c", 3);
    }
}

#[test]
fn a_single_manager_refuses_a_damaged_log_and_goes_on_with_what_a_crash_left() {
    let Some(world) = cluster(&["a"]) else { return };
    for number in 0..20 {
        world.write("a", &format!("kept-{number}"), 1000).unwrap();
    }
    let kept = world.written("a").unwrap();
    world.kill("a");
    let log = log_file(&world, "a");
    let offset = half(&log);
    flip(&log, offset);
    world.start("a");
    let said = told(&world, "a");
    assert!(said.contains(log.to_str().unwrap()) && said.contains("at byte"), "{said}");
    let leave = world.on("a", &["leave"]).expect_error();
    assert!(leave.contains("--force"), "{leave}");
    let init = world.on("a", &["init"]).expect_error();
    assert!(init.contains("already"), "{init}");
    // The bytes come back, as from a backup: the daemon goes on by itself.
    flip(&log, offset);
    wait("the daemon goes on", || problem(&world, "a").is_none().then_some(()));
    assert_eq!(wait("a answers", || world.written("a")), kept);
    world.kill("a");
    // As after a crash: the last record is half there. And a snapshot that is none.
    let last = world.data_dir("a").join("store/snapshots/00000000000fffff-0000000000000009.snap");
    fs::write(&last, b"no snapshot").unwrap();
    let log = log_file(&world, "a");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 7]).unwrap();
    world.start("a");
    let found = wait("a answers", || world.written("a"));
    assert_eq!(found, kept, "the last write was of another kind");
    assert!(!last.exists(), "the damaged snapshot is put aside");
    let said = fs::read_to_string(world.machine_dir("a").join("machine.log")).unwrap();
    assert!(said.contains("cut off the end of the log"), "the daemon says what it cut off");
}

#[test]
fn a_damaged_membership_file_is_told_and_not_believed() {
    let Some(world) = cluster(&["a"]) else { return };
    let path = world.data_dir("a").join("node.json");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    kill_daemon(&world, "a");
    let log = || fs::read_to_string(world.machine_dir("a").join("machine.log")).unwrap();
    wait("the daemon tells", || log().contains("node.json: it is damaged").then_some(()));
    fs::write(&path, &good).unwrap();
    wait("the daemon goes on", || {
        world.json_or_null("a", &["status"])["cluster"].is_string().then_some(())
    });
    wait("a answers", || world.written("a"));
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(world) = crate::world::machines(&["a"]) else { return };
    let store = world.data_dir("a").join("store");
    fs::create_dir_all(&store).unwrap();
    let store = store.to_str().unwrap();
    let small = ["mount", "-t", "tmpfs", "-o", "size=4m", "small", store];
    world.inside("a", &small).expect_ok();
    world.on("a", &["init"]).expect_ok();
    world.wait_for_nodes("a", 1);
    let mut count = 0;
    while world.write("a", &format!("big-{count}"), 100_000).is_ok() {
        count += 1;
        assert!(count < 1000, "a disk of 4 MB took {count} times 100 kB");
    }
    // The write on which the disk ran full may yet come about; those after it are refused outright.
    let refused = wait("writes are refused", || world.write("a", "refused", 10).err());
    println!("after {count} writes: {refused}");
    assert!(refused.contains("disk") && refused.contains("full"), "{refused}");
    let acknowledged: Vec<String> = (0..count).map(|number| format!("big-{number}")).collect();
    let said = told(&world, "a");
    assert!(said.contains("full"), "{said}");
    let holds_all = |found: &std::collections::BTreeSet<String>| {
        acknowledged.iter().all(|name| found.contains(name))
    };
    assert!(holds_all(&world.written("a").unwrap()), "reads go on");
    kill_daemon(&world, "a");
    let found = wait("a daemon that starts on a full disk answers", || world.written("a"));
    assert!(holds_all(&found));
    world.inside("a", &["mount", "-o", "remount,size=64m", store]).expect_ok();
    wait("writes go on", || world.write("a", "after", 10).ok());
    wait("there is no problem any more", || problem(&world, "a").is_none().then_some(()));
    let found = world.written("a").unwrap();
    assert!(holds_all(&found) && found.contains("after"));
}

pub(super) fn kill_daemon(world: &World, machine: &str) {
    let before = text(&world.json(machine, &["status"])["node"]);
    assert_eq!(before, machine);
    world.inside(machine, &["pkill", "-KILL", "-f", "pontoon daemon"]).expect_ok();
}
