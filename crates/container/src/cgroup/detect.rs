//! Which cgroup hierarchies this machine has, read from `/proc/self/mountinfo`.

use std::io;
use std::path::{Path, PathBuf};

/// The v1 controllers that are used; the others are left alone, because each costs a move of every process.
const V1_CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "devices"];

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// The v1 controllers of it that are used; all controllers, by the kernel's names, on v2.
    pub(crate) controllers: Vec<String>,
    /// It is the unified one.
    pub(crate) v2: bool,
}

/// The hierarchies in which groups are made. A controller is in exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies(pub(crate) Vec<Hierarchy>);

impl Hierarchies {
    pub(crate) fn detect() -> io::Result<Self> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::from_mountinfo(&mountinfo, |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// `v2_controllers` reads what the unified hierarchy owns.
    fn from_mountinfo(mountinfo: &str, v2_controllers: impl Fn(&Path) -> String) -> Self {
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some(hierarchy) = hierarchy(line, &v2_controllers) else { continue };
            let again =
                |h: &Hierarchy| h.v2 == hierarchy.v2 && h.controllers == hierarchy.controllers;
            if !found.iter().any(again) {
                found.push(hierarchy);
            }
        }
        // A unified hierarchy beside v1 without controllers of use counts nothing and limits nothing. It restricts
        // devices where v1 does not.
        let has = |h: &Hierarchy, names: &[&str]| {
            h.controllers.iter().any(|controller| names.contains(&controller.as_str()))
        };
        if found.iter().any(|h| !h.v2 && has(h, &["devices"])) {
            found.retain(|h| !h.v2 || has(h, &["cpu", "memory", "pids"]));
        }
        Self(found)
    }

    /// The hierarchy that has a controller, by its v2 name (`cpu`, `memory`, `pids`).
    pub(crate) fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }
}

fn hierarchy(line: &str, v2_controllers: impl Fn(&Path) -> String) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mount: PathBuf = unescape(left.split(' ').nth(4)?).into();
    let mut right = right.split(' ');
    let (kind, super_options) = (right.next()?, right.nth(1)?);
    match kind {
        "cgroup2" => {
            let controllers =
                v2_controllers(&mount).split_whitespace().map(str::to_owned).collect();
            Some(Hierarchy { mount, controllers, v2: true })
        }
        "cgroup" => {
            let controllers: Vec<_> = super_options
                .split(',')
                .filter(|option| V1_CONTROLLERS.contains(option))
                .map(str::to_owned)
                .collect();
            (!controllers.is_empty()).then_some(Hierarchy { mount, controllers, v2: false })
        }
        _ => None,
    }
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\040` and so on.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (code, char) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(code, char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
37 30 0:32 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
34 30 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
36 30 0:28 / /some\\040where/memory rw,relatime - cgroup cgroup rw,memory
";

    fn mounts(hierarchies: &Hierarchies) -> Vec<String> {
        hierarchies
            .0
            .iter()
            .map(|h| format!("{}={}", h.mount.display(), h.controllers.join("+")))
            .collect()
    }

    #[test]
    fn hybrid_takes_each_v1_controller_once_and_no_empty_v2() {
        let found = Hierarchies::from_mountinfo(HYBRID, |_| "hugetlb\n".into());
        assert_eq!(
            mounts(&found),
            [
                "/sys/fs/cgroup/cpu=cpu+cpuacct",
                "/sys/fs/cgroup/memory=memory",
                "/sys/fs/cgroup/pids=pids",
                "/sys/fs/cgroup/devices=devices"
            ]
        );
        assert_eq!(found.of("pids").unwrap().mount, Path::new("/sys/fs/cgroup/pids"));
    }

    #[test]
    fn hybrid_takes_each_controller_where_it_is() {
        let found = Hierarchies::from_mountinfo(HYBRID, |_| "cpu hugetlb\n".into());
        assert!(mounts(&found).contains(&"/sys/fs/cgroup/unified=cpu+hugetlb".to_owned()));
        // Nobody else restricts devices.
        let without = HYBRID.replace("rw,devices", "rw,freezer");
        let found = Hierarchies::from_mountinfo(&without, |_| "hugetlb\n".into());
        assert!(mounts(&found).contains(&"/sys/fs/cgroup/unified=hugetlb".to_owned()));
    }

    #[test]
    fn unified_is_one_hierarchy() {
        let line = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let found = Hierarchies::from_mountinfo(line, |_| "cpuset cpu io memory pids\n".into());
        assert_eq!(mounts(&found), ["/sys/fs/cgroup=cpuset+cpu+io+memory+pids"]);
        assert!(found.of("memory").unwrap().v2);
    }

    #[test]
    fn odd_lines_are_skipped() {
        let found = Hierarchies::from_mountinfo("x\n1 2 - cgroup\n\n", |_| String::new());
        assert_eq!(found, Hierarchies::default());
    }
}
