//! One connection to a shim: questions, answers, and the descriptors that come with them.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::error::{Error, Result};
use crate::info::Exit;
use crate::protocol::{Request, Response, decode, encode};

/// The socket's name in the sandbox's run directory.
pub(crate) const SOCKET: &str = "shim.sock";
/// A shim answers one question at a time; the slowest is a create with a cold disk.
const ANSWER: Duration = Duration::from_secs(60);
/// The most descriptors one answer brings.
const MAX_DESCRIPTORS: usize = 4;

#[derive(Debug)]
pub(crate) struct Connection {
    sandbox: String,
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Connection {
    /// Connects through `/proc/self/fd`, because the path may be longer than a socket address.
    pub(crate) async fn open(sandbox: &str, run_dir: &Path) -> Result<Self> {
        let gone = |source| Error::ShimGone { sandbox: sandbox.to_owned(), source };
        let flags =
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let dir = rustix::fs::open(run_dir, flags, rustix::fs::Mode::empty())
            .map_err(|e| gone(e.into()))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(gone)?;
        Ok(Self {
            sandbox: sandbox.to_owned(),
            stream,
            buffer: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// Asks and waits for the answer, a refusal becoming an error.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Response> {
        let frame = encode(request).map_err(|_| Error::Protocol(self.sandbox.clone()))?;
        let answer = async {
            self.stream.write_all(&frame).await.map_err(|e| self.gone(e))?;
            self.next().await
        };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(Response::Refused(refusal))) => Err(refusal.into()),
            Ok(answer) => answer,
            Err(_) => Err(self.gone(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Kills a shim that does not answer, or not so that it is understood; its containers die with it.
    pub(crate) fn kill_shim(&self) {
        let pid = self.stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, Signal::KILL)
        {
            tracing::debug!(sandbox = self.sandbox, %error, "the shim has ended by itself");
        }
    }

    /// The next frame, however long it takes.
    pub(crate) async fn next(&mut self) -> Result<Response> {
        loop {
            match decode(&mut self.buffer) {
                Ok(Some(response)) => return Ok(response),
                Ok(None) => {}
                Err(_) => return Err(Error::Protocol(self.sandbox.clone())),
            }
            if self.receive().await.map_err(|e| self.gone(e))? == 0 {
                return Err(self.gone(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub(crate) async fn wait_exit(&mut self) -> Result<Exit> {
        match self.next().await? {
            Response::Exited(exit) => Ok(exit),
            Response::Refused(refusal) => Err(refusal.into()),
            _ => Err(Error::Protocol(self.sandbox.clone())),
        }
    }

    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let Self { stream, buffer, descriptors, .. } = self;
        stream.async_io(Interest::READABLE, || receive_some(stream, buffer, descriptors)).await
    }

    fn gone(&self, source: io::Error) -> Error {
        Error::ShimGone { sandbox: self.sandbox.clone(), source }
    }
}

fn receive_some(
    stream: &UnixStream,
    buffer: &mut Vec<u8>,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut bytes = [0; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    buffer.extend_from_slice(&bytes[..got]);
    Ok(got)
}
