//! The last steps inside a container before its program: cgroup, terminal, signals, filter, rights, execve.
//!
//! libcontainer calls this in the container's first process, after the root filesystem is in place and the user is set.

use std::collections::HashMap;
use std::ffi::{CString, NulError};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;

use super::view::{self, Attachments};
use crate::kernel;

const DEVPTS_MAGIC: i64 = 0x1cd1;
/// The shell's codes for "found but not executable" and "not found".
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// A program that is about to replace this process. Descriptors are by number, because they cross a fork.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// Where it is looked for if its name has no slash.
    pub(super) search: String,
    /// `cgroup.procs`, opened for writing by the shim.
    pub(super) doors: Vec<RawFd>,
    /// Told why the program could not be started; closed by its start.
    pub(super) status: RawFd,
    /// Where the terminal's master goes, if it is to have a terminal.
    pub(super) terminal: Option<RawFd>,
    pub(super) filters: Rc<Vec<BpfProgram>>,
    pub(super) capabilities: CapabilitySet,
    /// Mounts that it puts in place first.
    pub(super) attachments: Attachments,
}

/// Text for the kernel.
pub(super) fn c_strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, NulError> {
    texts.into_iter().map(CString::new).collect()
}

impl Executor for Program {
    /// The first call of ours: from here on the process is inside its cgroup and dies with the shim.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.settle().map_err(|e| {
            ExecutorValidationError::ArgValidationError(format!("cannot settle in the cgroup: {e}"))
        })
    }

    /// The environment is given to execve itself.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let (code, error) = match self.prepare() {
            Ok(()) => self.replace(),
            Err(error) => (NOT_EXECUTABLE, error),
        };
        // If the shim is gone, this process is about to be, too.
        let _shim_gone = rustix::io::write(kernel::lend(self.status), error.to_string().as_bytes());
        kernel::exit_now(code)
    }
}

impl Program {
    fn settle(&self) -> io::Result<()> {
        for door in &self.doors {
            rustix::io::write(kernel::lend(*door), b"0")?;
        }
        view::attach(&self.attachments)?;
        Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
    }

    fn prepare(&self) -> io::Result<()> {
        if let Some(socket) = self.terminal {
            open_terminal(socket)?;
        }
        kernel::reset_signals();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is kept until here for that.
        for filter in self.filters.iter() {
            kernel::install_filter(filter)?;
        }
        let sets = CapabilitySets {
            effective: self.capabilities,
            permitted: self.capabilities,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)?;
        // A change of rights forgets it.
        Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
    }

    /// Returns only if it failed: the exit code, and why.
    fn replace(&self) -> (i32, io::Error) {
        let name = &self.argv[0];
        let mut worst = nix::errno::Errno::ENOENT;
        for path in self.candidates(name) {
            let Err(errno) = nix::unistd::execve(&path, &self.argv, &self.env);
            // One that is there but cannot be run says more than the ones that are not there.
            if !matches!(errno, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) {
                worst = errno;
            }
        }
        let code = if worst == nix::errno::Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
        (code, worst.into())
    }

    fn candidates(&self, name: &CString) -> Vec<CString> {
        if name.as_bytes().contains(&b'/') {
            return vec![name.clone()];
        }
        let join = |dir: &str| {
            let mut path = if dir.is_empty() { b"./".to_vec() } else { dir.as_bytes().to_vec() };
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            CString::new(path).ok()
        };
        self.search.split(':').filter_map(join).collect()
    }
}

/// Makes a terminal of the container's own devpts this process's stdin, stdout and stderr, and hands its master out.
fn open_terminal(socket: RawFd) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    check_multiplexer(&master)?;
    rustix::pty::unlockpt(&master)?;
    let terminal = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    kernel::take_terminal(&terminal)?;
    nix::unistd::dup2_stdin(&terminal)?;
    nix::unistd::dup2_stdout(&terminal)?;
    nix::unistd::dup2_stderr(&terminal)?;
    hand_over(socket, &master)
}

/// The container may have put something else there (CVE-2025-52565).
fn check_multiplexer(master: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(master)?;
    let real = rustix::fs::fstatfs(master)?.f_type as i64 == DEVPTS_MAGIC
        && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device()
        && stat.st_rdev == rustix::fs::makedev(5, 2);
    if real { Ok(()) } else { Err(io::Error::other("/dev/pts/ptmx is not what it should be")) }
}

fn hand_over(socket: RawFd, master: &OwnedFd) -> io::Result<()> {
    let fds = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let byte = [IoSlice::new(b"t")];
    sendmsg(kernel::lend(socket), &byte, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
