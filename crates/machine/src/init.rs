//! Process 1 of a machine: mounts its own /proc, runs the daemon and starts it again when it ends, reaps
//! orphans, and on SIGTERM lets the daemon end in order. When it dies the kernel kills all the rest.

use std::env::ArgsOs;
use std::ffi::OsString;
use std::io::{self, Write};
use std::iter::Skip;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

/// First argument of an init.
pub(crate) const WORD: &str = "machine-init";
/// How long a daemon may take to end in order, in seconds.
const STOP_SECONDS: u32 = 15;
/// Pause before a daemon that ended is started again; it doubles while the daemon does not stay up.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Runs init: `machine-init PROGRAM ARGS…`. Answers its exit code.
pub(crate) fn main(args: Skip<ArgsOs>) -> i32 {
    match run(args.collect()) {
        Ok(()) => 0,
        Err(error) => {
            drop(writeln!(io::stderr(), "machine init: {error}"));
            1
        }
    }
}

fn run(words: Vec<OsString>) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, none)?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGALRM] {
        signals.add(signal);
    }
    let mut init = Init {
        words,
        signals,
        pause: RESTART_PAUSE,
        started: Instant::now(),
        daemon: None,
        stopping: false,
    };
    init.run()
}

struct Init {
    words: Vec<OsString>,
    /// Taken by `wait` alone, never delivered.
    signals: SigSet,
    pause: Duration,
    started: Instant,
    daemon: Option<Pid>,
    stopping: bool,
}

impl Init {
    fn run(&mut self) -> io::Result<()> {
        self.start()?;
        loop {
            match self.signals.wait()? {
                Signal::SIGCHLD => self.reap()?,
                Signal::SIGALRM => return Ok(()),
                _ => self.stop()?,
            }
            while self.daemon.is_none() {
                if self.stopping {
                    return Ok(());
                }
                self.restart()?;
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let (program, args) = self.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // A child inherits what is blocked, and the daemon must hear SIGTERM. A process 1 without handlers
        // is not ended by what arrives meanwhile, and a child that ends meanwhile is reaped below.
        self.signals.thread_unblock()?;
        let spawned = Command::new(program).args(args).stdin(Stdio::null()).spawn();
        self.signals.thread_block()?;
        let child = spawned?;
        self.started = Instant::now();
        self.daemon = Some(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?));
        // Reaped by `reap` with all other children, not through this handle.
        drop(child);
        self.reap()
    }

    fn restart(&mut self) -> io::Result<()> {
        if self.started.elapsed() > RESTART_PAUSE_MAX {
            self.pause = RESTART_PAUSE;
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(RESTART_PAUSE_MAX);
        self.start()
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(()),
                Ok(status) if status.pid() == self.daemon => self.daemon = None,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        self.stopping = true;
        alarm::set(STOP_SECONDS);
        if let Some(daemon) = self.daemon {
            kill(daemon, Signal::SIGTERM)?;
        }
        Ok(())
    }
}
