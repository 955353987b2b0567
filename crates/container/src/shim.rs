//! The shim: one small process a sandbox, the own binary again, that holds the namespaces and its containers.
//!
//! It has one thread, a poll loop, and no async runtime: libcontainer forks in it.

/// The shim's first argument, by which `run_if_shim` knows it.
pub const NAME: &str = "pontoon-shim";
/// What a shim writes to its stdout when it listens; anything else is a complaint.
pub(crate) const READY: &str = "ready\n";

/// Becomes the shim and never returns, if this process was started as one. Call it first in `main`, before any thread
/// is started.
pub fn run_if_shim() {
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        std::process::exit(1);
    }
}
