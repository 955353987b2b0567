//! A runtime with its own directories and cgroups, removed and checked to be gone at the end of each test.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pontoon_container::{
    ContainerInfo, ContainerSpec, Event, ExecSpec, Exit, LogConfig, Rootfs, Runtime, RuntimeConfig,
    Sandbox, SandboxSpec,
};
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::Receiver;

/// Nothing here takes long; a test that hangs says so.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program's name in the containers.
pub(crate) const PROGRAM: &str = "/payload";

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
}

pub(crate) struct Fixture {
    pub(crate) runtime: Runtime,
    pub(crate) events: Receiver<Event>,
    pub(crate) config: RuntimeConfig,
    pub(crate) layer: PathBuf,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Long on purpose: a socket address has room for 108 bytes.
        let dir = tempfile::Builder::new().prefix(&"long-".repeat(24)).tempdir().unwrap();
        let layer = dir.path().join("layer");
        std::fs::create_dir_all(layer.join("etc")).unwrap();
        let exe = std::env::current_exe().unwrap();
        if std::fs::hard_link(&exe, layer.join("payload")).is_err() {
            std::fs::copy(&exe, layer.join("payload")).unwrap();
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let config = RuntimeConfig {
            state_dir: dir.path().join("state"),
            run_dir: dir.path().join("run"),
            cgroup_parent: format!("pontoon-test/{}-{number}", std::process::id()),
            exe,
        };
        let runtime = Runtime::new(config.clone()).unwrap();
        let events = runtime.events();
        Self { runtime, events, config, layer, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn sandbox(&self, id: &str) -> Sandbox {
        self.sandbox_of(SandboxSpec { id: id.into(), ..SandboxSpec::default() }).await
    }

    pub(crate) async fn sandbox_of(&self, spec: SandboxSpec) -> Sandbox {
        self.runtime.create_sandbox(spec).await.unwrap()
    }

    /// A container that runs our program with these words.
    pub(crate) fn container(&self, id: &str, words: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            rootfs: Rootfs { layers: vec![self.layer.clone()] },
            argv: argv(words),
            log: LogConfig { path: Some(self.log(id)), ..LogConfig::default() },
            ..ContainerSpec::default()
        }
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.path("logs").join(id).join("0.log")
    }

    /// What the container said, without times and tags.
    pub(crate) fn said(&self, id: &str) -> String {
        let text = std::fs::read_to_string(self.log(id)).unwrap_or_default();
        text.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap())).collect()
    }

    pub(crate) async fn start(&self, sandbox: &Sandbox, spec: ContainerSpec) -> ContainerInfo {
        let id = spec.id.clone();
        sandbox.create(spec).await.unwrap();
        sandbox.start(&id).await.unwrap()
    }

    /// Runs a container to its end.
    pub(crate) async fn run(&mut self, sandbox: &Sandbox, spec: ContainerSpec) -> Exit {
        let id = spec.id.clone();
        self.start(sandbox, spec).await;
        self.exit_of(&id).await
    }

    /// Runs our program with these words in a fresh sandbox and gives what it printed.
    pub(crate) async fn output(
        &mut self,
        change: impl FnOnce(&mut ContainerSpec),
        words: &[&str],
    ) -> String {
        let sandbox = self.sandbox("once").await;
        let mut spec = self.container("once", words);
        change(&mut spec);
        let exit = self.run(&sandbox, spec).await;
        let said = self.said("once");
        assert_eq!(exit.code, 0, "{said}");
        sandbox.remove().await.unwrap();
        std::fs::remove_file(self.log("once")).unwrap();
        said
    }

    pub(crate) async fn exit_of(&mut self, id: &str) -> Exit {
        loop {
            match self.events.recv().await.unwrap() {
                Event::Exited { container, exit, .. } if container == id => return exit,
                _ => {}
            }
        }
    }

    pub(crate) fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let below = |root: &str| Path::new(root).join(&self.config.cgroup_parent);
        let mut dirs = vec![below("/sys/fs/cgroup")];
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            dirs.push(entry.unwrap().path().join(&self.config.cgroup_parent));
        }
        dirs.retain(|dir| dir.exists());
        dirs
    }

    /// Removes what the runtime has and checks that nothing is left of it.
    pub(crate) async fn finish(self, sandboxes: Vec<Sandbox>) {
        for sandbox in sandboxes {
            sandbox.remove().await.unwrap();
        }
        self.runtime.release().await.unwrap();
        assert_eq!(self.cgroup_dirs(), Vec::<PathBuf>::new());
        for dir in [&self.config.run_dir, &self.config.state_dir] {
            assert!(!dir.join("sandboxes").exists(), "{}", dir.display());
        }
    }
}

impl Drop for Fixture {
    /// After a failed test: the next one must not find this one's things.
    fn drop(&mut self) {
        for dir in self.cgroup_dirs() {
            kill_below(&dir);
            let _shared = dir.parent().map(std::fs::remove_dir);
        }
        let Ok(sandboxes) = std::fs::read_dir(self.config.run_dir.join("sandboxes")) else {
            return;
        };
        for sandbox in sandboxes.flatten() {
            let log = std::fs::read_to_string(sandbox.path().join("shim.log")).unwrap_or_default();
            eprint!("{log}");
        }
    }
}

fn kill_below(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            kill_below(&entry.path());
        }
    }
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _busy = std::fs::remove_dir(dir);
}

pub(crate) fn argv(words: &[&str]) -> Vec<String> {
    std::iter::once(&PROGRAM).chain(words).map(|word| (*word).to_owned()).collect()
}

/// Runs our program in a container and gives its exit and output.
pub(crate) async fn exec(sandbox: &Sandbox, id: &str, words: &[&str]) -> (Exit, String) {
    let spec = ExecSpec { argv: argv(words), ..ExecSpec::default() };
    exec_of(sandbox, id, spec).await
}

pub(crate) async fn exec_of(sandbox: &Sandbox, id: &str, spec: ExecSpec) -> (Exit, String) {
    let mut session = sandbox.exec(id, spec).await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    if let Some(mut stderr) = session.stderr.take() {
        stderr.read_to_string(&mut text).await.unwrap();
    }
    (session.exit.wait().await.unwrap(), text)
}
