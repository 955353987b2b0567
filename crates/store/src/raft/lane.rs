//! Calls to one member over one connection: many at a time, answered in any order.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::wire::{
    Answer, Call, Frames, Lane, Refusal, Request, Response, connect, decode, encode,
};
use crate::member::Member;
use crate::runtime::{self, Instant};
use crate::transport::Transport;

/// Calls that may wait to be sent on one connection.
const QUEUE: usize = 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It was not sent.
    #[error("cannot reach the member: {0}")]
    Unreachable(io::Error),
    /// It was sent, and may have been done.
    #[error("the member did not answer: {0}")]
    Lost(&'static str),
    /// The member said no.
    #[error("the member refused: {0}")]
    Refused(#[from] Refusal),
}

type Pending = (Bytes, u64, oneshot::Sender<Result<Answer, Refusal>>);

/// A connection for calls, made when it is needed and again when it broke.
pub(crate) struct CallLane {
    to: Member,
    transport: Arc<dyn Transport>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    calls: Option<mpsc::Sender<Pending>>,
    next_id: u64,
}

impl CallLane {
    pub(crate) fn new(to: Member, transport: Arc<dyn Transport>) -> CallLane {
        CallLane { to, transport, open: Mutex::default() }
    }

    /// Asks the member, and waits for the answer at most `timeout`.
    pub(crate) async fn call(&self, call: Call, timeout: Duration) -> Result<Answer, CallError> {
        let deadline = Instant::now() + timeout;
        let sending = runtime::timeout_at(deadline, self.send(call));
        let answer = match sending.await {
            Ok(sent) => sent.map_err(CallError::Unreachable)?,
            Err(_) => return Err(CallError::Unreachable(io::ErrorKind::TimedOut.into())),
        };
        match runtime::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(CallError::Lost("the connection broke")),
            Err(_) => Err(CallError::Lost("it took too long")),
        }
    }

    async fn send(&self, call: Call) -> io::Result<oneshot::Receiver<Result<Answer, Refusal>>> {
        let (calls, id) = {
            let mut open = self.open.lock().await;
            open.next_id += 1;
            let id = open.next_id;
            match &open.calls {
                Some(calls) if !calls.is_closed() => (calls.clone(), id),
                _ => {
                    let frames = connect(&*self.transport, &self.to, Lane::Call).await?;
                    let (calls, queue) = mpsc::channel(QUEUE);
                    runtime::spawn(run(frames, queue));
                    open.calls = Some(calls.clone());
                    (calls, id)
                }
            }
        };
        let frame = encode(&Request { id, call })?;
        let (sender, answer) = oneshot::channel();
        calls
            .send((frame, id, sender))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(answer)
    }
}

/// Serves one connection until it breaks or nobody can call any more.
async fn run(frames: Frames, mut queue: mpsc::Receiver<Pending>) {
    let (mut sink, mut stream) = frames.split();
    let pending: Arc<std::sync::Mutex<Waiting>> = Arc::default();
    let waiting = Arc::clone(&pending);
    let write = async move {
        while let Some((frame, id, sender)) = queue.recv().await {
            waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(id, sender);
            sink.feed(frame).await?;
            if queue.is_empty() {
                sink.flush().await?;
            }
        }
        io::Result::Ok(())
    };
    let read = async move {
        while let Some(frame) = stream.next().await {
            let Response { id, result } = decode(&frame?)?;
            let sender = pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(id);
            if let Some(sender) = sender {
                // The caller may have given up.
                sender.send(result).ok();
            }
        }
        io::Result::Ok(())
    };
    let ended = tokio::select! {
        biased;
        ended = write => ended,
        ended = read => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for calls ended");
    }
}

/// Calls that were sent and not answered; the abandoned ones are dropped now and then.
#[derive(Default)]
struct Waiting {
    /// In order: when the connection breaks they hear of it in this one, and a simulated run repeats itself.
    calls: BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
}

impl Waiting {
    fn add(&mut self, id: u64, sender: oneshot::Sender<Result<Answer, Refusal>>) {
        if self.calls.len() >= QUEUE {
            self.calls.retain(|_, sender| !sender.is_closed());
        }
        self.calls.insert(id, sender);
    }

    fn take(&mut self, id: u64) -> Option<oneshot::Sender<Result<Answer, Refusal>>> {
        self.calls.remove(&id)
    }
}
