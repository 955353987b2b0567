//! A machine's keeper: the process outside that makes the namespaces, starts init in them and waits for
//! its end. Its parent wires the network between the two steps. Single-threaded throughout.

use std::env::ArgsOs;
use std::io::{self, BufRead, Write};
use std::iter::Skip;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{sethostname, setsid};

use crate::init;

/// First argument of a keeper.
pub(crate) const WORD: &str = "machine-keeper";
/// What the keeper prints when the namespaces are there to be wired.
pub(crate) const UNSHARED: &str = "unshared";

/// Runs the keeper: `machine-keeper HOSTNAME PROGRAM ARGS…`. Answers its exit code.
pub(crate) fn main(args: Skip<ArgsOs>) -> i32 {
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is the machine's log.
            drop(writeln!(io::stderr(), "machine keeper: {error}"));
            1
        }
    }
}

fn run(mut args: Skip<ArgsOs>) -> io::Result<i32> {
    let host_name = args.next().ok_or(io::ErrorKind::InvalidInput)?;
    setsid()?;
    let all = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(all)?;
    sethostname(&host_name)?;
    say(UNSHARED)?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::Error::other("the command that started this machine is gone"));
    }
    // What is spawned now is process 1 of the new PID namespace.
    let mut init = Command::new(std::env::current_exe()?)
        .arg(init::WORD)
        .args(args)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .spawn()?;
    say(&init.id().to_string())?;
    let status = init.wait()?;
    Ok(status.code().unwrap_or(1))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
