//! What the agent needs of the container runtime, as traits, so that a pod's life can be tested without one.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_container::{
    ContainerInfo, ContainerSpec, ExecSession, ExecSpec, Result, Runtime, Sandbox, SandboxSpec,
    Stats,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// As much of a command's output as is kept for an event.
const MOST_OUTPUT_BYTES: u64 = 10 * 1024;

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

/// Makes sandboxes.
#[async_trait]
pub(crate) trait Engine: Send + Sync + 'static {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Arc<dyn Cell>>;
    /// Removes what is left of a dead sandbox that could not be removed before; nothing may be.
    async fn clear(&self, sandbox: &str) -> Result<()>;
}

/// One sandbox and its containers.
#[async_trait]
pub(crate) trait Cell: Send + Sync + 'static {
    fn pid(&self) -> u32;
    fn netns(&self) -> PathBuf;
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo>;
    async fn start(&self, container: &str) -> Result<ContainerInfo>;
    async fn kill(&self, container: &str, signal: i32) -> Result<()>;
    async fn kill_all(&self, container: &str, signal: i32) -> Result<()>;
    async fn delete(&self, container: &str) -> Result<()>;
    async fn list(&self) -> Result<Vec<ContainerInfo>>;
    async fn exec(&self, container: &str, spec: ExecSpec) -> Result<ExecSession>;
    /// Runs a command to its end. Dropping the future kills it.
    async fn run(&self, container: &str, argv: Vec<String>) -> Result<Ran>;
    async fn stats(&self, container: &str) -> Result<Stats>;
    async fn remove(&self) -> Result<()>;
}

#[async_trait]
impl Engine for Runtime {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Arc<dyn Cell>> {
        Ok(Arc::new(Self::create_sandbox(self, spec).await?))
    }

    async fn clear(&self, sandbox: &str) -> Result<()> {
        self.remove_leftover(sandbox).await
    }
}

#[async_trait]
impl Cell for Sandbox {
    fn pid(&self) -> u32 {
        Self::pid(self)
    }

    fn netns(&self) -> PathBuf {
        self.netns_path()
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        Self::create(self, spec).await
    }

    async fn start(&self, container: &str) -> Result<ContainerInfo> {
        Self::start(self, container).await
    }

    async fn kill(&self, container: &str, signal: i32) -> Result<()> {
        Self::kill(self, container, signal).await
    }

    async fn kill_all(&self, container: &str, signal: i32) -> Result<()> {
        Self::kill_all(self, container, signal).await
    }

    async fn delete(&self, container: &str) -> Result<()> {
        Self::delete(self, container).await
    }

    async fn list(&self) -> Result<Vec<ContainerInfo>> {
        Self::list(self).await
    }

    async fn exec(&self, container: &str, spec: ExecSpec) -> Result<ExecSession> {
        Self::exec(self, container, spec).await
    }

    async fn run(&self, container: &str, argv: Vec<String>) -> Result<Ran> {
        let spec = ExecSpec { argv, ..ExecSpec::default() };
        let ExecSession { stdout, stderr, exit, .. } = Self::exec(self, container, spec).await?;
        // Read beside the wait: a full pipe would keep the command from ending.
        let (output, errors, exit) = tokio::join!(head(stdout), head(stderr), exit.wait());
        Ok(Ran { code: exit?.code, output: output + &errors })
    }

    async fn stats(&self, container: &str) -> Result<Stats> {
        Self::stats(self, container).await
    }

    async fn remove(&self) -> Result<()> {
        Self::remove(self.clone()).await
    }
}

/// The beginning of a stream as text; the rest is read and thrown away.
async fn head(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    // A stream that breaks has given what it had.
    let read = (&mut stream).take(MOST_OUTPUT_BYTES).read_to_end(&mut bytes).await;
    if read.is_ok() {
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
