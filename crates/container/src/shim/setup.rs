//! Becoming a sandbox: session, namespaces, host name, kernel parameters, cgroup.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::READY;
use crate::cgroup::{Group, Hierarchies};
use crate::error::Refusal;
use crate::kernel;
use crate::protocol::Boot;
use crate::spec::SandboxSpec;

const SHM_BYTES: u64 = 64 << 20;
/// What of `/proc/sys` belongs to the sandbox's own namespaces.
const OWN_SYSCTLS: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// The sandbox that this process has become.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) boot: Boot,
    pub(super) hierarchies: Hierarchies,
    pub(super) group: Group,
    /// What there is to give to containers.
    pub(super) capabilities: CapabilitySet,
}

impl Sandbox {
    /// `/dev/shm` of all containers.
    pub(super) fn shm(&self) -> PathBuf {
        self.boot.run_dir.join("shm")
    }
}

pub(super) fn enter(boot: Boot) -> Result<Sandbox, Refusal> {
    // Executed by descriptor, it would be called by the descriptor's number.
    rustix::thread::set_name(c"pontoon-shim").map_err(|e| failed("take a name", e))?;
    rustix::process::setsid().map_err(|e| failed("start a session", e))?;
    // Orphans of containers in a shared pid namespace are reaped here.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("become the reaper", e))?;
    let capabilities = rustix::thread::capabilities(None)
        .map_err(|e| failed("read the capabilities", e))?
        .permitted;
    let hierarchies = Hierarchies::detect().map_err(|e| failed("find the cgroups", e))?;
    let group = Group::create(&hierarchies, &boot.cgroup)?;
    group.limit(&boot.spec.cgroup)?;
    namespaces(&boot.spec)?;
    sysctls(&boot.spec)?;
    let sandbox = Sandbox { boot, hierarchies, group, capabilities };
    shared_memory(&sandbox)?;
    Ok(sandbox)
}

fn namespaces(spec: &SandboxSpec) -> Result<(), Refusal> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, !spec.host_network);
    flags.set(UnshareFlags::NEWIPC, !spec.host_ipc);
    kernel::unshare(flags).map_err(|e| failed("make the namespaces", e))?;
    // Mounts of the machine still arrive here, for volumes; those made here stay here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| failed("separate the mounts", e))?;
    if !spec.host_network {
        kernel::loopback_up().map_err(|e| failed("set the loopback interface up", e))?;
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes())
            .map_err(|e| failed("set the host name", e))?;
    }
    Ok(())
}

fn sysctls(spec: &SandboxSpec) -> Result<(), Refusal> {
    for (name, value) in &spec.sysctls {
        let of_host = if name.starts_with("net.") { spec.host_network } else { spec.host_ipc };
        let own = !of_host && OWN_SYSCTLS.iter().any(|prefix| name.starts_with(prefix));
        let clean = !name.contains('/') && !name.contains("..");
        if !own || !clean {
            return Err(Refusal::InvalidSpec(format!("sysctl {name} is not the sandbox's own")));
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(|e| failed(&format!("set {name} to {value}"), e))?;
    }
    Ok(())
}

fn shared_memory(sandbox: &Sandbox) -> Result<(), Refusal> {
    let dir = sandbox.shm();
    std::fs::create_dir_all(&dir).map_err(|e| failed("make the shm directory", e))?;
    let options = format!("mode=1777,size={SHM_BYTES}\0");
    let options = std::ffi::CStr::from_bytes_until_nul(options.as_bytes())
        .map_err(|e| failed("mount shm", e))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", &dir, "tmpfs", flags, Some(options)).map_err(|e| failed("mount shm", e))
}

/// Says that all is ready, and lets go of the daemon's pipes; stderr stays the shim's log.
pub(super) fn detach_stdio() -> io::Result<()> {
    let mut stdout = io::stdout();
    // A daemon that died in between finds the shim again.
    let _unread = stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush());
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    Ok(())
}

pub(super) fn failed(action: &str, error: impl std::fmt::Display) -> Refusal {
    Refusal::System { action: action.to_owned(), reason: error.to_string() }
}
