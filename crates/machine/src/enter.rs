//! A command inside a machine: joins all its namespaces and runs the command there with this terminal.

use std::env::ArgsOs;
use std::fs::File;
use std::io::{self, Write};
use std::iter::Skip;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

/// First argument of a process that enters a machine.
pub(crate) const WORD: &str = "machine-enter";

/// Runs `machine-enter PID PROGRAM ARGS…`. Answers the command's exit code.
pub(crate) fn main(args: Skip<ArgsOs>) -> i32 {
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: enter the machine: {error}"));
            1
        }
    }
}

fn run(mut args: Skip<ArgsOs>) -> io::Result<i32> {
    let pid = args.next().ok_or(io::ErrorKind::InvalidInput)?;
    let pid = pid.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    // All are opened before the first is entered: /proc is another one afterwards.
    let kinds = ["ipc", "uts", "net", "pid", "mnt"];
    let spaces = kinds.map(|kind| File::open(format!("/proc/{pid}/ns/{kind}")));
    for space in spaces {
        setns(space?, CloneFlags::empty())?;
    }
    let program = args.next().ok_or(io::ErrorKind::InvalidInput)?;
    let status = match Command::new(&program).args(args).status() {
        Ok(status) => status,
        Err(error) => {
            let program = program.to_string_lossy();
            drop(writeln!(io::stderr(), "error: run {program:?} in the machine: {error}"));
            // As shells have it: it is not there, or cannot be run.
            return Ok(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let killed = std::os::unix::process::ExitStatusExt::signal(&status).map_or(1, |s| 128 + s);
    Ok(status.code().unwrap_or(killed))
}
