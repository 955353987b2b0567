//! Removing the cgroups that a machine's processes left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes the cgroup `parent` with all below it from every hierarchy. Groups that still hold a dying
/// process are tried again by the caller.
///
/// # Errors
/// When a group cannot be removed.
pub(crate) fn remove(parent: &str) -> io::Result<()> {
    for root in roots()? {
        remove_tree(&root.join(parent))?;
    }
    Ok(())
}

/// The mount points of all cgroup hierarchies.
fn roots() -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let is_cgroup =
        |line: &&str| line.split_once(" - ").is_some_and(|(_, tail)| tail.starts_with("cgroup"));
    let mount_point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    Ok(table.lines().filter(is_cgroup).filter_map(mount_point).collect())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
