//! The daemon's side: makes sandboxes, finds those of an earlier daemon again, tells what happens in them.

mod leavings;
mod spawn;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::cgroup::Hierarchies;
use crate::error::{Error, Result};
use crate::info::Event;
use crate::protocol::{Boot, Happening, Request, Response, SandboxInfo};
use crate::sandbox::{Connection, Sandbox};
use crate::spec::{SandboxSpec, check_id};
use leavings::Leftovers;

/// How many events a slow listener may lag behind before it loses the oldest.
const EVENT_BUFFER: usize = 1024;

/// Where a runtime keeps its things. Nothing is written outside these, so many runtimes share a kernel.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Survives a reboot: writable layers. Best on the disk of the image layers.
    pub state_dir: PathBuf,
    /// Sockets and mount points; may be on a tmpfs.
    pub run_dir: PathBuf,
    /// Under each cgroup hierarchy's mount, such as `pontoon/node-1`; no other runtime may have the same.
    pub cgroup_parent: String,
    /// The binary whose `main` calls `shim::run_if_shim`; `/proc/self/exe` for the own one.
    pub exe: PathBuf,
}

/// Makes and finds sandboxes. Clones are the same runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: RuntimeConfig,
    exe: spawn::ShimExe,
    events: broadcast::Sender<Event>,
    leftovers: Leftovers,
}

impl Runtime {
    /// Makes the directories. Starts nothing.
    pub fn new(config: RuntimeConfig) -> Result<Self> {
        let exe = spawn::ShimExe::open(&config.exe)?;
        for dir in [config.state_dir.join("sandboxes"), config.run_dir.join("sandboxes")] {
            make_dir(&dir)?;
        }
        let (events, _) = broadcast::channel(EVENT_BUFFER);
        let leftovers = Leftovers::default();
        Ok(Self { inner: Arc::new(Inner { config, exe, events, leftovers }) })
    }

    /// Whether the machine's cgroups can limit what this runtime makes, as far as can be told without making it. The
    /// error says what to do. To be asked now and then: mounts change.
    pub fn check_cgroups(&self) -> Result<()> {
        Ok(hierarchies()?.check(self.inner.config.cgroup_parent.trim_matches('/'))?)
    }

    /// What happens from now on in this runtime's sandboxes, recovered ones included. After `Lagged`, list again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Starts a shim and so the sandbox's namespaces. If it fails, nothing is left behind but perhaps a leftover.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        check_id(&spec.id)?;
        self.remove_leftover(&spec.id).await?;
        let boot = self.boot(spec);
        let id = boot.spec.id.clone();
        make_new_dir(&boot.run_dir, &id)?;
        match self.start_shim(&boot).await {
            Ok(sandbox) => Ok(sandbox),
            Err(error) => {
                // What cannot be removed is told and kept as a leftover.
                drop(self.remove_leavings(&id).await);
                Err(error)
            }
        }
    }

    async fn start_shim(&self, boot: &Boot) -> Result<Sandbox> {
        make_dir(&boot.state_dir)?;
        self.inner.exe.spawn(boot).await?;
        self.connect(&boot.spec.id).await
    }

    /// Finds the sandboxes whose shims live, and removes what dead shims left: processes, cgroups, directories. What
    /// cannot be removed holds nobody up: it becomes a leftover. To be called before the first `create_sandbox`.
    pub async fn recover(&self) -> Result<Vec<Sandbox>> {
        let mut found = Vec::new();
        for id in self.known_ids()? {
            match self.connect(&id).await {
                Ok(sandbox) => found.push(sandbox),
                Err(error) => {
                    tracing::info!(sandbox = id, %error, "removing a dead sandbox");
                    drop(self.remove_leavings(&id).await);
                }
            }
        }
        Ok(found)
    }

    /// Removes the runtime's own directories and cgroup, if they hold no sandbox any more: for a node that leaves.
    pub async fn release(&self) -> Result<()> {
        let config = &self.inner.config;
        for dir in [&config.run_dir, &config.state_dir] {
            leavings::remove_empty(&dir.join("sandboxes"))?;
            leavings::remove_empty(dir)?;
        }
        hierarchies()?.remove_empty(&config.cgroup_parent);
        Ok(())
    }

    /// Speaks to the shim for the first time and listens to what happens there.
    async fn connect(&self, id: &str) -> Result<Sandbox> {
        let run_dir = self.run_dir(id);
        let mut subscription = Connection::open(id, &run_dir).await?;
        let info = match subscribe(id, &mut subscription).await {
            Ok(info) => info,
            Err(error) => {
                subscription.kill_shim();
                return Err(error);
            }
        };
        let sandbox = Sandbox::new(id, run_dir, info, self.clone());
        tokio::spawn(relay(subscription, sandbox.clone(), self.inner.events.clone()));
        Ok(sandbox)
    }

    fn boot(&self, spec: SandboxSpec) -> Boot {
        Boot {
            run_dir: self.run_dir(&spec.id),
            state_dir: self.state_dir(&spec.id),
            cgroup: self.cgroup(&spec.id),
            spec,
        }
    }

    fn run_dir(&self, id: &str) -> PathBuf {
        self.inner.config.run_dir.join("sandboxes").join(id)
    }

    /// Where a sandbox keeps what must survive a reboot: its containers' writable layers.
    pub fn state_dir(&self, id: &str) -> PathBuf {
        self.inner.config.state_dir.join("sandboxes").join(id)
    }

    fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.inner.config.cgroup_parent.trim_matches('/'))
    }
}

/// The cgroup hierarchies as they are mounted now: an operator may mount them after this runtime has begun, and a shim
/// looks for itself.
fn hierarchies() -> Result<Hierarchies> {
    Hierarchies::detect().map_err(|source| Error::File {
        action: "read",
        path: "/proc/self/mountinfo".into(),
        source,
    })
}

async fn subscribe(id: &str, shim: &mut Connection) -> Result<SandboxInfo> {
    let answers = (shim.ask(&Request::Info).await?, shim.ask(&Request::Subscribe).await?);
    match answers {
        (Response::Info(info), Response::Done) => Ok(info),
        _ => Err(Error::Protocol(id.to_owned())),
    }
}

/// Passes a shim's events on until it is gone.
async fn relay(mut from: Connection, sandbox: Sandbox, to: broadcast::Sender<Event>) {
    let name = || sandbox.id().to_owned();
    while let Ok(response) = from.next().await {
        let event = match response {
            Response::Event(Happening::Started { container, at }) => {
                Event::Started { sandbox: name(), container, at }
            }
            Response::Event(Happening::Exited { container, exit }) => {
                Event::Exited { sandbox: name(), container, exit }
            }
            _ => break,
        };
        // Nobody listening is fine: whoever starts to listen lists first.
        drop(to.send(event));
    }
    if !sandbox.is_removed() {
        drop(to.send(Event::SandboxDied { sandbox: name() }));
    }
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::File {
        action: "make directory",
        path: path.into(),
        source,
    })
}

fn make_new_dir(path: &Path, id: &str) -> Result<()> {
    std::fs::create_dir(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::SandboxExists(id.to_owned()),
        _ => Error::File { action: "make directory", path: path.into(), source },
    })
}
