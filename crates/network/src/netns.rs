//! Network namespaces: opened by process or path, made, and entered by a thread made for that.

use crate::{NetworkError, Result};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

/// The calling thread's own namespace; `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace held open: it lives as long as this does, even with no process in it.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    name: String,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// The namespace of a process.
    pub fn of_pid(pid: u32) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace that a file stands for (`/proc/<pid>/ns/net`, `/run/netns/<name>`).
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self { fd: OwnedFd::from(file), name }),
            Err(source) => Err(NetworkError::Namespace { what: "open", name, source }),
        }
    }

    /// A new namespace with nothing in it but a loopback device that is down. It is gone when this value and
    /// everything that was put in it are.
    pub fn create() -> Result<Self> {
        in_thread("make", "(new)", || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            File::open(OWN).map(OwnedFd::from)
        })?
        .map(|fd| Self { fd, name: "(new)".to_owned() })
        .map_err(|source| NetworkError::Namespace {
            what: "make",
            name: "(new)".to_owned(),
            source,
        })
    }

    /// Runs `f` inside the namespace on a plain thread of its own, which ends with it: no other thread's
    /// namespace changes, and sockets that `f` opens belong to this one for life.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread("enter", &self.name, || {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            Ok(f())
        })?
        .map_err(|source| NetworkError::Namespace {
            what: "enter",
            name: self.name.clone(),
            source,
        })
    }

    /// A path by which this process can open it again, while this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Whether the calling thread is in this namespace already.
    pub fn is_current(&self) -> Result<bool> {
        let own = Self::current()?;
        Ok(own.id()? == self.id()?)
    }

    /// What tells namespaces apart: device and inode of their file.
    fn id(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| NetworkError::Namespace {
            what: "look at",
            name: self.name.clone(),
            source: e.into(),
        })?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `f` on a thread that is made for it; a panic in it goes on in the caller.
fn in_thread<T: Send>(
    what: &'static str,
    name: &str,
    f: impl FnOnce() -> io::Result<T> + Send,
) -> Result<io::Result<T>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)
            .map_err(|source| NetworkError::Namespace { what, name: name.to_owned(), source })?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
