//! One local machine as it is written down, and what can be done with it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// What a machine runs under its init, and starts again whenever it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// Whether a machine's power is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    Running,
    Stopped,
}

/// A machine: its place on the disk, its address, and its processes while it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    /// Its address on the machines' bridge.
    pub address: Ipv4Net,
    /// The bridge's address, the machine's default route.
    pub gateway: Ipv4Addr,
    pub bridge: String,
    /// Parent of the cgroups that may be made in it.
    pub cgroup_parent: String,
    /// What its program is told beside what all are.
    #[serde(default)]
    pub args: Vec<String>,
    pub(crate) keeper: Option<Process>,
    pub(crate) init: Option<Process>,
    #[serde(skip)]
    pub(crate) dir: PathBuf,
}

impl Machine {
    /// State that survives a power-off.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Sockets; emptied when the machine starts.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// What the daemon prints.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("machine.log")
    }

    /// Where the machine keeps everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it runs.
    #[must_use]
    pub fn state(&self) -> MachineState {
        match &self.init {
            Some(init) if init.is_alive() => MachineState::Running,
            _ => MachineState::Stopped,
        }
    }

    /// The id, outside, of the machine's process 1 while it runs.
    #[must_use]
    pub fn init_pid(&self) -> Option<u32> {
        let init = self.init.filter(Process::is_alive)?;
        u32::try_from(init.pid).ok()
    }

    /// Whether it runs with its network cable pulled.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", self.cable()));
        let flags = flags
            .ok()
            .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
        // IFF_UP of `linux/if.h`.
        self.state() == MachineState::Running && flags.is_some_and(|flags| flags & 1 == 0)
    }

    /// Name of the host's end of its network cable.
    #[must_use]
    pub fn cable(&self) -> String {
        format!("{}-{}", self.bridge, self.address.addr().octets()[3])
    }
}
