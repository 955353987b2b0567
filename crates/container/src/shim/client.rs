//! One daemon's connection, as the shim sees it: frames in, frames and descriptors out, never blocking.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::protocol::{HEADER, MAX_FRAME, Request, Response, decode, encode};

/// A daemon that does not read its answers is let go at this many bytes.
const MAX_UNSENT: usize = 4 << 20;
/// The most descriptors one answer brings.
const MAX_DESCRIPTORS: usize = 4;

/// What a connection is for, once it is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Questions and answers.
    Asking,
    /// It is told what happens.
    Listening,
    /// It holds the command with this process id; when it goes, so does the command.
    Holding(i32),
}

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    unsent: usize,
    pub(super) role: Role,
    /// To be closed when all is sent.
    pub(super) finished: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            unsent: 0,
            role: Role::Asking,
            finished: false,
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Reads what is there and gives the requests that are complete.
    pub(super) fn receive(&mut self) -> io::Result<Vec<Request>> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => self.incoming.extend_from_slice(&bytes[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.incoming.len() > MAX_FRAME + HEADER + bytes.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let mut requests = Vec::new();
        while let Some(request) = decode(&mut self.incoming).map_err(io::Error::other)? {
            requests.push(request);
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Ok(requests)
    }

    /// Queues an answer and sends what goes out at once.
    pub(super) fn send(&mut self, response: &Response, fds: Vec<OwnedFd>) -> io::Result<()> {
        let frame = encode(response).map_err(io::Error::other)?;
        self.unsent += frame.len();
        if self.unsent > MAX_UNSENT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.outgoing.push_back((frame, fds));
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some((frame, fds)) = self.outgoing.front_mut() {
            let sent = match send_some(&self.stream, frame, fds) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // They went with the first byte.
            fds.clear();
            self.unsent -= sent;
            frame.drain(..sent);
            if frame.is_empty() {
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}
