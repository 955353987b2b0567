//! A container: root filesystem, program, limits, rights; and a command to run in one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ResourceLimits;

/// What a container is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name inside the sandbox: 1 to 128 of `a-z A-Z 0-9 _ . -`.
    pub id: String,
    /// The files it starts from.
    pub rootfs: Rootfs,
    /// The program and its arguments; the program is looked up in the `PATH` of `env` if it has no slash.
    pub argv: Vec<String>,
    /// The environment. `PATH`, `HOME`, `HOSTNAME` (if the sandbox has one) and, with a terminal, `TERM` are added if missing.
    pub env: Vec<(String, String)>,
    /// The working directory, made if missing; empty is `/`.
    pub cwd: String,
    /// Who its program runs as.
    pub user: User,
    /// Directories, files and memory filesystems put into the root filesystem, in this order.
    pub mounts: Vec<Mount>,
    /// Its own limits, inside those of the sandbox.
    pub limits: ResourceLimits,
    /// What it may do.
    pub security: Security,
    /// Give it a terminal as stdin, stdout and stderr.
    pub tty: bool,
    /// Keep its stdin open for `Sandbox::attach`; otherwise it reads end of file.
    pub stdin: bool,
    /// Where its output goes.
    pub log: LogConfig,
    /// Which processes it sees.
    pub pid_namespace: PidNamespace,
    /// A `/dev/shm` of its own, of so many bytes; when absent, the sandbox's, of 64 MiB, which the others share.
    pub shm_bytes: Option<u64>,
}

/// A root filesystem: read-only layers and a writable one on top, made by us and removed with the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Unpacked layer directories, the lowest first; 1 to 128, absolute.
    pub layers: Vec<PathBuf>,
}

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// By number, with supplementary groups. Nothing is looked up.
    Ids { uid: u32, gid: u32, groups: Vec<u32> },
    /// As in an image's `USER`: `user`, `uid`, `user:group`, `uid:gid`, or empty for root; looked up in the image's
    /// `/etc/passwd` and `/etc/group`, supplementary groups too. `groups` are added to those.
    Named { user: String, groups: Vec<u32> },
}

impl Default for User {
    fn default() -> Self {
        Self::Ids { uid: 0, gid: 0, groups: Vec::new() }
    }
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path inside the container, absolute; made if missing, never outside the root filesystem.
    pub target: String,
    /// What is mounted there.
    pub kind: MountKind,
    /// Refuse writes.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or file of the daemon's machine, with the mounts below it.
    Bind {
        /// Absolute; it must exist.
        source: PathBuf,
    },
    /// Memory, empty at first.
    Tmpfs {
        /// At most this many bytes; `None` is half of the machine's memory.
        size_bytes: Option<u64>,
        /// Permission bits of its root, such as 0o1777.
        mode: u32,
    },
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, no filter, nothing masked.
    pub privileged: bool,
    /// Capabilities over the default set, as `NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set; `ALL` takes all. What is added is added afterwards.
    pub cap_drop: Vec<String>,
    /// Programs with set-uid bits gain nothing.
    pub no_new_privileges: bool,
    /// The root filesystem refuses writes; mounts decide for themselves.
    pub read_only_root: bool,
    /// Which system calls are let through.
    pub seccomp: SeccompProfile,
}

/// Which system calls are let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// Docker's and containerd's default list.
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// Where a container's output goes: lines of the form `2026-11-23T05:30:08.123456789Z stdout F text`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The file, appended to; its directory is made. `None` throws output away.
    pub path: Option<PathBuf>,
    /// A file larger than this is renamed to `<path>.1` and so on; 0 is 10 MiB.
    pub max_bytes: u64,
    /// How many files there are at most, the current one included; 0 is 5.
    pub max_files: u32,
}

/// Which processes a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Its own only.
    #[default]
    Own,
    /// Those of all containers of the sandbox that say so, too.
    Sandbox,
    /// All of the daemon's.
    Host,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<(String, String)>,
    /// The working directory; the container's when absent.
    pub cwd: Option<String>,
    /// Who it runs as; the container's user when absent.
    pub user: Option<User>,
    /// Give it a terminal; then `stderr` is part of `stdout`.
    pub tty: bool,
    /// Give it a stdin; otherwise it reads end of file.
    pub stdin: bool,
}
