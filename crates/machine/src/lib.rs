//! Local machines: servers made of namespaces on this computer, each with its own processes, network,
//! mounts and host name, joined by a bridge. They power off as real ones do: everything in them at once.
//!
//! This crate knows nothing of clusters: a machine runs one command (its "daemon") under an init of its own.

mod cgroup;
mod enter;
mod init;
mod keeper;
mod lock;
mod machine;
mod machines;
mod process;

pub use machine::{Machine, MachineState, Program};
pub use machines::{MachineError, Machines};

/// Takes over when this process was started as a part of a machine (its keeper, its init, or a command
/// that enters it); returns otherwise. Must come first in `main`, before any thread is started.
pub fn run_if_machine() {
    let mut args = std::env::args_os().skip(1);
    let Some(word) = args.next() else { return };
    let rest = args;
    let code = match word.to_str() {
        Some(keeper::WORD) => keeper::main(rest),
        Some(init::WORD) => init::main(rest),
        Some(enter::WORD) => enter::main(rest),
        _ => return,
    };
    std::process::exit(code)
}
