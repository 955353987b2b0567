//! Getting commands into the log: what waits goes in together, as one entry; what is refused is
//! tried again under the same number.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::command::{Command, Entry, Outcome, Proposal, Reply};
use crate::core::Core;
use crate::error::WriteError;
use crate::log::Health;
use crate::raft::{Answer, Call, CallError, Refusal};
use crate::retry::Retry;
use crate::runtime;
use crate::txn::{Op, Txn};

/// Commands of one entry, at most.
const BATCH: usize = 512;
/// Bytes of one entry, unless one command alone is larger.
const BATCH_BYTES: usize = 1 << 20;
/// Entries on their way at a time: while these are, what comes gathers for the next.
const IN_FLIGHT: usize = 4;
/// Commands that may wait.
const WAITING: usize = 16_384;
/// Bytes of commands that may wait or be on their way.
const WAITING_BYTES: usize = 128 << 20;
/// How long the leader may take for forwarded commands before they are sent again.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of one attempt.
type Attempt = Result<Arc<Outcome>, Refusal>;

struct Waiting {
    proposal: Proposal,
    /// Taken until nothing is done for the command any more, whether or not someone still waits for it.
    room: Arc<Room>,
    /// It is not passed on: it came from another member, which will try again itself, or is for this
    /// leader to decide.
    forwarded: bool,
    reply: oneshot::Sender<Attempt>,
}

/// The way into the log.
pub(crate) struct Proposer {
    queue: mpsc::Sender<Waiting>,
    client: u64,
    next: AtomicU64,
    /// Numbers of commands that someone still waits for.
    open: Mutex<BTreeSet<u64>>,
    /// Bytes of all commands that wait or are on their way, forwarded ones too.
    bytes: Arc<AtomicUsize>,
}

/// Room for the bytes of a command until it is dropped.
struct Room {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The other end of a [`Proposer`], for [`run`].
pub(crate) struct Queue(mpsc::Receiver<Waiting>);

/// A number that counts as open until it is dropped.
struct Number<'p> {
    proposer: &'p Proposer,
    seq: u64,
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut open = self.proposer.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.seq);
    }
}

impl Proposer {
    pub(crate) fn new() -> (Proposer, Queue) {
        let (queue, receiver) = mpsc::channel(WAITING);
        let client = runtime::number();
        (
            Proposer {
                queue,
                client,
                next: AtomicU64::new(1),
                open: Mutex::default(),
                bytes: Arc::default(),
            },
            Queue(receiver),
        )
    }

    fn room(&self, bytes: usize) -> Result<Arc<Room>, WriteError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Arc::new(Room { all: Arc::clone(&self.bytes), bytes });
        let fits = before + bytes <= WAITING_BYTES;
        fits.then_some(room).ok_or(WriteError::Overloaded { limit: WAITING })
    }

    fn number(&self) -> Number<'_> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(seq);
        Number { proposer: self, seq }
    }

    /// The lowest number that someone still waits for.
    fn floor(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.first().copied().unwrap_or_else(|| self.next.load(Ordering::Relaxed))
    }

    fn attempt(
        &self,
        proposal: Proposal,
        room: Arc<Room>,
        forwarded: bool,
    ) -> Result<oneshot::Receiver<Attempt>, WriteError> {
        let (reply, receiver) = oneshot::channel();
        match self.queue.try_send(Waiting { proposal, room, forwarded, reply }) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(WriteError::Overloaded { limit: WAITING })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(WriteError::Stopped),
        }
    }
}

impl Core {
    /// Gets a command done, once. When it answers `Ok`, a quorum has it on disk and this or the
    /// leading member has applied it.
    pub(crate) async fn propose(&self, command: Command) -> Result<Reply, WriteError> {
        let limit = self.config.tuning.max_txn_bytes;
        let bytes = weight(&command);
        if bytes > limit {
            return Err(WriteError::TooLarge { bytes, limit });
        }
        if !self.in_cluster() {
            return Err(WriteError::NotInCluster);
        }
        let room = self.proposer.room(bytes)?;
        let number = self.proposer.number();
        let command = Arc::new(command);
        let timeout = self.config.tuning.request_timeout;
        let mut retry = Retry::new(timeout, self.leadership.subscribe());
        // Whether an attempt may have reached the log without our knowing.
        let mut perhaps = false;
        loop {
            if self.is_stopped() {
                return Err(WriteError::Stopped);
            }
            if !perhaps {
                self.refuse_if_full()?;
            }
            let proposal = Proposal {
                client: self.proposer.client,
                seq: number.seq,
                floor: 0,
                command: Arc::clone(&command),
            };
            let answered = match self.proposer.attempt(proposal, Arc::clone(&room), false) {
                Ok(answer) => runtime::timeout_at(retry.deadline(), answer).await,
                Err(error) => Ok(Ok(Ok(Arc::new(Err(error))))),
            };
            match answered {
                // That nothing was done is true of this attempt only.
                Ok(Ok(Ok(outcome))) if perhaps && is_refused_untried(&outcome) => {}
                Ok(Ok(Ok(outcome))) => return Arc::unwrap_or_clone(outcome),
                Ok(Ok(Err(Refusal::NotLeader | Refusal::TooEarly))) => {}
                Ok(Ok(Err(Refusal::TooLarge))) => return Err(WriteError::AnswerTooLarge),
                Ok(Ok(Err(Refusal::Deposed))) => perhaps = true,
                Ok(Ok(Err(Refusal::Stopped)) | Err(_)) => {
                    if self.is_stopped() {
                        return Err(WriteError::Stopped);
                    }
                    perhaps = true;
                }
                Err(_) => return Err(WriteError::Timeout { waited_ms: retry.waited_ms() }),
            }
            // Rare, and on the heap: each call that waits is as large as all that it may do.
            if !Box::pin(retry.pause()).await {
                let waited_ms = retry.waited_ms();
                return Err(if perhaps {
                    WriteError::Timeout { waited_ms }
                } else {
                    WriteError::NoLeader { waited_ms }
                });
            }
        }
    }

    /// Gets a command done that is right only if this member leads now: it is never passed on to
    /// another leader, who may have decided otherwise since. Tried once; after a refusal it may still
    /// have been done.
    pub(crate) async fn propose_as_leader(&self, command: Command) -> Result<(), Refusal> {
        let room = self.proposer.room(weight(&command)).map_err(|_| Refusal::Stopped)?;
        let number = self.proposer.number();
        let (client, seq) = (self.proposer.client, number.seq);
        let proposal = Proposal { client, seq, floor: 0, command: Arc::new(command) };
        let answer = self.proposer.attempt(proposal, room, true);
        let answer = answer.map_err(|_| Refusal::Stopped)?.await;
        answer.unwrap_or(Err(Refusal::Stopped)).map(|_| ())
    }

    /// Refuses if this member leads and its log cannot grow.
    fn refuse_if_full(&self) -> Result<(), WriteError> {
        if *self.health.borrow() == Health::Full && self.leader().is_me {
            let dir = self.log.dir().display().to_string();
            return Err(WriteError::DiskFull { dir });
        }
        Ok(())
    }

    /// Does what another member forwards.
    pub(crate) async fn propose_forwarded(
        &self,
        proposals: Vec<Proposal>,
    ) -> Vec<Result<Outcome, Refusal>> {
        if !self.leader().is_me {
            return proposals.iter().map(|_| Err(Refusal::NotLeader)).collect();
        }
        if let Err(full) = self.refuse_if_full() {
            return proposals.iter().map(|_| Ok(Err(full.clone()))).collect();
        }
        let mut attempts = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            attempts.push(match self.proposer.room(weight(&proposal.command)) {
                Ok(room) => self.proposer.attempt(proposal, room, true),
                Err(error) => Err(error),
            });
        }
        let mut answers = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            answers.push(match attempt {
                Err(error) => Ok(Err(error)),
                Ok(answer) => match answer.await {
                    Ok(Ok(outcome)) => Ok(Arc::unwrap_or_clone(outcome)),
                    Ok(Err(refusal)) => Err(refusal),
                    Err(_) => Err(Refusal::Deposed),
                },
            });
        }
        answers
    }
}

/// Sends what waits, until the store stops.
pub(crate) async fn run(core: Arc<Core>, queue: Queue) {
    let Queue(mut queue) = queue;
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let first = tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        let mut batch = gather(first, &mut queue, core.proposer.floor());
        // Nobody waits for these any more: done now, they would be done late.
        batch.retain(|waiting| !waiting.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        runtime::spawn(send(Arc::clone(&core), batch, slot));
    }
}

/// True for what is said of a command before it is put into the log; the state itself never says so.
fn is_refused_untried(outcome: &Outcome) -> bool {
    matches!(outcome, Err(WriteError::DiskFull { .. } | WriteError::Overloaded { .. }))
}

fn gather(first: Waiting, queue: &mut mpsc::Receiver<Waiting>, floor: u64) -> Vec<Waiting> {
    let mut bytes = first.room.bytes;
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.room.bytes;
        batch.push(next);
    }
    for waiting in batch.iter_mut().filter(|waiting| !waiting.forwarded) {
        waiting.proposal.floor = floor.min(waiting.proposal.seq);
    }
    batch
}

async fn send(core: Arc<Core>, batch: Vec<Waiting>, slot: OwnedSemaphorePermit) {
    if core.leader().is_me {
        write(&core, batch).await;
    } else {
        forward(&core, batch).await;
    }
    drop(slot);
}

/// What is sent, who waits for it, and the room it takes meanwhile.
fn parts(batch: Vec<Waiting>) -> (Vec<Proposal>, Vec<oneshot::Sender<Attempt>>, Vec<Arc<Room>>) {
    let mut parts = (Vec::new(), Vec::new(), Vec::new());
    parts.extend(batch.into_iter().map(|waiting| (waiting.proposal, waiting.reply, waiting.room)));
    parts
}

/// Writes a batch as one entry.
async fn write(core: &Core, batch: Vec<Waiting>) {
    let (proposals, replies, _rooms) = parts(batch);
    let mut leadership = core.leadership.subscribe();
    // The engine answers when the entry is applied or cut off, which a member that is deposed may hear late or never.
    let response = tokio::select! {
        biased;
        response = core.engine.client_write(Entry::encode(proposals)) => response,
        _ = leadership.wait_for(|now| !now.is_me) => return refuse(replies, Refusal::Deposed),
    };
    let refusal = match response {
        Ok(response) => {
            for (reply, outcome) in replies.into_iter().zip(response.data.0) {
                // Whoever asked may have given up.
                reply.send(Ok(outcome)).ok();
            }
            return;
        }
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Refusal::NotLeader,
        Err(RaftError::APIError(error)) => {
            tracing::debug!(%error, "an entry may be lost");
            Refusal::Deposed
        }
        Err(RaftError::Fatal(_)) => Refusal::Stopped,
    };
    refuse(replies, refusal);
}

/// Sends a batch to the leader.
async fn forward(core: &Core, batch: Vec<Waiting>) {
    let (strange, own): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| waiting.forwarded);
    refuse(strange.into_iter().map(|waiting| waiting.reply), Refusal::NotLeader);
    if own.is_empty() {
        return;
    }
    let (proposals, replies, _rooms) = parts(own);
    let refusal = match core.ask_leader(Call::Propose(proposals), FORWARD_TIMEOUT).await {
        Ok(Answer::Proposed(answers)) if answers.len() == replies.len() => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                reply.send(answer.map(Arc::new)).ok();
            }
            return;
        }
        Ok(_) | Err(CallError::Lost(_)) => Refusal::Deposed,
        Err(CallError::Unreachable(_)) => Refusal::NotLeader,
        // Another member's end is not ours.
        Err(CallError::Refused(Refusal::Stopped)) => Refusal::Deposed,
        Err(CallError::Refused(refusal)) => refusal,
    };
    refuse(replies, refusal);
}

fn refuse(replies: impl IntoIterator<Item = oneshot::Sender<Attempt>>, refusal: Refusal) {
    for reply in replies {
        reply.send(Err(refusal)).ok();
    }
}

/// About how many bytes a command takes, encoded.
fn weight(command: &Command) -> usize {
    match command {
        Command::Txn(txn) => txn_weight(txn),
        Command::Compact(_) | Command::LeaseGrant(_) | Command::LeaseRevoke(_) => 32,
    }
}

fn txn_weight(txn: &Txn) -> usize {
    let compares = txn.compare.iter().map(|compare| {
        let operand = match &compare.operand {
            crate::txn::Operand::Value(value) => value.len(),
            _ => 8,
        };
        compare.key.len() + compare.end.as_ref().map_or(0, bytes::Bytes::len) + operand + 8
    });
    let end = |end: &Option<bytes::Bytes>| end.as_ref().map_or(0, bytes::Bytes::len);
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        Op::Range(range) => range.key.len() + end(&range.end) + 16,
        Op::Put(put) => put.key.len() + put.value.len() + 24,
        Op::DeleteRange(delete) => delete.key.len() + end(&delete.end) + 8,
        Op::Txn(inner) => txn_weight(inner),
    });
    32 + compares.chain(ops).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Put;

    #[tokio::test]
    async fn what_waits_takes_its_room_even_if_its_asker_gave_up() {
        let (proposer, Queue(mut queue)) = Proposer::new();
        let command = Command::Txn(Txn::new().then(Put::new("key", "value")));
        let proposal = Proposal { client: 1, seq: 1, floor: 0, command: Arc::new(command) };
        let room = proposer.room(WAITING_BYTES).expect("there is room");
        let answer = proposer.attempt(proposal, room, false).expect("it waits");
        drop(answer);
        let refused = |error| matches!(error, Some(WriteError::Overloaded { .. }));
        assert!(refused(proposer.room(1).err()), "its bytes are still in the queue");
        let batch = gather(queue.try_recv().expect("it waits"), &mut queue, 1);
        let (_, _, rooms) = parts(batch);
        assert!(refused(proposer.room(1).err()), "its bytes are on their way");
        drop(rooms);
        assert!(proposer.room(1).is_ok());
    }
}
