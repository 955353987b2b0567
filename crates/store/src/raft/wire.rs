//! What members say to each other: length-prefixed postcard, every length bounded.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::types::{SnapshotMeta, Types, Vote};
use crate::check::FileReport;
use crate::command::{Outcome, Proposal};
use crate::error::{MemberError, ReadError, WriteError};
use crate::hash::StateHash;
use crate::lease::LeaseStatus;
use crate::member::{Member, MemberChange, MemberId};
use crate::runtime;
use crate::transport::{BoxedStream, Transport};

/// The largest frame that is read or written.
pub(super) const MAX_FRAME: usize = 64 << 20;

/// The version of this protocol.
const VERSION: u8 = 3;

/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A byte stream cut into frames.
pub(super) type Frames = Framed<BoxedStream, LengthDelimitedCodec>;

/// The first frame of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    version: u8,
    /// Whom the caller means to reach: an address may have passed to another member.
    to: MemberId,
    pub(super) lane: Lane,
}

/// What a connection is for; each kind has its own, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lane {
    /// Entries and heartbeats, answered in order.
    Append,
    /// Calls, answered in any order.
    Call,
    /// One snapshot.
    Snapshot,
}

/// A call with the number that its answer bears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) call: Call,
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) id: u64,
    pub(super) result: Result<Answer, Refusal>,
}

/// What one member asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    /// How far must a copy have been applied to be read now?
    ReadIndex,
    Propose(Vec<Proposal>),
    Members(MemberChange),
    KeepAlive(i64),
    LeaseStatus(i64),
    /// The check sum of its copy at a revision.
    Hash(u64),
    /// What it finds when it reads its files.
    Files,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Vote(VoteResponse<Types>),
    Transfer(TransferLeaderResponse<Types>),
    ReadIndex(u64),
    Proposed(Vec<Result<Outcome, Refusal>>),
    Members(Result<(), MemberError>),
    KeptAlive(Result<i64, WriteError>),
    LeaseStatus(Result<LeaseStatus, WriteError>),
    Hash(Result<StateHash, ReadError>),
    Files(Result<FileReport, String>),
}

/// Why a member does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    /// It does not lead; what was asked was not done.
    #[error("it is not the leader")]
    NotLeader,
    /// It stopped leading meanwhile; what was asked may have been done.
    #[error("it stopped being the leader")]
    Deposed,
    /// It has just started, and may have promised something before that it does not remember.
    #[error("it has just started")]
    TooEarly,
    /// It did what was asked, but the answer is too large to be sent.
    #[error("the answer is too large to be forwarded")]
    TooLarge,
    /// It is stopping, or its disk failed.
    #[error("it has stopped")]
    Stopped,
}

/// What comes before the bytes of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) bytes: u64,
}

/// Letters of a [`Declined`] that are sent, and taken down.
const REASON_MAX: usize = 500;

/// Why a snapshot was not installed, in words.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the other side declined the snapshot: {0}")]
pub(super) struct Declined(String);

impl Declined {
    /// As it is sent: some errors say much.
    pub(super) fn because(error: &io::Error) -> Declined {
        Declined(error.to_string()).bounded()
    }

    /// The same, of no more letters than are wanted.
    pub(super) fn bounded(self) -> Declined {
        Declined(self.0.chars().take(REASON_MAX).collect())
    }
}

/// Cuts a stream into frames.
pub(super) fn frames(stream: BoxedStream) -> Frames {
    LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(4)
        .max_frame_length(MAX_FRAME)
        .new_framed(stream)
}

/// Encodes one frame.
pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    if bytes.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
    }
    Ok(Bytes::from(bytes))
}

/// Decodes one frame.
pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    postcard::from_bytes(frame)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Connects to a member and says what for.
pub(super) async fn connect(
    transport: &dyn Transport,
    to: &Member,
    lane: Lane,
) -> io::Result<Frames> {
    use futures::SinkExt;
    let attempt = async {
        let mut frames = frames(transport.connect(to).await?);
        frames.send(encode(&Hello { version: VERSION, to: to.id, lane })?).await?;
        Ok(frames)
    };
    runtime::timeout(CONNECT_TIMEOUT, attempt)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// Reads what a caller wants; an error if it means someone else or speaks another version.
pub(super) async fn accept(frames: &mut Frames, me: MemberId) -> io::Result<Lane> {
    use futures::StreamExt;
    let first = runtime::timeout(CONNECT_TIMEOUT * 5, frames.next())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let hello: Hello = decode(&first.ok_or(io::ErrorKind::UnexpectedEof)??)?;
    if hello.version != VERSION {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "another version of the protocol"));
    }
    if hello.to != me {
        let reason = format!("the caller means member {:x}, this is {me:x}", hello.to);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(hello.lane)
}
