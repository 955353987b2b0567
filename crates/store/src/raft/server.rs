//! The other end of connections: what other members ask is given to the engine or to the store.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{Semaphore, mpsc};

use super::machine::{SnapshotData, blocking, load};
use super::types::{Engine, Snapshot, Types, Vote};
use super::wire::{
    Answer, Call, Declined, Frames, Lane, MAX_FRAME, Refusal, Request, Response, SnapshotHead,
    accept, decode, encode, frames,
};
use crate::command::Outcome;
use crate::disk::{self, File};
use crate::member::MemberId;
use crate::runtime::{self, Instant};
use crate::snapshot::SnapshotFiles;
use crate::transport::BoxedStream;

/// Calls of one connection that are worked on at a time.
const CONCURRENT: usize = 1024;

/// Bytes of a frame besides the answers in it that have their full size.
const FRAME_HEAD: usize = 64 << 10;

/// How long one who sends a snapshot that was declined is given to hear so.
const DECLINING: Duration = Duration::from_secs(5);

/// Requests of one connection that wait for the engine.
const APPENDS: usize = 8;

/// What the engine has no answer for.
#[async_trait]
pub(crate) trait Calls: Send + Sync + 'static {
    async fn answer(&self, call: Call) -> Result<Answer, Refusal>;
}

/// Serves connections from other members.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) me: MemberId,
    pub(crate) engine: Engine,
    pub(crate) snapshots: Arc<SnapshotFiles>,
    /// No vote is given before: an earlier life of this process may have promised a leader not to.
    pub(crate) votes_from: Instant,
    pub(crate) calls: Arc<dyn Calls>,
}

impl Server {
    /// Serves one connection until it ends.
    pub(crate) async fn serve(&self, stream: BoxedStream) -> io::Result<()> {
        let mut frames = frames(stream);
        match accept(&mut frames, self.me).await? {
            Lane::Append => self.serve_appends(frames).await,
            Lane::Call => self.serve_calls(frames).await,
            Lane::Snapshot => self.serve_snapshot(frames).await,
        }
    }

    async fn serve_appends(&self, frames: Frames) -> io::Result<()> {
        let (mut sink, mut stream) = frames.split();
        let (sender, receiver) = mpsc::channel(APPENDS);
        let mut answers = Box::pin(self.engine.stream_append(requests(receiver)));
        let read = async move {
            while let Some(frame) = stream.next().await {
                let request = decode::<AppendEntriesRequest<Types>>(&frame?)?;
                if sender.send(request).await.is_err() {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let write = async move {
            while let Some(answer) = answers.next().await {
                let answer = answer.map_err(io::Error::other)?;
                sink.send(encode(&answer)?).await?;
            }
            io::Result::Ok(())
        };
        tokio::select! {
            biased;
            ended = read => ended,
            ended = write => ended,
        }
    }

    async fn serve_calls(&self, frames: Frames) -> io::Result<()> {
        let (mut sink, mut stream) = frames.split();
        let (sender, mut answers) = mpsc::channel::<Bytes>(CONCURRENT);
        let slots = Arc::new(Semaphore::new(CONCURRENT));
        let read = async move {
            while let Some(frame) = stream.next().await {
                let Request { id, call } = decode(&frame?)?;
                let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
                let (server, sender) = (self.clone(), sender.clone());
                runtime::spawn(async move {
                    let frame = respond(id, server.answer(call).await);
                    // The caller may be gone; then nobody wants the answer.
                    sender.send(frame).await.ok();
                    drop(slot);
                });
            }
            io::Result::Ok(())
        };
        let write = async move {
            while let Some(frame) = answers.recv().await {
                sink.feed(frame).await?;
                if answers.is_empty() {
                    sink.flush().await?;
                }
            }
            io::Result::Ok(())
        };
        tokio::select! {
            biased;
            ended = read => ended,
            ended = write => ended,
        }
    }

    async fn answer(&self, call: Call) -> Result<Answer, Refusal> {
        // A leader that hands over releases everyone from what they promised it.
        let early = match &call {
            Call::Vote(request) | Call::PreVote(request) => !request.leadership_transfer,
            _ => false,
        };
        if early && Instant::now() < self.votes_from {
            return Err(Refusal::TooEarly);
        }
        let answer = match call {
            Call::Vote(request) => {
                Answer::Vote(self.engine.vote(request).await.map_err(|_| Refusal::Stopped)?)
            }
            Call::PreVote(request) => {
                Answer::Vote(self.engine.pre_vote(request).await.map_err(|_| Refusal::Stopped)?)
            }
            Call::Transfer(request) => {
                let done = self.engine.handle_transfer_leader(request).await;
                Answer::Transfer(done.map_err(|_| Refusal::Stopped)?)
            }
            call => self.calls.answer(call).await?,
        };
        Ok(answer)
    }

    async fn serve_snapshot(&self, mut frames: Frames) -> io::Result<()> {
        let first = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        let head: SnapshotHead = decode(&first)?;
        let answer = match self.receive_snapshot(&mut frames, head).await {
            Ok(vote) => Ok(vote),
            Err(error) => {
                tracing::warn!(%error, "a snapshot was not installed");
                Err(Declined::because(&error))
            }
        };
        frames.send(encode(&answer)?).await?;
        if answer.is_err() {
            // A connection that is closed while something in it was not read may lose what was said last.
            let rest = async { while let Some(Ok(_)) = frames.next().await {} };
            runtime::timeout(DECLINING, rest).await.ok();
        }
        Ok(())
    }

    /// Writes a snapshot to disk, checks all of it, and only then gives it to the engine.
    async fn receive_snapshot(&self, frames: &mut Frames, head: SnapshotHead) -> io::Result<Vote> {
        self.check_space(head.bytes).await?;
        let unfinished = self.snapshots.unfinished();
        tracing::info!(bytes = head.bytes, "receiving a snapshot");
        let file = receive_file(frames, unfinished.path(), head.bytes).await?;
        let check = move || {
            file.sync_all()?;
            let (meta, state) = load(unfinished.path()).map_err(io::Error::other)?;
            Ok((unfinished, file, meta, state))
        };
        let (unfinished, file, meta, state) = blocking(check).await?;
        if meta != head.meta {
            return Err(io::Error::other("the snapshot is not the one that was announced"));
        }
        let received = Some((unfinished, Box::new(state)));
        let snapshot = SnapshotData { file: Arc::new(file), received };
        let snapshot = Snapshot { meta, snapshot };
        let installed = self.engine.install_full_snapshot(head.vote, snapshot).await;
        Ok(installed.map_err(io::Error::other)?.vote)
    }

    /// Refuses a snapshot that does not fit: it would take what the log needs, and then fail.
    async fn check_space(&self, bytes: u64) -> io::Result<()> {
        let dir = self.snapshots.dir().to_owned();
        let free = blocking(move || disk::free_space(&dir)).await?;
        if bytes > free {
            let reason = format!("it has {bytes} bytes, and only {free} are free on the disk");
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        Ok(())
    }
}

fn requests(
    receiver: mpsc::Receiver<AppendEntriesRequest<Types>>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async move {
        let request = receiver.recv().await?;
        Some((request, receiver))
    })
}

fn respond(id: u64, result: Result<Answer, Refusal>) -> Bytes {
    let response = Response { id, result };
    let error = match encode(&response) {
        Ok(frame) => return frame,
        Err(error) => error,
    };
    tracing::warn!(%error, "an answer cannot be sent");
    let refused = |_| encode(&Response { id, result: Err(Refusal::TooLarge) });
    let smaller = match response.result {
        // Who forwards sends the commands of many callers at a time: only those with large answers go without.
        Ok(Answer::Proposed(answers)) => {
            let result = Ok(Answer::Proposed(those_that_fit(answers)));
            encode(&Response { id, result }).or_else(refused)
        }
        _ => refused(error),
    };
    smaller.expect("a refusal is small")
}

/// The answers, the largest replaced by refusals until all go into one frame.
fn those_that_fit(mut answers: Vec<Result<Outcome, Refusal>>) -> Vec<Result<Outcome, Refusal>> {
    let size = |answer| postcard::experimental::serialized_size(answer).unwrap_or(usize::MAX);
    let mut sizes: Vec<_> = answers.iter().map(size).zip(0..).collect();
    sizes.sort_unstable();
    let mut room = MAX_FRAME - FRAME_HEAD;
    for (bytes, number) in sizes {
        let number: usize = number;
        match room.checked_sub(bytes) {
            Some(left) => room = left,
            None => answers[number] = Err(Refusal::TooLarge),
        }
    }
    answers
}

async fn receive_file(frames: &mut Frames, path: &std::path::Path, bytes: u64) -> io::Result<File> {
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let chunk = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| io::Error::other("the snapshot is longer than announced"))?;
        file = blocking(move || {
            file.write_all(&chunk)?;
            Ok(file)
        })
        .await?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::wire::connect;
    use super::*;
    use crate::command::Reply;
    use crate::kv::KeyValue;
    use crate::testing::{Cluster, member, run};
    use crate::txn::{OpResponse, TxnResponse};
    use crate::{Member, Store, Transport, Tuning};

    fn outcome(bytes: usize) -> Result<Outcome, Refusal> {
        let prev = Some(Arc::new(KeyValue {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(vec![1; bytes]),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        }));
        let responses = vec![OpResponse::Put { prev }];
        Ok(Ok(Reply::Txn(TxnResponse { revision: 2, succeeded: true, responses })))
    }

    #[test]
    fn one_large_answer_leaves_the_others_of_its_batch_alone() {
        let sizes = [10, MAX_FRAME, 1 << 20, MAX_FRAME / 2, MAX_FRAME / 2, 0];
        let answers = sizes.map(outcome).into_iter().collect();
        let frame = respond(7, Ok(Answer::Proposed(answers)));
        let response: Response = decode(&frame).expect("it is a frame");
        let Ok(Answer::Proposed(answers)) = response.result else {
            panic!("all of them were refused")
        };
        let told: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(told, [true, false, true, true, false, true]);
        assert_eq!(answers[0], outcome(10));
        assert_eq!(answers[1], Err(Refusal::TooLarge), "which says that it was done");
    }
    /// The way to one store.
    struct To(Store);

    #[async_trait]
    impl Transport for To {
        async fn connect(&self, _: &Member) -> io::Result<BoxedStream> {
            let (near, far) = tokio::io::duplex(64 << 10);
            let store = self.0.clone();
            tokio::spawn(async move { store.serve(Box::new(far)).await });
            Ok(Box::new(near))
        }
    }

    async fn send(store: &Store, head: SnapshotHead, content: Bytes) -> Result<Vote, Declined> {
        let way = To(store.clone());
        let mut frames = connect(&way, &member(1), Lane::Snapshot).await.expect("connected");
        frames.send(encode(&head).unwrap()).await.expect("sent");
        if !content.is_empty() {
            frames.send(content).await.expect("sent");
        }
        decode(&frames.next().await.expect("an answer").expect("an answer")).expect("an answer")
    }

    #[test]
    fn a_snapshot_that_is_not_installed_leaves_nothing() {
        run(async {
            let cluster = Cluster::new(1, Tuning::default()).await;
            let store = cluster.store(1);
            store.put("key", "value").await.expect("written");
            store.snapshot().await.expect("a snapshot");
            let dir = cluster.dir(1).join("snapshots");
            let files = || {
                let files = std::fs::read_dir(&dir).expect("it is there");
                files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
            };
            let [file] = &files()[..] else { panic!("one snapshot") };
            let content = Bytes::from(std::fs::read(file).unwrap());
            let (meta, _) = load(file).expect("it is whole");
            // Whole, and of a leader that was.
            let bytes = content.len() as u64;
            let head = SnapshotHead { vote: Vote::new(0, 9), meta: meta.clone(), bytes };
            let now = send(store, head, content).await.expect("an answer");
            assert!(now.leader_id.term > 0);
            while files().len() > 1 {
                tokio::task::yield_now().await;
            }
            // One for which there is no space is not even received.
            let head = SnapshotHead { vote: now, meta, bytes: 1 << 60 };
            let refused = send(store, head, Bytes::new()).await.expect_err("too large");
            let refused = refused.to_string();
            assert!(refused.contains("free on the disk"), "{refused}");
            assert_eq!(files().len(), 1);
        });
    }
}
