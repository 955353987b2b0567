//! What can go wrong with a sandbox or a container, said so that an event can quote it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a sandbox or a container failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is empty, too long, or has characters that do not belong into a file name.
    #[error("{0:?} is not a usable id: 1 to 128 of a-z A-Z 0-9 _ . - and not a leading dot")]
    InvalidId(String),
    /// The sandbox exists already, alive or as leavings that `recover` has not removed yet.
    #[error("sandbox {0} exists already")]
    SandboxExists(String),
    /// A file or directory of the daemon's side could not be used.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The shim process did not start.
    #[error("the shim of sandbox {sandbox} did not start: {reason}")]
    ShimStart { sandbox: String, reason: String },
    /// The shim is dead, or did not answer in time: its containers are gone or about to be.
    #[error("the shim of sandbox {sandbox} does not answer: {source}")]
    ShimGone { sandbox: String, source: io::Error },
    /// The shim answered something that makes no sense, for example after a change of versions.
    #[error("the shim of sandbox {0} gave an answer that was not understood")]
    Protocol(String),
    /// The shim refused or failed to do what was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The shim's own errors; they cross the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No container of that id in the sandbox.
    #[error("no container {0} in this sandbox")]
    NoContainer(String),
    /// The container exists already.
    #[error("container {0} exists already")]
    ContainerExists(String),
    /// The container is in the wrong state for what was asked.
    #[error("container {id} is {state}, so it cannot be {wanted}")]
    WrongState { id: String, state: String, wanted: String },
    /// The specification asks for something that does not exist or is not allowed.
    #[error("invalid container specification: {0}")]
    InvalidSpec(String),
    /// The user of the image or the specification is not in the root filesystem's `/etc/passwd` or `/etc/group`.
    #[error("no user or group {0:?} in the image")]
    NoSuchUser(String),
    /// The root filesystem could not be put together.
    #[error("cannot prepare the root filesystem: {0}")]
    Rootfs(String),
    /// A resource group could not be made or limited.
    #[error("cannot set up the cgroup: {0}")]
    Cgroup(String),
    /// The container or the command in it could not be created.
    #[error("cannot create the container: {0}")]
    Create(String),
    /// The program of the container or of the exec could not be started; the container is stopped.
    #[error("cannot run {program:?}: {reason}")]
    Program { program: String, reason: String },
    /// A system call failed.
    #[error("cannot {action}: {reason}")]
    System { action: String, reason: String },
}
