//! The daemon needs no program but its own file: a cluster without PATH.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::{World, machines_with, wait};

#[test]
fn no_other_program_is_executed() {
    let Some(world) = machines_with(&["a", "b"], "PATH", "") else { return };
    let spaces = ["a", "b"].map(|machine| {
        let init = init_pid(&world, machine);
        fs::read_link(format!("/proc/{init}/ns/pid")).unwrap()
    });
    let own = fs::metadata(format!("/proc/{}/exe", init_pid(&world, "a"))).unwrap().len();
    let (seen, done) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for space in &spaces {
                    seen.lock().unwrap().extend(executed_in(space));
                }
            }
        });
        world.on("a", &["init"]).expect_ok();
        world.join("b", "a", "worker").expect_ok();
        world.wait_for_nodes("a", 2);
        world.on("a", &["run", "hello", "--replicas", "4", "--port", "80:8080"]).expect_ok();
        let pods = world.wait_for_pods("a", "hello", 4);
        wait("the service answers", || {
            (world.answers("a", &pods[0].0, "http://hello/", 4).len() == 4).then_some(())
        });
        world.on("b", &["leave"]).expect_ok();
        world.on("a", &["leave", "--force"]).expect_ok();
        done.store(true, Ordering::Relaxed);
    });
    let seen = seen.into_inner().unwrap();
    let shown = seen.iter().map(|(path, _)| path.as_str()).collect::<BTreeSet<_>>();
    assert!(shown.iter().any(|path| path.starts_with("/pontoon")), "no pod was seen: {shown:?}");
    // In containers, and when it is copied before it is executed, the file has other names, but its length.
    let foreign: Vec<_> = seen.iter().filter(|(_, length)| *length != own).collect();
    assert!(foreign.is_empty(), "executed besides this file of {own} bytes: {foreign:?}");
}

fn init_pid(world: &World, machine: &str) -> u64 {
    let list = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let all = list["machines"].as_array().unwrap();
    let pid = all.iter().find(|m| m["name"] == machine).unwrap()["pid"].as_u64().unwrap();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let path = environment.split(|byte| *byte == 0).find(|word| word.starts_with(b"PATH="));
    assert_eq!(path, Some(&b"PATH="[..]), "the machine's PATH is empty");
    pid
}

/// What the processes of a PID namespace, or of one right below it, execute now: name and length.
fn executed_in(space: &Path) -> BTreeSet<(String, u64)> {
    let is_inside = |dir: &Path| {
        // The shims' pods have PID namespaces of their own; their parents' cgroup and mounts are the machine's.
        let own = fs::read_link(dir.join("ns/pid")).ok();
        let children = fs::read_link(dir.join("ns/pid_for_children")).ok();
        [own, children].iter().flatten().any(|found| found == space)
    };
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let dir = entry.path();
        if is_inside(&dir) || parent(&dir).is_some_and(|parent| is_inside(&parent)) {
            // One that ended meanwhile has no link any more.
            let exe = dir.join("exe");
            let Ok(length) = fs::metadata(&exe).map(|file| file.len()) else { continue };
            found.extend(fs::read_link(exe).map(|exe| (exe.display().to_string(), length)));
        }
    }
    found
}

fn parent(dir: &Path) -> Option<std::path::PathBuf> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?;
    Some(Path::new("/proc").join(parent))
}
