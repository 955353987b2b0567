//! Ending what runs in a group and removing it with all groups below.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::detect::Hierarchies;

/// A killed process leaves its group when it is reaped; 2 s in all, with growing pauses.
const PAUSES_MS: [u64; 9] = [0, 1, 2, 5, 20, 70, 200, 500, 1200];

impl Hierarchies {
    /// Kills every process in the group and below, in every hierarchy, and removes the directories.
    pub(crate) fn kill_and_remove(&self, group: &str) -> io::Result<()> {
        let mut result = Ok(());
        for hierarchy in &self.0 {
            let dir = hierarchy.mount.join(group);
            result = result.and(kill_and_remove(&dir));
        }
        result
    }

    /// Removes a group and the groups above it as far as they are empty.
    pub(crate) fn remove_empty(&self, group: &str) {
        for hierarchy in &self.0 {
            let mut dir = hierarchy.mount.join(group.trim_matches('/'));
            while dir != hierarchy.mount && fs::remove_dir(&dir).is_ok() && dir.pop() {}
        }
    }
}

fn kill_and_remove(dir: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for pause in PAUSES_MS {
        std::thread::sleep(Duration::from_millis(pause));
        last = remove_tree(dir);
        if last.is_ok() {
            return Ok(());
        }
        for pid in processes_below(dir) {
            // Gone already is as good.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
    last
}

/// Directories from the bottom up; the files in them are the kernel's.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Everyone in a group and the groups below it.
pub(super) fn processes_below(dir: &Path) -> Vec<Pid> {
    let mut pids: Vec<Pid> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect();
    for child in children(dir) {
        pids.extend(processes_below(&child));
    }
    pids
}
