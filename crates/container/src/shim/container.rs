//! One container as the shim holds it, from its creation to its removal.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::SystemTime;

use rustix::process::{Pid, WaitStatus};
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

use super::launch::Place;
use super::log::{Log, Stream};
use super::output::{Output, Progress};
use super::passwd::Account;
use super::rootfs::Dirs;
use super::setup::failed;
use super::streams::{self, Ends};
use crate::cgroup::Group;
use crate::error::Refusal;
use crate::info::{ContainerInfo, ContainerState, Exit};
use crate::spec::PidNamespace;

/// A dead container's pipes hold no more chunks than this.
const LAST_CHUNKS: usize = 16;

/// What every program in a container may do.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub(super) capabilities: CapabilitySet,
    pub(super) filters: Rc<Vec<BpfProgram>>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) program: String,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: String,
    pub(super) tty: bool,
    pub(super) pid_namespace: PidNamespace,
    pub(super) dirs: Dirs,
    pub(super) group: Group,
    pub(super) account: Account,
    pub(super) rights: Rights,
    pub(super) state: ContainerState,
    pub(super) pid: Option<Pid>,
    pub(super) exit: Option<Exit>,
    pub(super) started_at: Option<SystemTime>,
    pub(super) log: Log,
    pub(super) outputs: Vec<Output>,
    /// The writing end of its stdin.
    pub(super) stdin: Option<OwnedFd>,
    /// Its terminal's master.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) starting: Option<Starting>,
}

/// What is needed once, at the start.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) status: OwnedFd,
    pub(super) terminal: Option<UnixStream>,
}

impl Container {
    pub(super) fn place(&self) -> PlaceOf {
        PlaceOf { id: self.id.clone(), dirs: self.dirs.clone() }
    }

    pub(super) fn info(&self) -> ContainerInfo {
        ContainerInfo {
            id: self.id.clone(),
            state: self.state,
            pid: self.pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()),
            uid: self.account.uid,
            exit: self.exit,
            started_at: self.started_at,
            finished_at: self.exit.map(|exit| exit.at),
        }
    }

    pub(super) fn require(&self, state: ContainerState, wanted: &str) -> Result<(), Refusal> {
        if self.state == state {
            return Ok(());
        }
        Err(Refusal::WrongState {
            id: self.id.clone(),
            state: self.state.to_string(),
            wanted: wanted.to_owned(),
        })
    }

    /// Takes our ends of its pipes.
    pub(super) fn connect(&mut self, ends: Ends) -> io::Result<Option<UnixStream>> {
        for (fd, stream) in [(ends.stdout, Stream::Stdout), (ends.stderr, Stream::Stderr)] {
            self.outputs.extend(fd.map(|fd| Output::new(fd, stream)).transpose()?);
        }
        self.stdin = ends.stdin;
        Ok(ends.terminal)
    }

    /// Waits until its program runs. A program that cannot leaves the process to be reaped.
    pub(super) fn confirm_start(&mut self, starting: Starting) -> Result<(), Refusal> {
        let refused = |reason| Refusal::Program { program: self.program.clone(), reason };
        streams::started(&starting.status).map_err(refused)?;
        if let Some(socket) = starting.terminal {
            let attach = |error: io::Error| failed("take the container's terminal", error);
            let master = streams::receive_terminal(&socket).map_err(attach)?;
            let reader = master.try_clone().map_err(attach)?;
            self.outputs.push(Output::new(reader, Stream::Stdout).map_err(attach)?);
            self.terminal = Some(master);
        }
        Ok(())
    }

    /// Moves what is there of one output to the log, and forgets an output that has ended.
    pub(super) fn pump(&mut self, fd: i32) {
        let Some(index) = self.outputs.iter().position(|output| output.fd.as_raw_fd() == fd) else {
            return;
        };
        if self.outputs[index].pump(&mut self.log) == Progress::End {
            self.outputs.swap_remove(index);
        }
    }

    /// Its first process has ended: notes how, after the last of its output is in the log.
    pub(super) fn finish(&mut self, status: WaitStatus) -> Exit {
        let log = &mut self.log;
        self.outputs.retain(|output| {
            let last = (0..LAST_CHUNKS).map(|_| output.pump(log)).find(|p| *p != Progress::More);
            last != Some(Progress::End)
        });
        if self.pid_namespace != PidNamespace::Own {
            // Nothing else ends the others: their pid namespace lives on.
            self.group.signal(libc::SIGKILL);
        }
        let mut exit = exit_of(status);
        exit.oom_killed = exit.code != 0 && self.group.oom_kills() > 0;
        self.state = ContainerState::Stopped;
        self.pid = None;
        self.exit = Some(exit);
        self.stdin = None;
        exit
    }
}

/// Owned, so that it can be lent to a fork.
#[derive(Debug)]
pub(super) struct PlaceOf {
    id: String,
    dirs: Dirs,
}

impl PlaceOf {
    pub(super) fn new(id: &str, dirs: &Dirs) -> Self {
        Self { id: id.to_owned(), dirs: dirs.clone() }
    }

    pub(super) fn with<T>(&self, use_it: impl FnOnce(Place<'_>) -> T) -> T {
        let notes = self.dirs.notes();
        use_it(Place { id: &self.id, bundle: &self.dirs.run, notes: &notes })
    }
}

/// What waitpid said, as an exit that the kernel's memory killer had no part in.
pub(super) fn exit_of(status: WaitStatus) -> Exit {
    let signal = status.terminating_signal();
    let code = status.exit_status().or(signal.map(|signal| 128 + signal)).unwrap_or(255);
    Exit { code, signal, oom_killed: false, at: SystemTime::now() }
}
