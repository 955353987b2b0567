//! What the daemon can ask for, done.

mod create;
mod run;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

use super::container::Container;
use super::setup::{Sandbox, failed};
use crate::error::Refusal;
use crate::exec::WindowSize;
use crate::info::{ContainerState, Exit};
use crate::kernel;
use crate::protocol::{Happening, Request, Response, SandboxInfo, StreamSet};
use crate::seccomp;

/// A killed process is gone in milliseconds unless the kernel holds it, for example on a dead network disk.
const DEATH: Duration = Duration::from_secs(10);

/// An answer and the descriptors that go with it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) descriptors: Vec<OwnedFd>,
    /// The command that the asking connection holds from now on.
    pub(super) held: Option<Pid>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self { response, descriptors: Vec::new(), held: None }
    }
}

/// The sandbox's containers and what belongs to all of them.
#[derive(Debug)]
pub(super) struct Containers {
    pub(super) sandbox: Sandbox,
    pub(super) all: BTreeMap<String, Container>,
    /// SIGCHLD, as a descriptor.
    pub(super) signals: nix::sys::signalfd::SignalFd,
    /// The first process of the shared pid namespace, once a container wants one.
    pub(super) pause: Option<Pid>,
    /// Filters by the capabilities they are made for.
    pub(super) filters: BTreeMap<u64, Rc<Vec<BpfProgram>>>,
    /// What happened and is not told yet.
    pub(super) happened: Vec<Happening>,
    /// Commands that ended and are not told yet.
    pub(super) ended: Vec<(Pid, Exit)>,
}

impl Containers {
    pub(super) fn answer(&mut self, request: Request) -> Result<Answer, Refusal> {
        Ok(match request {
            Request::Info => Response::Info(SandboxInfo {
                pid: std::process::id(),
                labels: self.sandbox.boot.spec.labels.clone(),
            })
            .into(),
            Request::Create(spec) => Response::Container(self.create(*spec)?).into(),
            Request::Start(id) => Response::Container(self.start(&id)?).into(),
            Request::Kill { id, signal, everything } => self.kill(&id, signal, everything)?.into(),
            Request::Delete(id) => self.delete(&id)?.into(),
            Request::List => {
                Response::Containers(self.all.values().map(Container::info).collect()).into()
            }
            Request::Exec { id, spec } => self.exec(&id, spec)?,
            Request::Attach(id) => self.attach(&id)?,
            Request::Resize { id, size } => self.resize(&id, size)?.into(),
            Request::Stats(id) => Response::Stats(self.get(&id)?.group.stats()).into(),
            Request::Subscribe => Response::Done.into(),
            Request::Shutdown => self.shut_down()?.into(),
        })
    }

    pub(super) fn get(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        self.all.get_mut(id).ok_or_else(|| Refusal::NoContainer(id.to_owned()))
    }

    /// The default profile for a set of capabilities; made once.
    pub(super) fn filters_for(
        &mut self,
        capabilities: CapabilitySet,
    ) -> Result<Rc<Vec<BpfProgram>>, Refusal> {
        if let Some(made) = self.filters.get(&capabilities.bits()) {
            return Ok(Rc::clone(made));
        }
        let made = Rc::new(seccomp::default_profile(capabilities)?);
        self.filters.insert(capabilities.bits(), Rc::clone(&made));
        Ok(made)
    }

    fn kill(&mut self, id: &str, signal: i32, everything: bool) -> Result<Response, Refusal> {
        if !(1..=64).contains(&signal) {
            return Err(Refusal::InvalidSpec(format!("there is no signal {signal}")));
        }
        let container = self.get(id)?;
        if everything {
            container.group.signal(signal);
        }
        if let Some(pid) =
            container.pid.filter(|_| !everything || container.state == ContainerState::Created)
        {
            kernel::kill(pid, signal).map_err(|e| failed("send the signal", e))?;
        }
        Ok(Response::Done)
    }

    fn delete(&mut self, id: &str) -> Result<Response, Refusal> {
        self.get(id)?;
        self.end(id)?;
        let container = self.get(id)?;
        container.outputs.clear();
        container.group.remove()?;
        container.dirs.remove()?;
        self.all.remove(id);
        Ok(Response::Done)
    }

    /// Kills a container and waits for its end.
    fn end(&mut self, id: &str) -> Result<(), Refusal> {
        let deadline = Instant::now() + DEATH;
        while let Some(pid) = self.get(id)?.pid {
            kernel::kill(pid, libc::SIGKILL).map_err(|e| failed("kill the container", e))?;
            self.reap();
            if self.get(id)?.pid.is_none() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed("end the container", "the kernel does not let it go"));
            }
            let timeout = Timespec::try_from(left).map_err(|e| failed("wait", e))?;
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
            // Interrupted or not, the loop looks again.
            let _awake = poll(&mut fds, Some(&timeout));
            self.clear_signals();
        }
        Ok(())
    }

    pub(super) fn clear_signals(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
    }

    /// Takes note of every child that has ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.ended_child(pid, status);
        }
    }

    fn ended_child(&mut self, pid: Pid, status: WaitStatus) {
        if self.pause == Some(pid) {
            self.pause = None;
        } else if let Some(container) = self.all.values_mut().find(|c| c.pid == Some(pid)) {
            let exit = container.finish(status);
            self.happened.push(Happening::Exited { container: container.id.clone(), exit });
        } else {
            self.ended.push((pid, super::container::exit_of(status)));
        }
    }

    fn attach(&mut self, id: &str) -> Result<Answer, Refusal> {
        let container = self.get(id)?;
        let open = container.terminal.as_ref().or(container.stdin.as_ref());
        let Some(stdin) = open else {
            return Err(Refusal::InvalidSpec(format!("container {id} has no open stdin")));
        };
        let stdin = stdin.try_clone().map_err(|e| failed("share the stdin", e))?;
        let set = StreamSet { stdin: true, ..StreamSet::default() };
        Ok(Answer { response: Response::Streams(set), descriptors: vec![stdin], held: None })
    }

    fn resize(&mut self, id: &str, size: WindowSize) -> Result<Response, Refusal> {
        let container = self.get(id)?;
        let Some(terminal) = &container.terminal else {
            return Err(Refusal::InvalidSpec(format!("container {id} has no terminal")));
        };
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).map_err(|e| failed("resize", e))?;
        Ok(Response::Done)
    }

    /// Ends everything. What cannot be removed here the daemon tries again.
    fn shut_down(&mut self) -> Result<Response, Refusal> {
        let mut result = Ok(());
        for id in self.all.keys().cloned().collect::<Vec<_>>() {
            result = result.and(self.delete(&id).map(drop));
        }
        if let Some(pid) = self.pause.take() {
            kernel::kill(pid, libc::SIGKILL).map_err(|e| failed("end the pause process", e))?;
        }
        result.and(self.sandbox.group.remove())?;
        Ok(Response::Done)
    }

    pub(super) fn note_start(&mut self, id: &str, at: SystemTime) {
        self.happened.push(Happening::Started { container: id.to_owned(), at });
    }
}
