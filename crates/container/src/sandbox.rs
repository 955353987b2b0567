//! A handle on one sandbox: each call is one question to its shim.

mod connection;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use connection::{Connection, SOCKET};

use crate::error::{Error, Result};
use crate::exec::{ExecExit, ExecInput, ExecOutput, ExecSession, Resizer, WindowSize};
use crate::info::{ContainerInfo, Stats};
use crate::protocol::{Request, Response, SandboxInfo, StreamSet};
use crate::runtime::Runtime;
use crate::spec::{ContainerSpec, ExecSpec, check_id};

/// A living sandbox. Clones are the same sandbox; dropping them all leaves it running.
#[derive(Clone, Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    run_dir: PathBuf,
    info: SandboxInfo,
    runtime: Runtime,
    removed: AtomicBool,
}

impl Sandbox {
    pub(crate) fn new(id: &str, run_dir: PathBuf, info: SandboxInfo, runtime: Runtime) -> Self {
        let id = id.to_owned();
        let removed = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { id, run_dir, info, runtime, removed }) }
    }

    /// The name given at creation.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The caller's own words, as given at creation.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.inner.info.labels
    }

    /// The shim's process id, seen from the daemon.
    pub fn pid(&self) -> u32 {
        self.inner.info.pid
    }

    /// The network namespace's file; good as long as the sandbox lives. The daemon's own with `host_network`.
    pub fn netns_path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// Makes a container, without starting its program. Nothing is left behind if it fails.
    pub async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        check_id(&spec.id)?;
        self.container(Request::Create(Box::new(spec))).await
    }

    /// Starts a created container's program. If that cannot be, the container is stopped and the error says why.
    pub async fn start(&self, container: &str) -> Result<ContainerInfo> {
        self.container(Request::Start(container.to_owned())).await
    }

    /// Sends a signal (1..=64) to a container's first process. A container that has stopped is no error.
    pub async fn kill(&self, container: &str, signal: i32) -> Result<()> {
        let id = container.to_owned();
        self.done(Request::Kill { id, signal, everything: false }).await
    }

    /// Sends a signal (1..=64) to every process in a container's cgroup.
    pub async fn kill_all(&self, container: &str, signal: i32) -> Result<()> {
        let id = container.to_owned();
        self.done(Request::Kill { id, signal, everything: true }).await
    }

    /// Ends a container if it runs, at once, and removes its files and cgroup; its log stays.
    pub async fn delete(&self, container: &str) -> Result<()> {
        self.done(Request::Delete(container.to_owned())).await
    }

    /// All containers, also stopped ones, by id.
    pub async fn list(&self) -> Result<Vec<ContainerInfo>> {
        match self.ask(&Request::List).await? {
            Response::Containers(containers) => Ok(containers),
            _ => Err(self.confused()),
        }
    }

    /// Runs a command in a running container, in its namespaces, cgroup and limits.
    pub async fn exec(&self, container: &str, spec: ExecSpec) -> Result<ExecSession> {
        let mut connection = self.open().await?;
        let request = Request::Exec { id: container.to_owned(), spec };
        let Response::Streams(set) = connection.ask(&request).await? else {
            return Err(self.confused());
        };
        let streams = self.streams(&mut connection, set)?;
        let Streams { stdin, stdout, stderr, resize } = streams;
        Ok(ExecSession { stdin, stdout, stderr, resize, exit: ExecExit { connection } })
    }

    /// The writing end of the stdin of a container made with `stdin` or `tty`. Its output is in its log.
    pub async fn attach(&self, container: &str) -> Result<ExecInput> {
        let mut connection = self.open().await?;
        let Response::Streams(set) = connection.ask(&Request::Attach(container.to_owned())).await?
        else {
            return Err(self.confused());
        };
        self.streams(&mut connection, set)?.stdin.ok_or_else(|| self.confused())
    }

    /// Sets the size of the terminal of a container made with `tty`.
    pub async fn resize(&self, container: &str, size: WindowSize) -> Result<()> {
        self.done(Request::Resize { id: container.to_owned(), size }).await
    }

    /// What a container uses now.
    pub async fn stats(&self, container: &str) -> Result<Stats> {
        match self.ask(&Request::Stats(container.to_owned())).await? {
            Response::Stats(stats) => Ok(stats),
            _ => Err(self.confused()),
        }
    }

    /// Ends all containers at once and removes everything: processes, namespaces, mounts, cgroups, directories.
    /// Logs stay. It is no error if the shim is dead already.
    pub async fn remove(self) -> Result<()> {
        self.inner.removed.store(true, Ordering::Release);
        match self.ask(&Request::Shutdown).await {
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(sandbox = self.id(), %error, "shim gone before it was ended")
            }
        }
        self.inner.runtime.remove_leavings(self.id()).await
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.inner.removed.load(Ordering::Acquire)
    }

    async fn open(&self) -> Result<Connection> {
        Connection::open(self.id(), &self.inner.run_dir).await
    }

    async fn ask(&self, request: &Request) -> Result<Response> {
        self.open().await?.ask(request).await
    }

    async fn done(&self, request: Request) -> Result<()> {
        match self.ask(&request).await? {
            Response::Done => Ok(()),
            _ => Err(self.confused()),
        }
    }

    async fn container(&self, request: Request) -> Result<ContainerInfo> {
        match self.ask(&request).await? {
            Response::Container(info) => Ok(info),
            _ => Err(self.confused()),
        }
    }

    fn confused(&self) -> Error {
        Error::Protocol(self.id().to_owned())
    }

    fn streams(&self, connection: &mut Connection, set: StreamSet) -> Result<Streams> {
        let gone = |source| Error::ShimGone { sandbox: self.id().to_owned(), source };
        let mut take = |wanted: bool| match wanted {
            false => Ok(None),
            true => connection.take_descriptor().map(Some).ok_or_else(|| self.confused()),
        };
        let (stdin, stdout) = (take(set.stdin)?, take(set.stdout)?);
        let (stderr, terminal) = (take(set.stderr)?, take(set.terminal)?);
        Ok(Streams {
            stdin: stdin.map(ExecInput::new).transpose().map_err(gone)?,
            stdout: stdout.map(ExecOutput::new).transpose().map_err(gone)?,
            stderr: stderr.map(ExecOutput::new).transpose().map_err(gone)?,
            resize: terminal.map(Resizer::new),
        })
    }
}

struct Streams {
    stdin: Option<ExecInput>,
    stdout: Option<ExecOutput>,
    stderr: Option<ExecOutput>,
    resize: Option<Resizer>,
}
