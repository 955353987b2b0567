//! What daemon and shim say to each other: frames of postcard over the sandbox's unix socket.
//!
//! A frame is its length (u32, little endian), [`VERSION`] (u8) and the body. A shim outlives the daemon that
//! started it, so new requests and responses go to the end of their enums, and a change of any other kind
//! raises the version.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::exec::WindowSize;
use crate::info::{ContainerInfo, Exit, Stats};
use crate::spec::{ContainerSpec, ExecSpec, SandboxSpec};

/// Raised when an old shim and a new daemon would misunderstand each other.
pub(crate) const VERSION: u8 = 1;
/// The longest frame body, bytes: an environment of 1 MiB and more fits.
pub(crate) const MAX_FRAME: usize = 8 << 20;
/// The bytes before a frame's body.
pub(crate) const HEADER: usize = 5;

/// What a shim is told on its stdin when it is started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) spec: SandboxSpec,
    /// `<run_dir>/sandboxes/<id>`: the socket, what libcontainer remembers, mount points.
    pub(crate) run_dir: PathBuf,
    /// `<state_dir>/sandboxes/<id>`: the containers' writable layers.
    pub(crate) state_dir: PathBuf,
    /// The sandbox's cgroup, relative to each hierarchy's mount.
    pub(crate) cgroup: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Info,
    Create(Box<ContainerSpec>),
    Start(String),
    Kill { id: String, signal: i32, everything: bool },
    Delete(String),
    List,
    Exec { id: String, spec: ExecSpec },
    Attach(String),
    Resize { id: String, size: WindowSize },
    Stats(String),
    Subscribe,
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    Refused(Refusal),
    Info(SandboxInfo),
    Container(ContainerInfo),
    Containers(Vec<ContainerInfo>),
    Stats(Stats),
    /// Comes with the descriptors named, in this order: stdin, stdout, stderr, terminal.
    Streams(StreamSet),
    Exited(Exit),
    Event(Happening),
}

/// Which descriptors follow.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StreamSet {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) terminal: bool,
}

/// Who the shim is, so that a new daemon knows it again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxInfo {
    pub(crate) pid: u32,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An event as the shim tells it, without its own name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Happening {
    Started { container: String, at: std::time::SystemTime },
    Exited { container: String, exit: Exit },
}

/// Why bytes are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("the other side speaks version {0} of the protocol")]
    Version(u8),
    #[error("the frame's body makes no sense")]
    Body,
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    frame = postcard::to_extend(message, frame).map_err(|_| FrameError::Body)?;
    let body = frame.len() - HEADER;
    let length =
        u32::try_from(body).ok().filter(|_| body <= MAX_FRAME).ok_or(FrameError::TooLong(body))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4] = VERSION;
    Ok(frame)
}

/// Takes one frame off the front of `buffer`; `None` if it is not complete yet.
pub(crate) fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if header[4] != VERSION {
        return Err(FrameError::Version(header[4]));
    }
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = buffer.get(HEADER..HEADER + length) else { return Ok(None) };
    let message = postcard::from_bytes(body).map_err(|_| FrameError::Body)?;
    buffer.drain(..HEADER + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_follow_each_other_and_come_in_pieces() {
        let mut bytes = encode(&Request::Start("a".into())).unwrap();
        bytes.extend(encode(&Request::List).unwrap());
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            while let Some(request) = decode::<Request>(&mut buffer).unwrap() {
                seen.push(format!("{request:?}"));
            }
        }
        assert_eq!(seen, [r#"Start("a")"#, "List"]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn other_versions_and_giants_are_refused() {
        let mut frame = encode(&Request::List).unwrap();
        frame[4] = VERSION + 1;
        assert_eq!(decode::<Request>(&mut frame).unwrap_err(), FrameError::Version(VERSION + 1));
        let mut giant = u32::MAX.to_le_bytes().to_vec();
        giant.push(VERSION);
        assert!(matches!(decode::<Request>(&mut giant), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            while let Ok(Some(request)) = decode::<Request>(&mut bytes) {
                drop(request);
            }
        }
    }
}
