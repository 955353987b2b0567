//! The pipes and terminals between a program and those who read and feed it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pipe::{PipeFlags, pipe_with};

use super::launch::Stdio;
use super::passwd::Account;

/// A program is started in milliseconds, if its file can be read at all.
const START: Duration = Duration::from_secs(30);

/// Our ends.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Brings the terminal's master.
    pub(super) terminal: Option<UnixStream>,
}

/// Both ends, until the program has got its own.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdio: Stdio,
    pub(super) ends: Ends,
    terminal: Option<UnixStream>,
}

impl Streams {
    /// Pipes owned by the program's user, who may open `/dev/stdout` anew; nothing behind a terminal's.
    pub(super) fn make(tty: bool, stdin: bool, account: &Account) -> io::Result<Self> {
        if tty {
            let (here, there) = UnixStream::pair()?;
            let stdio = Stdio { stdin: null()?, stdout: null()?, stderr: null()? };
            let ends = Ends { terminal: Some(here), ..Ends::default() };
            return Ok(Self { stdio, ends, terminal: Some(there) });
        }
        let owned = || -> io::Result<_> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
            rustix::fs::fchown(&read, Some(uid), Some(gid))?;
            Ok((read, write))
        };
        let (stdin, feed) = match stdin {
            true => owned().map(|(read, write)| (read, Some(write)))?,
            false => (null()?, None),
        };
        let (stdout_read, stdout) = owned()?;
        let (stderr_read, stderr) = owned()?;
        let ends = Ends {
            stdin: feed,
            stdout: Some(stdout_read),
            stderr: Some(stderr_read),
            terminal: None,
        };
        Ok(Self { stdio: Stdio { stdin, stdout, stderr }, ends, terminal: None })
    }

    /// The number of the socket by which the program gives its terminal.
    pub(super) fn terminal_socket(&self) -> Option<RawFd> {
        self.terminal.as_ref().map(AsRawFd::as_raw_fd)
    }
}

fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// Waits until a program has replaced its process, which closes the other end; or says why it could not.
pub(super) fn started(status: &OwnedFd) -> Result<(), String> {
    let mut reason = Vec::new();
    let mut bytes = [0; 512];
    loop {
        let mut fds = [PollFd::new(status, PollFlags::IN)];
        let timeout = Timespec { tv_sec: START.as_secs() as i64, tv_nsec: 0 };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(format!("it did not start in {} s", START.as_secs())),
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => {}
        }
        match rustix::io::read(status, &mut bytes) {
            Ok(0) => break,
            Ok(got) => reason.extend_from_slice(&bytes[..got]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if reason.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&reason).into_owned()) }
}

/// Takes the terminal's master, which is there before the program is.
pub(super) fn receive_terminal(socket: &UnixStream) -> io::Result<OwnedFd> {
    socket.set_nonblocking(true)?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [io::IoSliceMut::new(&mut byte)];
    recvmsg(socket.as_fd(), &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(io::Error::other("no terminal came"))
}
