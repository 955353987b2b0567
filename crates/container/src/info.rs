//! What a sandbox tells about its containers: state, exits, use of resources.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, its program not started yet.
    Created,
    /// Its program runs.
    Running,
    /// Its program ended; logs and exit are kept until `delete`.
    Stopped,
}

impl std::fmt::Display for ContainerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        })
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, 0..=255; 128 + the signal's number when a signal ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The kernel killed something in the container for lack of memory, and the program failed.
    pub oom_killed: bool,
    /// When the shim saw it.
    pub at: SystemTime,
}

/// One container as its shim sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// The id given at creation.
    pub id: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// The process id in the daemon's pid namespace while it is created or running.
    pub pid: Option<u32>,
    /// The user id that its program runs as, after names were looked up in the image.
    pub uid: u32,
    /// How it ended, once stopped.
    pub exit: Option<Exit>,
    /// When its program was started.
    pub started_at: Option<SystemTime>,
    /// When its program ended.
    pub finished_at: Option<SystemTime>,
}

/// What a container uses now. A counter that the machine cannot give is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time used so far, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory charged, bytes, page cache included.
    pub memory_usage_bytes: u64,
    /// Memory charged without inactive page cache, bytes: what eviction and `kubectl top` look at.
    pub memory_working_set_bytes: u64,
    /// The memory limit in bytes; 0 when there is none.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How often the kernel killed a process of it for lack of memory.
    pub oom_kills: u64,
}

/// Something that happened in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container's program was started.
    Started { sandbox: String, container: String, at: SystemTime },
    /// A container's program ended.
    Exited { sandbox: String, container: String, exit: Exit },
    /// The shim died without being asked to: all containers of the sandbox are dead. `recover` removes what is left.
    SandboxDied { sandbox: String },
}
