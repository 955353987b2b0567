//! Sandboxes and their OCI containers, each sandbox held by one small shim process that outlives the daemon.
//!
//! The daemon's side is [`Runtime`] and [`Sandbox`]; the other side is [`shim::run_if_shim`], which the
//! binary's `main` calls first of all. The image store is another crate: this one takes layer directories.

mod capability;
mod cgroup;
pub mod error;
pub mod exec;
pub mod info;
mod kernel;
mod protocol;
pub mod runtime;
pub mod sandbox;
mod seccomp;
pub mod shim;
pub mod spec;

pub use error::{Error, Refusal, Result};
pub use exec::{ExecExit, ExecInput, ExecOutput, ExecSession, Resizer, WindowSize};
pub use info::{ContainerInfo, ContainerState, Event, Exit, Stats};
pub use runtime::{Runtime, RuntimeConfig};
pub use sandbox::Sandbox;
pub use spec::{
    ContainerSpec, ExecSpec, LogConfig, Mount, MountKind, PidNamespace, ResourceLimits, Rootfs,
    SandboxSpec, SeccompProfile, Security, User,
};
