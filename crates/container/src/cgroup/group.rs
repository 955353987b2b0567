//! One group: a directory of the same name in every hierarchy that matters.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::detect::{Hierarchies, Hierarchy};
use super::{device, remove};
use crate::error::Refusal;
use crate::info::Stats;
use crate::kernel;
use crate::spec::ResourceLimits;

const DEFAULT_PERIOD_US: u64 = 100_000;

/// A group that exists. It is removed by `remove`, not by dropping it: it may outlive its process.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    hierarchies: Hierarchies,
    name: String,
}

impl Group {
    /// Makes the directories, and on v2 passes the controllers down to them.
    pub(crate) fn create(hierarchies: &Hierarchies, name: &str) -> Result<Self, Refusal> {
        let group = Self { hierarchies: hierarchies.clone(), name: name.to_owned() };
        for hierarchy in &hierarchies.0 {
            let dir = group.dir(hierarchy);
            fs::create_dir_all(&dir).map_err(|e| refusal("make", &dir, &e))?;
            if hierarchy.v2 {
                delegate(hierarchy, name);
            }
        }
        Ok(group)
    }

    fn dir(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(&self.name)
    }

    fn file(&self, controller: &str, v1: &str, v2: &str) -> Option<PathBuf> {
        let hierarchy = self.hierarchies.of(controller)?;
        Some(self.dir(hierarchy).join(if hierarchy.v2 { v2 } else { v1 }))
    }

    /// Sets the limits; one that is asked for and cannot be is an error, never silently none.
    pub(crate) fn limit(&self, limits: &ResourceLimits) -> Result<(), Refusal> {
        if let Some(bytes) = limits.memory_bytes {
            self.set("memory", "memory.limit_in_bytes", "memory.max", &bytes.to_string())?;
            self.forbid_swap(bytes);
        }
        if let Some(pids) = limits.pids {
            self.set("pids", "pids.max", "pids.max", &pids.to_string())?;
        }
        if let Some(shares) = limits.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            match self.hierarchies.of("cpu").is_some_and(|h| h.v2) {
                true => self.set("cpu", "", "cpu.weight", &weight(shares).to_string())?,
                false => self.set("cpu", "cpu.shares", "", &shares.to_string())?,
            }
        }
        let period = limits.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US);
        if let Some(quota) = limits.cpu_quota_us {
            match self.hierarchies.of("cpu").is_some_and(|h| h.v2) {
                true => self.set("cpu", "", "cpu.max", &format!("{quota} {period}"))?,
                false => {
                    self.set("cpu", "cpu.cfs_period_us", "", &period.to_string())?;
                    self.set("cpu", "cpu.cfs_quota_us", "", &quota.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// A limit means memory, not memory and as much swap again. Kernels without swap accounting lack the files.
    fn forbid_swap(&self, bytes: u64) {
        let Some(hierarchy) = self.hierarchies.of("memory") else { return };
        let (file, value) = match hierarchy.v2 {
            true => ("memory.swap.max", "0".to_owned()),
            false => ("memory.memsw.limit_in_bytes", bytes.to_string()),
        };
        let _no_accounting = write(&self.dir(hierarchy).join(file), &value);
    }

    /// One process too many in memory ends the whole container, as the kubelet has it; v1 has no such thing.
    pub(crate) fn kill_together(&self) {
        if let Some(hierarchy) = self.hierarchies.of("memory").filter(|h| h.v2) {
            let _old_kernel = write(&self.dir(hierarchy).join("memory.oom.group"), "1");
        }
    }

    /// Lets the group use only the devices that a container may have.
    pub(crate) fn restrict_devices(&self) -> Result<(), Refusal> {
        if let Some(hierarchy) = self.hierarchies.of("devices") {
            let dir = self.dir(hierarchy);
            let deny = dir.join("devices.deny");
            write(&deny, "a").map_err(|e| refusal("write", &deny, &e))?;
            let allow = dir.join("devices.allow");
            for rule in device::v1_rules() {
                write(&allow, &rule).map_err(|e| refusal("write", &allow, &e))?;
            }
        } else if let Some(hierarchy) = self.hierarchies.0.iter().find(|h| h.v2) {
            let dir = self.dir(hierarchy);
            device::attach(&dir).map_err(|e| refusal("attach the device filter to", &dir, &e))?;
        }
        Ok(())
    }

    fn set(&self, controller: &str, v1: &str, v2: &str, value: &str) -> Result<(), Refusal> {
        let Some(path) = self.file(controller, v1, v2) else {
            return Err(Refusal::Cgroup(format!("this machine has no {controller} controller")));
        };
        write(&path, value).map_err(|e| refusal("write", &path, &e))
    }

    /// `cgroup.procs` of every hierarchy, open: a process that writes `0` moves itself.
    pub(crate) fn doors(&self) -> Result<Vec<File>, Refusal> {
        let open = |hierarchy: &Hierarchy| {
            let path = self.dir(hierarchy).join("cgroup.procs");
            OpenOptions::new().write(true).open(&path).map_err(|e| refusal("open", &path, &e))
        };
        self.hierarchies.0.iter().map(open).collect()
    }

    /// Sends a signal to everyone inside.
    pub(crate) fn signal(&self, signal: i32) {
        let Some(hierarchy) = self.hierarchies.0.first() else { return };
        for pid in remove::processes_below(&self.dir(hierarchy)) {
            // Gone already is as good.
            let _gone = kernel::kill(pid, signal);
        }
    }

    /// How often the kernel killed a process in here for lack of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let path = self.file("memory", "memory.oom_control", "memory.events");
        path.map_or(0, |path| field(&read(&path), "oom_kill"))
    }

    pub(crate) fn stats(&self) -> Stats {
        let number = |controller, v1, v2| {
            let path = self.file(controller, v1, v2)?;
            read(&path).trim().parse::<u64>().ok()
        };
        let cpu_usage_ns = match self.hierarchies.of("cpuacct") {
            Some(_) => number("cpuacct", "cpuacct.usage", "").unwrap_or(0),
            None => self
                .file("cpu", "", "cpu.stat")
                .map_or(0, |path| field(&read(&path), "usage_usec") * 1000),
        };
        let usage = number("memory", "memory.usage_in_bytes", "memory.current").unwrap_or(0);
        let detail = self
            .file("memory", "memory.stat", "memory.stat")
            .map_or(String::new(), |path| read(&path));
        let inactive = field(&detail, "total_inactive_file").max(field(&detail, "inactive_file"));
        let limit = number("memory", "memory.limit_in_bytes", "memory.max").unwrap_or(0);
        Stats {
            cpu_usage_ns,
            memory_usage_bytes: usage,
            memory_working_set_bytes: usage.saturating_sub(inactive),
            // v1 says "no limit" with a number near the end of the range.
            memory_limit_bytes: if limit > 1 << 62 { 0 } else { limit },
            pids: number("pids", "pids.current", "pids.current").unwrap_or(0),
            oom_kills: self.oom_kills(),
        }
    }

    /// Kills who is left inside and removes the group.
    pub(crate) fn remove(&self) -> Result<(), Refusal> {
        self.hierarchies
            .kill_and_remove(&self.name)
            .map_err(|e| Refusal::Cgroup(format!("cannot remove {}: {e}", self.name)))
    }

    /// Where a container finds its own numbers: (name below `/sys/fs/cgroup`, directory outside).
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        let mut views = Vec::new();
        for hierarchy in &self.hierarchies.0 {
            let dir = self.dir(hierarchy);
            match hierarchy.v2 {
                true => views.push((String::new(), dir)),
                false => views.push((hierarchy.controllers.join(","), dir)),
            }
        }
        views
    }
}

/// Passes the controllers down to the group's parent directories. One that the machine refuses is missed when a limit
/// is set, with a clear error.
pub(super) fn delegate(hierarchy: &Hierarchy, name: &str) {
    let mut dir = hierarchy.mount.clone();
    for part in name.split('/').filter(|part| !part.is_empty()) {
        for controller in ["cpu", "memory", "pids"] {
            if hierarchy.controllers.iter().any(|c| c == controller) {
                let _missed_later =
                    write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
            }
        }
        dir.push(part);
    }
}

/// The kernel's and runc's conversion of shares (2..=262144) to weight (1..=10000).
fn weight(shares: u64) -> u64 {
    1 + (shares - 2) * 9999 / 262_142
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after a word at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or(0)
}

fn refusal(action: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::Cgroup(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weight() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn fields_are_whole_words() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(field(events, "oom_kill"), 2);
        assert_eq!(field(events, "oom"), 3);
        assert_eq!(field(events, "absent"), 0);
    }
}
