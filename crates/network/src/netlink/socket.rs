//! The socket: it sends a request and reads until the kernel has acknowledged, refused or finished it.
#![expect(unsafe_code, reason = "two socket options that no safe crate offers")]

use super::attribute::{attributes, text};
use super::message::{HEADER, Message};
use crate::{NetworkError, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// The kernel answers while it is asked; longer than this means that it never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers to a large batch, and dumps, wait here.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The largest single answer that the kernel makes.
const ANSWER: usize = 128 << 10;
/// A dump that was cut by a concurrent change is taken again, so often.
const DUMPS: usize = 8;

/// The flag of an error whose request was left out, and of one with words.
const CAPPED: u16 = 0x100;
const WORDS: u16 = 0x200;
/// The attribute with the words.
const ERROR_TEXT: u16 = 1;

/// Which part of the kernel a socket speaks with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// An answer that is not the end of a conversation.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

/// A netlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(family: Family) -> Result<Self> {
        let protocol = match family {
            // NETLINK_ROUTE is protocol 0.
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let open = || -> io::Result<OwnedFd> {
            let fd = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                protocol,
            )?;
            sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
            // Forcing needs CAP_NET_ADMIN; without it the default does for everything but huge batches.
            if sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER).is_err() {
                sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER)?;
            }
            set_option(&fd, libc::NETLINK_CAP_ACK)?;
            set_option(&fd, libc::NETLINK_EXT_ACK)?;
            Ok(fd)
        };
        let fd = open().map_err(NetworkError::Socket)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; ANSWER] })
    }

    /// One change; returns when the kernel has made it.
    pub(crate) fn request(&mut self, message: Message) -> Result<()> {
        self.ask(message, |_| ())
    }

    /// One question; `each` gets the answers.
    pub(crate) fn ask(&mut self, mut message: Message, each: impl FnMut(Answer<'_>)) -> Result<()> {
        message.acknowledged();
        let sequence = self.next_sequence();
        message.number(sequence);
        self.send(message.bytes(), message.what())?;
        self.read(message.what(), sequence, each).map(|_| ())
    }

    /// A list of everything that the question names; `collect` turns answers into items.
    pub(crate) fn dump<T>(
        &mut self,
        mut message: Message,
        mut collect: impl FnMut(Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMPS {
            let sequence = self.next_sequence();
            message.number(sequence);
            self.send(message.bytes(), message.what())?;
            let mut items = Vec::new();
            if self.read(message.what(), sequence, |answer| items.extend(collect(answer)))? {
                return Ok(items);
            }
        }
        Err(answer_error(message.what(), "it changed all the while"))
    }

    /// All of the messages or none: they are between the batch's begin and end. Their errors carry the words of
    /// the message that was refused first.
    pub(crate) fn batch(
        &mut self,
        begin: Message,
        mut body: Vec<Message>,
        end: Message,
    ) -> Result<()> {
        let Some(last) = body.last_mut() else { return Ok(()) };
        last.acknowledged();
        let mut messages = vec![begin];
        messages.append(&mut body);
        messages.push(end);
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in &mut messages {
            let sequence = self.next_sequence();
            message.number(sequence);
            bytes.extend_from_slice(message.bytes());
        }
        self.make_room(bytes.len());
        self.send(&bytes, messages[1].what())?;
        self.read_batch(&messages, first)
    }

    /// The kernel takes a batch in one piece: the send buffer must hold it.
    fn make_room(&self, bytes: usize) {
        let enough = bytes.saturating_add(bytes / 2).max(1 << 20);
        if let Err(error) = sockopt::set_socket_send_buffer_size_force(&self.fd, enough) {
            tracing::debug!(%error, enough, "the netlink send buffer stays as it is");
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8], what: &str) -> Result<()> {
        loop {
            match rustix::net::send(&self.fd, bytes, SendFlags::empty()) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(answer_error(what, "the request was sent in part")),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(refused(what, error.into(), None)),
            }
        }
    }

    fn receive(&mut self, what: &str) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((read, whole)) if whole <= read => return Ok(read),
                Ok(_) => return Err(answer_error(what, "it is longer than any should be")),
                Err(rustix::io::Errno::INTR) => {}
                Err(source) => {
                    return Err(NetworkError::Answer {
                        what: what.to_owned(),
                        source: source.into(),
                    });
                }
            }
        }
    }

    /// Reads the answers to one request; false: the list changed while it was taken.
    fn read(
        &mut self,
        what: &str,
        sequence: u32,
        mut each: impl FnMut(Answer<'_>),
    ) -> Result<bool> {
        let mut whole = true;
        loop {
            let length = self.receive(what)?;
            for reply in replies(&self.buffer[..length]) {
                if reply.sequence != sequence {
                    continue;
                }
                whole &= reply.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match i32::from(reply.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return reply.verdict(what).map(|()| whole);
                    }
                    _ => each(Answer { kind: reply.kind, payload: reply.payload }),
                }
            }
        }
    }

    fn read_batch(&mut self, messages: &[Message], first: u32) -> Result<()> {
        let mut failure = None;
        loop {
            let length = self.receive(messages[1].what())?;
            for reply in replies(&self.buffer[..length]) {
                let position = reply.sequence.wrapping_sub(first) as usize;
                let Some(message) = messages.get(position) else { continue };
                if i32::from(reply.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let verdict = reply.verdict(message.what());
                // An answer to the begin is about the batch as a whole; the last message was asked to answer.
                let over = position == 0 || position == messages.len() - 2;
                failure = failure.or(verdict.err());
                if over {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }
}

/// One message of an answer.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Reply<'_> {
    /// Success or errno, with the kernel's words.
    fn verdict(&self, what: &str) -> Result<()> {
        let Some(code) = self.payload.first_chunk::<4>() else {
            return Ok(()); // NLMSG_DONE without a body
        };
        let code = i32::from_ne_bytes(*code);
        if code >= 0 {
            return Ok(());
        }
        Err(refused(what, io::Error::from_raw_os_error(code.saturating_neg()), self.words()))
    }

    fn words(&self) -> Option<String> {
        if self.flags & WORDS == 0 || i32::from(self.kind) != libc::NLMSG_ERROR {
            return None;
        }
        let request = self.payload.get(4..)?;
        let echoed = if self.flags & CAPPED == 0 {
            u32::from_ne_bytes(*request.first_chunk()?) as usize
        } else {
            HEADER
        };
        attributes(request.get(echoed.next_multiple_of(4)..)?)
            .find(|a| a.kind == ERROR_TEXT)
            .map(|a| text(a.value))
    }
}

fn replies(bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let reply = Reply {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload: rest.get(HEADER..length)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    })
}

fn refused(what: &str, source: io::Error, words: Option<String>) -> NetworkError {
    let reason = match words {
        Some(words) => format!("{source}: {words}"),
        None => source.to_string(),
    };
    NetworkError::Refused { what: what.to_owned(), reason, source }
}

fn answer_error(what: &str, problem: &'static str) -> NetworkError {
    NetworkError::Answer { what: what.to_owned(), source: io::Error::other(problem) }
}

/// Switches a boolean netlink option on.
fn set_option(fd: &impl AsFd, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the pointer and length are those of a live c_int.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{CAPPED, HEADER, Reply, WORDS, replies};
    use crate::NetworkError;
    use proptest::prelude::proptest;

    #[test]
    fn an_error_carries_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        payload.extend_from_slice(&[11, 0, 1, 0, b'b', b'a', b'd', b' ', b'i', b'd', 0, 0]);
        let reply = Reply {
            kind: libc::NLMSG_ERROR as u16,
            flags: CAPPED | WORDS,
            sequence: 1,
            payload: &payload,
        };
        let Err(NetworkError::Refused { what, reason, .. }) = reply.verdict("add a thing") else {
            panic!("it was refused");
        };
        assert_eq!(what, "add a thing");
        assert_eq!(reason, "Invalid argument (os error 22): bad id");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_harm(bytes: Vec<u8>) {
            for reply in replies(&bytes) {
                assert!(reply.payload.len() <= bytes.len());
                drop(reply.words());
            }
        }
    }
}
