//! The shim: one small process a sandbox, the own binary again, that holds the namespaces and its containers.
//!
//! It has one thread, a poll loop, and no async runtime. What is heavy (libcontainer) runs in a short-lived fork of it.

mod client;
mod container;
mod executor;
mod launch;
mod log;
mod oci;
mod output;
mod passwd;
mod pause;
mod requests;
mod rootfs;
mod server;
mod setup;
mod streams;
mod view;

use std::io::{Read as _, Write as _};

use crate::protocol::{Boot, decode};

/// A shim's own name, `argv[0]`, by which `run_if_shim` knows it.
pub const NAME: &str = "pontoon-shim";
/// What a shim writes to its stdout when it listens; anything else is a complaint.
pub(crate) const READY: &str = "ready\n";

/// Becomes the shim and never returns, if this process was started as one. Call it first in `main`, before any thread
/// is started.
pub fn run_if_shim() {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return;
    }
    std::process::exit(match run() {
        Ok(()) => 0,
        Err(complaint) => {
            eprintln!("{complaint}");
            // Nobody may be reading any more; the log has it.
            let _unread = std::io::stdout().write_all(complaint.as_bytes());
            1
        }
    });
}

fn run() -> Result<(), String> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| format!("cannot read stdin: {e}"))?;
    let boot: Boot = decode(&mut bytes).map_err(|e| e.to_string())?.ok_or("stdin ended early")?;
    drop(bytes);
    let sandbox = setup::enter(boot).map_err(|e| e.to_string())?;
    let server = server::Server::listen(sandbox).map_err(|e| format!("cannot listen: {e}"))?;
    setup::detach_stdio().map_err(|e| format!("cannot detach from the daemon: {e}"))?;
    server.run().map_err(|e| format!("the poll loop failed: {e}"))
}
