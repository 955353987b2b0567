//! A sandbox: the namespaces and the cgroup that a set of containers shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a sandbox is made of. It always has its own mount namespace; the others are shared by its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The sandbox's name among those of one `Runtime`: 1 to 128 of `a-z A-Z 0-9 _ . -`.
    pub id: String,
    /// The host name inside; at most 64 bytes. Empty keeps the daemon's.
    pub hostname: String,
    /// Use the daemon's network namespace instead of an own one.
    pub host_network: bool,
    /// Use the daemon's pid namespace for all containers, whatever they ask for.
    pub host_pid: bool,
    /// Use the daemon's IPC namespace instead of an own one.
    pub host_ipc: bool,
    /// Kernel parameters, `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem` or `fs.mqueue.*`, of the sandbox's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Words of the caller's, given back by `Sandbox::labels`; never looked at. At most 256 KiB in all.
    pub labels: BTreeMap<String, String>,
    /// Limits of all containers together.
    pub cgroup: ResourceLimits,
}

/// Limits of a cgroup. `None` is no limit (or the kernel's default).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// The share of the CPU when it is contended, 2..=262144, where 1024 is one CPU asked for.
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, microseconds, at least 1000.
    pub cpu_quota_us: Option<u64>,
    /// The period of the quota, microseconds, 1000..=1000000; 100000 when absent.
    pub cpu_period_us: Option<u64>,
    /// Memory in bytes, swap included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}
