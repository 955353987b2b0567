//! The engine's view of the other members.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use futures::stream::{BoxStream, SplitSink};
use futures::{SinkExt, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::append::{AppendResult, AppendSession, Idle};
use super::lane::{CallError, CallLane};
use super::machine::{SnapshotData, blocking};
use super::types::{Snapshot, Types, Vote};
use super::wire::{Answer, Call, Declined, Frames, Lane, SnapshotHead, connect, decode, encode};
use crate::disk::File;
use crate::member::{Member, MemberId};
use crate::runtime::{self, Instant};
use crate::transport::Transport;

/// How long a vote may take: it is written to disk on the other side.
const VOTE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the other side may take to check and install a snapshot.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

const CHUNK: usize = 256 << 10;

/// How often it is said that a member takes no snapshot, which is tried again all the time.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// The members that were ever called, each with its connections.
#[derive(Clone)]
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
    peers: Arc<Mutex<HashMap<MemberId, Arc<Peer>>>>,
}

/// Another member.
pub(crate) struct Peer {
    pub(crate) member: Member,
    transport: Arc<dyn Transport>,
    /// Votes and what else must not wait.
    urgent: CallLane,
    /// Forwarded requests.
    calls: CallLane,
    /// When it was last said that it takes no snapshot.
    said: Mutex<Option<Instant>>,
}

impl Network {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Network {
        Network { transport, peers: Arc::default() }
    }

    /// The member with its connections, which are kept while its address stays the same.
    pub(crate) fn peer(&self, member: &Member) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&member.id)
            && peer.member == *member
        {
            return Arc::clone(peer);
        }
        let transport = &self.transport;
        let peer = Arc::new(Peer {
            member: member.clone(),
            transport: Arc::clone(transport),
            urgent: CallLane::new(member.clone(), Arc::clone(transport)),
            calls: CallLane::new(member.clone(), Arc::clone(transport)),
            said: Mutex::new(None),
        });
        peers.insert(member.id, Arc::clone(&peer));
        peer
    }
}

impl Network {
    /// From now on the member is called at the address that `member` says.
    pub(crate) fn moved(&self, member: &Member) {
        self.peer(member);
    }

    /// Lets go of those that are not among `members`; a connection ends with the last call on it.
    pub(crate) fn keep(&self, members: &BTreeSet<MemberId>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, _| members.contains(id));
    }

    /// The member of a link, as it is known now: its address can change while the link lives.
    fn current(&self, link: &Arc<Peer>) -> Arc<Peer> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(peers.get(&link.member.id).unwrap_or(link))
    }
}

impl Peer {
    /// Asks something of the member.
    pub(crate) async fn call(&self, call: Call, timeout: Duration) -> Result<Answer, CallError> {
        self.calls.call(call, timeout).await
    }

    fn say_unsent(&self, error: &io::Error) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(to = %self.member.name, %error, "a snapshot could not be sent");
        }
    }

    async fn urgent(&self, call: Call) -> Result<Answer, RPCError<Types>> {
        self.urgent.call(call, VOTE_TIMEOUT).await.map_err(|error| Unreachable::new(&error).into())
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, _target: MemberId, node: &Member) -> Link {
        Link { network: self.clone(), peer: self.peer(node), append: Mutex::new(None), refused: 0 }
    }
}

/// One user's way to a member: the engine has one for entries, one for heartbeats, one for
/// snapshots, so that none waits behind another.
pub(crate) struct Link {
    network: Network,
    peer: Arc<Peer>,
    /// An idle connection for entries. Behind a lock only because streams cannot be shared.
    append: Mutex<Option<Idle>>,
    /// Connections for entries that failed in a row.
    refused: u32,
}

/// How long to wait after so many failures in a row. Short at first: a member that restarts is back
/// within a fraction of a second.
fn pause(failures: u32) -> Duration {
    Duration::from_millis((20 << failures.min(5)).min(500))
}

fn unexpected() -> RPCError<Types> {
    let error = io::Error::new(io::ErrorKind::InvalidData, "the answer to another question");
    NetworkError::new(&error).into()
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let requests = futures::stream::iter([request]);
        let mut answers = RaftNetworkV2::stream_append(self, requests, option).await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(unexpected()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> futures::future::BoxFuture<'s, Result<BoxStream<'s, AppendResult>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            self.peer = self.network.current(&self.peer);
            let slot = self.append.get_mut().unwrap_or_else(PoisonError::into_inner);
            let idle = match slot.take() {
                Some(idle) => idle,
                None => {
                    match connect(&*self.peer.transport, &self.peer.member, Lane::Append).await {
                        Ok(stream) => Idle::new(stream),
                        Err(error) => {
                            // The engine asks again at once, and a machine without a daemon refuses at once.
                            runtime::sleep(pause(self.refused)).await;
                            self.refused = self.refused.saturating_add(1);
                            return Err(Unreachable::new(&error).into());
                        }
                    }
                }
            };
            self.refused = 0;
            let session: BoxStream<'s, AppendResult> =
                Box::pin(AppendSession::new(slot, idle, input));
            Ok(session)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.peer.urgent(Call::Vote(request)).await? {
            Answer::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.peer.urgent(Call::PreVote(request)).await? {
            Answer::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        self.peer = self.network.current(&self.peer);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send_snapshot(&self.peer, vote, snapshot) => sent.map_err(|error| {
                self.peer.say_unsent(&error);
                Unreachable::new(&error).into()
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.peer.urgent(Call::Transfer(request)).await? {
            Answer::Transfer(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new((0..).map(pause)))
    }
}

async fn send_snapshot(
    peer: &Peer,
    vote: Vote,
    snapshot: Snapshot,
) -> io::Result<SnapshotResponse<Types>> {
    let frames = connect(&*peer.transport, &peer.member, Lane::Snapshot).await?;
    let file = snapshot.snapshot.file;
    let bytes = file.len()?;
    tracing::info!(to = %peer.member.name, bytes, "sending a snapshot");
    let head = encode(&SnapshotHead { vote, meta: snapshot.meta, bytes })?;
    let (sink, mut stream) = frames.split();
    let send = Box::pin(send_file(sink, head, (file, bytes)));
    // One that declines does so before it has received all.
    let answer = match futures::future::select(stream.next(), send).await {
        Either::Left((answer, _)) => answer,
        Either::Right((sent, answer)) => {
            let _open = sent?;
            runtime::timeout(INSTALL_TIMEOUT, answer)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
    };
    let answer: Result<Vote, Declined> = decode(&answer.ok_or(io::ErrorKind::UnexpectedEof)??)?;
    answer.map(SnapshotResponse::new).map_err(|declined| io::Error::other(declined.bounded()))
}

/// Sends all of a snapshot; the way is kept for as long as an answer is wanted.
async fn send_file(
    mut sink: SplitSink<Frames, Bytes>,
    head: Bytes,
    (file, bytes): (Arc<File>, u64),
) -> io::Result<SplitSink<Frames, Bytes>> {
    sink.send(head).await?;
    let mut at = 0;
    while at < bytes {
        let chunk = read_chunk(Arc::clone(&file), at, bytes).await?;
        at += chunk.len() as u64;
        sink.send(chunk).await?;
    }
    Ok(sink)
}

async fn read_chunk(file: Arc<File>, at: u64, end: u64) -> io::Result<Bytes> {
    let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
    blocking(move || {
        let mut chunk = vec![0; len];
        file.read_exact_at(&mut chunk, at)?;
        Ok(Bytes::from(chunk))
    })
    .await
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::types::SnapshotMeta;
    use super::*;
    use crate::testing::{Cluster, member, run};
    use crate::transport::BoxedStream;
    use crate::{Store, Tuning, disk};

    /// The way to one store over the kernel's sockets, which drop what was sent when they are closed over what was not
    /// read.
    struct Tcp(Store);

    #[async_trait]
    impl Transport for Tcp {
        async fn connect(&self, _: &Member) -> io::Result<BoxedStream> {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let near = TcpStream::connect(listener.local_addr()?).await?;
            let (far, _) = listener.accept().await?;
            let store = self.0.clone();
            tokio::spawn(async move { store.serve(Box::new(far)).await });
            Ok(Box::new(near))
        }
    }

    #[test]
    fn who_sends_what_is_declined_hears_why() {
        run(async {
            let cluster = Cluster::new(1, Tuning::default()).await;
            let network = Network::new(Arc::new(Tcp(cluster.store(1).clone())));
            let peer = network.peer(&member(1));
            let dir = tempfile::tempdir().unwrap();
            // Twice what the disk has; the file itself has holes.
            let file = File::create(&dir.path().join("large")).unwrap();
            file.set_len(disk::free_space(&cluster.dir(1)).unwrap() * 2).unwrap();
            let file = Arc::new(file);
            for _ in 0..5 {
                let snapshot = SnapshotData { file: Arc::clone(&file), received: None };
                let snapshot = Snapshot { meta: SnapshotMeta::default(), snapshot };
                let sent = send_snapshot(&peer, Vote::new(9, 9), snapshot).await;
                let error = sent.expect_err("there is no space").to_string();
                assert!(error.contains("free on the disk"), "{error}");
            }
        });
    }

    #[test]
    fn a_reason_is_short_however_long_it_is() {
        let long = io::Error::other("ä".repeat(1 << 20));
        assert!(encode(&Declined::because(&long)).unwrap().len() < 2000);
        let sent = encode(&long.to_string()).unwrap();
        let told: Declined = decode(&sent).unwrap();
        assert!(told.bounded().to_string().len() < 2000);
    }
}
