//! Creating processes in containers, by libcontainer, in a fork of the shim that ends when the process is there.
//!
//! The fork keeps libcontainer's memory out of the shim, survives its panics, and lets it see no cgroups: it would
//! move the process through every hierarchy of the machine, reading all mounts for each. Ours are entered by the
//! process itself (see `executor`). What is created is a child of the shim, not of the fork.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::executor::Program;
use super::passwd::Account;
use super::setup::failed;
use crate::error::Refusal;
use crate::kernel;

const CGROUPS: &str = "/sys/fs/cgroup";
/// A longer complaint is cut.
const MAX_COMPLAINT: usize = 2000;

/// The three standard streams of what is created.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Where libcontainer finds and keeps things of one container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) id: &'a str,
    /// Holds `config.json`.
    pub(super) bundle: &'a Path,
    /// libcontainer's own notes, one directory a container.
    pub(super) notes: &'a Path,
}

/// Creates a container that waits to be started, and gives its first process.
pub(super) fn create(place: Place<'_>, program: Program, stdio: Stdio) -> Result<Pid, Refusal> {
    in_fork(move || {
        let container = builder(place, program, stdio)?
            .as_init(place.bundle)
            .with_systemd(false)
            .with_detach(true)
            .as_sibling(true)
            .build()
            .map_err(|e| explain(&e))?;
        container.pid().map(|pid| pid.as_raw()).ok_or_else(|| "it has no process".to_owned())
    })
}

/// Starts a command in a running container.
pub(super) fn enter(
    place: Place<'_>,
    program: Program,
    stdio: Stdio,
    account: &Account,
    cwd: &str,
) -> Result<Pid, Refusal> {
    in_fork(move || {
        let argv = program.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let pid = builder(place, program, stdio)?
            .as_tenant()
            .with_detach(true)
            .as_sibling(true)
            .with_container_args(argv)
            .with_env(HashMap::new())
            .with_cwd(Some(cwd))
            .with_user(Some(account.uid))
            .with_group(Some(account.gid))
            .with_additional_gids(account.groups.clone())
            .build()
            .map_err(|e| explain(&e))?;
        Ok(pid.as_raw())
    })
}

/// Lets a created container's program start.
pub(super) fn release(place: Place<'_>) -> Result<(), Refusal> {
    libcontainer::container::Container::load(place.notes.join(place.id))
        .and_then(|mut container| container.start())
        .map_err(|e| Refusal::Create(explain(&e)))
}

fn builder(place: Place<'_>, program: Program, stdio: Stdio) -> Result<ContainerBuilder, String> {
    Ok(ContainerBuilder::new(place.id.to_owned(), SyscallType::default())
        .with_root_path(place.notes)
        .map_err(|e| explain(&e))?
        .with_executor(program)
        .with_stdin(stdio.stdin)
        .with_stdout(stdio.stdout)
        .with_stderr(stdio.stderr))
}

/// An error with its causes, which libcontainer's `Display` leaves out.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.truncate(text.floor_char_boundary(MAX_COMPLAINT));
    text
}

/// Runs `work` in a fork and waits for its answer: a process id or a complaint.
fn in_fork(work: impl FnOnce() -> Result<i32, String>) -> Result<Pid, Refusal> {
    let (mut here, mut there) = UnixStream::pair().map_err(|e| failed("make a socket pair", e))?;
    let helper = kernel::fork(|| {
        let answer = match hide_cgroups().map_err(|e| e.to_string()).and_then(|()| work()) {
            Ok(pid) => pid.to_string(),
            Err(complaint) => format!("!{complaint}"),
        };
        i32::from(there.write_all(answer.as_bytes()).is_err())
    });
    let helper = helper.map_err(|e| failed("fork", e))?;
    // It has ended before its answer is read: what it created holds the same socket open, so there is no end of file.
    let ended = rustix::process::waitpid(Some(helper), WaitOptions::empty());
    ended.map_err(|e| failed("wait for the fork", e))?;
    here.set_nonblocking(true).map_err(|e| failed("read the fork's answer", e))?;
    let mut answer = [0; MAX_COMPLAINT + 1];
    let got = here.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..got]);
    if let Some(complaint) = answer.strip_prefix('!') {
        return Err(Refusal::Create(complaint.to_owned()));
    }
    answer
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Refusal::Create("the process that creates it died".to_owned()))
}

/// In the fork: a mount namespace of its own, in which libcontainer finds a machine without controllers.
fn hide_cgroups() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    kernel::unshare(UnshareFlags::NEWNS)?;
    match unmount(CGROUPS, UnmountFlags::DETACH) {
        // EINVAL: it is not a mount.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(mount("none", CGROUPS, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)?)
}
