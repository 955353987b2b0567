//! Whether containers can be limited on this machine: told before one is made, in words that say what to do.

use std::fs;
use std::path::Path;

use rustix::fs::Access;

use super::detect::{Hierarchies, Hierarchy};
use super::group;
use crate::error::Refusal;

/// What every pod needs: its share of the CPUs, and its memory's limit.
const NEEDED: [&str; 2] = ["cpu", "memory"];

impl Hierarchies {
    /// Makes the group below which sandboxes get theirs, and looks whether they can be limited there.
    pub(crate) fn check(&self, parent: &str) -> Result<(), Refusal> {
        for controller in NEEDED {
            let hierarchy = self.of(controller).ok_or_else(|| missing(controller))?;
            let dir = hierarchy.mount.join(parent);
            writable(&dir, &hierarchy.mount)?;
            if hierarchy.v2 && is_passed_down(hierarchy, parent, controller).is_err() {
                group::delegate(hierarchy, &format!("{parent}/any"));
                is_passed_down(hierarchy, parent, controller)?;
            }
        }
        Ok(())
    }
}

fn missing(controller: &str) -> Refusal {
    Refusal::Cgroup(format!(
        "this machine has no {controller} controller: mount its cgroup hierarchy (`mount -t cgroup2 none \
         /sys/fs/cgroup`), and start its kernel without `cgroup_disable={controller}`"
    ))
}

fn writable(dir: &Path, mount: &Path) -> Result<(), Refusal> {
    // The mount is looked at first: what cannot be written to because of it is no fault of the group.
    let access = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).map_err(Into::into);
    access(mount).and_then(|()| fs::create_dir_all(dir)).and_then(|()| access(dir)).map_err(|e| {
        Refusal::Cgroup(format!(
            "no groups can be made below {dir}: {e}: make the mount writable (`mount -o remount,rw {mount}`)",
            dir = dir.display(),
            mount = mount.display(),
        ))
    })
}

/// Whether each group from the mount down to `parent` passes the controller on to those below it.
fn is_passed_down(hierarchy: &Hierarchy, parent: &str, controller: &str) -> Result<(), Refusal> {
    let mut dir = hierarchy.mount.clone();
    let parts = parent.split('/').filter(|part| !part.is_empty());
    for next in parts.map(Some).chain([None]) {
        let file = dir.join("cgroup.subtree_control");
        let passed = fs::read_to_string(&file).unwrap_or_default();
        if !passed.split_whitespace().any(|passed| passed == controller) {
            return Err(Refusal::Cgroup(format!(
                "{} does not pass the {controller} controller on: write `+{controller}` to it; a group that holds \
                 processes must give them to a group below it first",
                file.display()
            )));
        }
        dir.extend(next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(mount: &Path, controllers: &[&str], v2: bool) -> Hierarchy {
        let controllers = controllers.iter().map(|&c| c.to_owned()).collect();
        Hierarchy { mount: mount.to_owned(), controllers, v2 }
    }

    fn complaint(all: Vec<Hierarchy>) -> Option<String> {
        Hierarchies(all).check("pontoon/n1").err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_controller_that_is_missing_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let told = complaint(vec![hierarchy(temp.path(), &["cpu", "cpuacct"], false)]).unwrap();
        assert!(
            told.contains("no memory controller") && told.contains("mount -t cgroup2"),
            "{told}"
        );
        let told = complaint(vec![]).unwrap();
        assert!(told.contains("no cpu controller"), "{told}");
        let (cpu, memory) = (temp.path().join("cpu"), temp.path().join("memory"));
        for dir in [&cpu, &memory] {
            fs::create_dir(dir).unwrap();
        }
        let all = vec![hierarchy(&cpu, &["cpu"], false), hierarchy(&memory, &["memory"], false)];
        assert_eq!(complaint(all), None);
        assert!(memory.join("pontoon/n1").is_dir());
    }

    #[test]
    fn a_group_that_passes_nothing_on_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let unified = hierarchy(temp.path(), &["cpu", "memory"], true);
        let groups = ["", "pontoon", "pontoon/n1"].map(|group| temp.path().join(group));
        fs::create_dir_all(&groups[2]).unwrap();
        for (group, passed) in groups.iter().zip(["cpu memory", "memory", "cpu memory"]) {
            fs::write(group.join("cgroup.subtree_control"), passed).unwrap();
        }
        assert_eq!(is_passed_down(&unified, "pontoon/n1", "memory"), Ok(()));
        let told = is_passed_down(&unified, "pontoon/n1", "cpu").unwrap_err().to_string();
        assert!(told.contains("pontoon/cgroup.subtree_control does not pass the cpu"), "{told}");
    }
}
