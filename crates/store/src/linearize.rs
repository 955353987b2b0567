//! Reads that see every write acknowledged before them: the leader says how far a copy must have
//! been applied, once for all reads that wait.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy as Policy;
use tokio::sync::{mpsc, oneshot};

use crate::config::ReadPolicy;
use crate::core::Core;
use crate::error::ReadError;
use crate::raft::{Answer, Call, CallError, Refusal};
use crate::retry::Retry;
use crate::runtime;

/// Reads that may wait for the leader.
const WAITING: usize = 16_384;
/// How long the leader may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

type Waiter = oneshot::Sender<Result<u64, Refusal>>;

/// The way to a linearizable read.
pub(crate) struct Reads {
    queue: mpsc::Sender<Waiter>,
}

/// The other end of [`Reads`], for [`run`].
pub(crate) struct Queue(mpsc::Receiver<Waiter>);

impl Reads {
    pub(crate) fn new() -> (Reads, Queue) {
        let (queue, receiver) = mpsc::channel(WAITING);
        (Reads { queue }, Queue(receiver))
    }

    /// The number of entries that must have been applied; asked together with other reads.
    async fn index(&self) -> Result<u64, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.queue.send(sender).await.map_err(|_| Refusal::Stopped)?;
        receiver.await.unwrap_or(Err(Refusal::Stopped))
    }
}

impl Core {
    /// Returns when this member's copy may be read.
    pub(crate) async fn linearize(&self) -> Result<(), ReadError> {
        if !self.in_cluster() {
            return Err(ReadError::NotInCluster);
        }
        let timeout = self.config.tuning.request_timeout;
        let mut retry = Retry::new(timeout, self.leadership.subscribe());
        loop {
            if self.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let failed = ReadError::NoLeader { waited_ms: retry.waited_ms() };
            let Ok(index) = runtime::timeout_at(retry.deadline(), self.reads.index()).await else {
                return Err(failed);
            };
            if let Ok(index) = index {
                let mut applied = self.replica.applied();
                if *applied.borrow() >= index {
                    return Ok(());
                }
                // Rare, as is a pause, and on the heap: each read is as large as all that it may do.
                let caught_up = applied.wait_for(|applied| *applied >= index);
                let caught_up = Box::pin(runtime::timeout(retry.left(), caught_up));
                return match caught_up.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(_)) => Err(ReadError::Stopped),
                    Err(_) => Err(failed),
                };
            }
            if !Box::pin(retry.pause()).await {
                return Err(ReadError::NoLeader { waited_ms: retry.waited_ms() });
            }
        }
    }

    /// Asks the engine of this member, which must lead.
    pub(crate) async fn read_index(&self) -> Result<u64, Refusal> {
        if !self.leader().is_me {
            return Err(Refusal::NotLeader);
        }
        if self.config.tuning.read_policy == ReadPolicy::Lease
            && let Ok((id, _)) = self.engine.get_read_log_id(Policy::LeaseRead).await
        {
            return Ok(id.index() + 1);
        }
        // The lease has just run out, or is not to be trusted: ask the others.
        let confirmed = self.engine.get_read_log_id(Policy::ReadIndex).await;
        confirmed.map(|(id, _)| id.index() + 1).map_err(|_| Refusal::NotLeader)
    }

    /// Returns when this member is known to lead and has applied all that was committed before.
    pub(crate) async fn be_current(&self) -> Result<(), Refusal> {
        let index = self.read_index().await?;
        let mut applied = self.replica.applied();
        let caught_up = applied.wait_for(|applied| *applied >= index);
        match runtime::timeout(ASK_TIMEOUT, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Refusal::Stopped),
            Err(_) => Err(Refusal::NotLeader),
        }
    }

    async fn ask_read_index(&self) -> Result<u64, Refusal> {
        if self.leader().is_me {
            return self.read_index().await;
        }
        match self.ask_leader(Call::ReadIndex, ASK_TIMEOUT).await {
            Ok(Answer::ReadIndex(index)) => Ok(index),
            Ok(_) | Err(CallError::Lost(_) | CallError::Unreachable(_)) => Err(Refusal::NotLeader),
            Err(CallError::Refused(refusal)) => Err(refusal),
        }
    }
}

/// Asks for whoever waits, until the store stops.
pub(crate) async fn run(core: Arc<Core>, queue: Queue) {
    let Queue(mut queue) = queue;
    let mut waiters = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            count = queue.recv_many(&mut waiters, WAITING) => if count == 0 { return },
        }
        // Those who come from here on wait for the next answer: this one may be too old for them.
        let answer = core.ask_read_index().await;
        for waiter in waiters.drain(..) {
            // A read may have been given up.
            waiter.send(answer).ok();
        }
    }
}
