//! The first process of a pid namespace that several containers share: it reaps, and its end is theirs.

use std::io;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::kernel;

/// Forks it. It dies with the shim.
pub(super) fn start() -> io::Result<Pid> {
    kernel::fork_pid_namespace(|| {
        let shim_lives = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if shim_lives.is_err() || close_everything().is_err() {
            return 1;
        }
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(_) => {}
                // No child now: the next one's end is a signal.
                Err(_) => kernel::wait_for_child(),
            }
        }
    })
}

/// The shim's sockets and pipes must not be held open here.
fn close_everything() -> io::Result<()> {
    kernel::close_from(3)
}
