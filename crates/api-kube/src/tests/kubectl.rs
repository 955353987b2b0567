//! The installed `kubectl`, pointed at a test's cluster.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::cluster::Cluster;

const KUBECTL: &str = "/usr/bin/kubectl";

/// `kubectl` with a home of its own.
pub(super) struct Kubectl {
    pub(super) cluster: Arc<Cluster>,
    pub(super) home: TempDir,
}

/// What a command printed.
pub(super) struct Output {
    pub(super) ok: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Kubectl {
    /// A cluster and a client for it; `None` where there is no `kubectl`.
    pub(super) async fn start() -> Option<Kubectl> {
        if !Path::new(KUBECTL).exists() {
            lack(&format!("{KUBECTL} is not installed"));
            return None;
        }
        let cluster = Arc::new(Cluster::start().await);
        Some(Kubectl { cluster, home: TempDir::new().unwrap() })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KUBECTL);
        command
            .arg(format!("--server=http://{}", self.cluster.address))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .env("KUBE_EDITOR", self.home.path().join("editor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that wants no input may have closed it.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        Output {
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command of words without blanks that must succeed and say nothing on stderr.
    pub(super) async fn ok(&self, command: &str) -> String {
        self.ok_with(command, "").await
    }

    pub(super) async fn ok_with(&self, command: &str, input: &str) -> String {
        let args: Vec<&str> = command.split_whitespace().collect();
        self.ok_args(&args, input).await
    }

    pub(super) async fn ok_args(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input).await;
        assert!(output.ok, "kubectl {args:?} failed: {}{}", output.stderr, output.stdout);
        assert_eq!(output.stderr, "", "kubectl {args:?} has something to say");
        output.stdout
    }

    /// Runs a command that must fail; what it says on stderr.
    pub(super) async fn fails(&self, command: &str) -> String {
        let args: Vec<&str> = command.split_whitespace().collect();
        let output = self.run(&args, "").await;
        assert!(!output.ok, "kubectl {command} succeeded: {}", output.stdout);
        output.stderr
    }

    /// A command that goes on until it is dropped.
    pub(super) fn spawn(&self, command: &str) -> Child {
        self.command(&command.split_whitespace().collect::<Vec<_>>()).spawn().unwrap()
    }
}

/// The words of each line.
pub(super) fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// Says on standard error, which the harness does not keep to itself, that something is not tested here. Where `CI` is
/// set everything must be installed.
fn lack(what: &str) {
    let is_set = |value: std::ffi::OsString| !value.is_empty() && value != "false";
    assert!(!std::env::var_os("CI").is_some_and(is_set), "{what}, and CI is to test everything");
    std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {what}\n").as_bytes())
        .unwrap();
}
