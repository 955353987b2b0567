//! Starting a container's program, and commands in a running one.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::SystemTime;

use rustix::pipe::{PipeFlags, pipe_with};

use super::create::{check_cwd, env_strings, invalid, merge, search_path};
use super::{Answer, Containers};
use crate::error::Refusal;
use crate::info::{ContainerInfo, ContainerState};
use crate::protocol::{Response, StreamSet};
use crate::shim::container::Container;
use crate::shim::executor::{Program, c_strings};
use crate::shim::launch;
use crate::shim::passwd::{self, Account};
use crate::shim::rootfs::Root;
use crate::shim::setup::failed;
use crate::shim::streams::{self, Ends, Streams};
use crate::spec::{ExecSpec, User};

impl Containers {
    pub(super) fn start(&mut self, id: &str) -> Result<ContainerInfo, Refusal> {
        let container = self.get(id)?;
        container.require(ContainerState::Created, "started")?;
        let Some(starting) = container.starting.take() else {
            return Err(Refusal::Create("its start has failed before".into()));
        };
        container.place().with(launch::release)?;
        container.confirm_start(starting)?;
        let now = SystemTime::now();
        container.state = ContainerState::Running;
        container.started_at = Some(now);
        let info = container.info();
        self.note_start(id, now);
        Ok(info)
    }

    pub(super) fn exec(&mut self, id: &str, spec: ExecSpec) -> Result<Answer, Refusal> {
        let container = self.get(id)?;
        container.require(ContainerState::Running, "entered")?;
        let Some(name) = spec.argv.first().filter(|name| !name.is_empty()) else {
            return Err(Refusal::InvalidSpec("no program to run".into()));
        };
        let cwd = spec.cwd.as_deref().unwrap_or(&container.cwd);
        check_cwd(cwd)?;
        let cwd = if cwd.is_empty() { "/" } else { cwd };
        let account = account(container, spec.user.as_ref())?;
        let streams = Streams::make(spec.tty, spec.stdin, &account)
            .map_err(|e| failed("make the pipes", e))?;
        let (status, told) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("make the pipes", e))?;
        let env = environment(container, &spec, &account);
        let doors = container.group.doors()?;
        let program = Program {
            argv: c_strings(spec.argv.iter().cloned()).map_err(|e| invalid("arguments", &e))?,
            env: env_strings(&env)?,
            search: search_path(&env),
            doors: doors.iter().map(AsRawFd::as_raw_fd).collect(),
            status: told.as_raw_fd(),
            terminal: streams.terminal_socket(),
            filters: container.rights.filters.clone(),
            capabilities: container.rights.capabilities,
            attachments: Vec::new(),
        };
        let Streams { stdio, ends, .. } = streams;
        let pid =
            container.place().with(|place| launch::enter(place, program, stdio, &account, cwd))?;
        drop(told);
        streams::started(&status)
            .map_err(|reason| Refusal::Program { program: name.clone(), reason })?;
        let (set, descriptors) = hand_out(ends, spec.stdin)?;
        Ok(Answer { response: Response::Streams(set), descriptors, held: Some(pid) })
    }
}

fn account(container: &Container, user: Option<&User>) -> Result<Account, Refusal> {
    let Some(user) = user else { return Ok(container.account.clone()) };
    let root = Root::open(&container.dirs.root()).map_err(|e| failed("open the root", e))?;
    passwd::resolve(user, &root.text("/etc/passwd"), &root.text("/etc/group"))
}

fn environment(container: &Container, spec: &ExecSpec, account: &Account) -> Vec<(String, String)> {
    let mut env = container.env.clone();
    if spec.user.is_some() {
        let home = account.home.clone().unwrap_or_else(|| "/".into());
        merge(&mut env, &[("HOME".into(), home)]);
    }
    if spec.tty && !container.tty {
        merge(&mut env, &[("TERM".into(), "xterm".into())]);
    }
    merge(&mut env, &spec.env);
    env
}

/// Our ends of a command's streams, for the daemon to have.
fn hand_out(ends: Ends, stdin: bool) -> Result<(StreamSet, Vec<OwnedFd>), Refusal> {
    let Some(socket) = ends.terminal else {
        let set =
            StreamSet { stdin: ends.stdin.is_some(), stdout: true, stderr: true, terminal: false };
        return Ok((set, [ends.stdin, ends.stdout, ends.stderr].into_iter().flatten().collect()));
    };
    let lost = |e| failed("take the command's terminal", e);
    let master = streams::receive_terminal(&socket).map_err(lost)?;
    let mut descriptors = Vec::new();
    if stdin {
        descriptors.push(master.try_clone().map_err(lost)?);
    }
    descriptors.push(master.try_clone().map_err(lost)?);
    descriptors.push(master);
    Ok((StreamSet { stdin, stdout: true, stderr: false, terminal: true }, descriptors))
}
