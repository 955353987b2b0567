//! Starting a shim: the own binary again, told on stdin what to be, answering on stdout when it is ready.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::protocol::{Boot, encode};
use crate::shim;

/// Making five namespaces takes milliseconds; a starved machine gets more.
const READY: Duration = Duration::from_secs(30);
/// The longest complaint that is read from a shim.
const MAX_COMPLAINT: u64 = 8 << 10;

/// The binary that becomes a shim, held open.
///
/// If it can be, it is held through a detached read-only mount of itself, so that `/proc/<pid>/exe` seen from a
/// container can never be opened for writing (CVE-2019-5736), at no cost in memory.
#[derive(Debug)]
pub(super) struct ShimExe {
    file: OwnedFd,
    path: PathBuf,
}

impl ShimExe {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let file = match read_only_clone(&path) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the shim's binary is not protected by a read-only mount");
                rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(
                    |e| Error::File { action: "open", path: path.clone(), source: e.into() },
                )?
            }
        };
        Ok(Self { file, path })
    }

    /// Starts a shim and waits until it listens on its socket.
    pub(super) async fn spawn(&self, boot: &Boot) -> Result<()> {
        let failed = |reason: String| Error::ShimStart { sandbox: boot.spec.id.clone(), reason };
        let frame = encode(boot).map_err(|e| failed(e.to_string()))?;
        let mut child = self
            .command(&boot.run_dir)?
            .spawn()
            .map_err(|e| failed(format!("cannot execute {}: {e}", self.path.display())))?;
        let handshake = tokio::time::timeout(READY, handshake(&mut child, &frame)).await;
        let result = match handshake {
            Ok(Ok(complaint)) if complaint == shim::READY => Ok(()),
            Ok(Ok(complaint)) if complaint.is_empty() => Err("it died".to_owned()),
            Ok(Ok(complaint)) => Err(complaint),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", READY.as_secs())),
        };
        if result.is_err()
            && let Err(error) = child.start_kill()
        {
            tracing::debug!(%error, "a failed shim ended by itself");
        }
        // The shim outlives this daemon; while both live, the daemon reaps it.
        tokio::spawn(async move { child.wait().await });
        result.map_err(failed)
    }

    fn command(&self, run_dir: &Path) -> Result<Command> {
        let log_path = run_dir.join("shim.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|source| Error::File { action: "open", path: log_path, source })?;
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command
            .arg0(shim::NAME)
            .env_clear()
            .current_dir(run_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(false);
        Ok(command)
    }
}

async fn handshake(child: &mut Child, frame: &[u8]) -> io::Result<String> {
    let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    stdin.write_all(frame).await?;
    drop(stdin);
    let mut complaint = String::new();
    stdout.take(MAX_COMPLAINT).read_to_string(&mut complaint).await?;
    Ok(complaint)
}

fn read_only_clone(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    crate::kernel::make_read_only(&tree)?;
    Ok(tree)
}
