//! Who asked for what: a command that arrives twice is done once.
//!
//! A client numbers its commands and says below which number it waits for no answer any more; the
//! answers from there on are kept. So the table holds what is in flight and nothing else. Of an answer that is large
//! only that it was given: it would take memory and a place in snapshots until its client asks for something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Outcome, Proposal};
use crate::error::WriteError;

/// Clients remembered; a client is one life of one member's process, so 256 are many restarts. The
/// one that was quiet longest goes first.
const MAX_SESSIONS: usize = 256;

/// The largest outcome that is kept, encoded.
const KEPT_BYTES: usize = 4 << 10;

/// Outcomes in one image: 4 MiB at most.
const IMAGE_OUTCOMES: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    clients: BTreeMap<u64, Session>,
    /// Counts commands, to know who was quiet longest.
    clock: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    floor: u64,
    used: u64,
    done: BTreeMap<u64, Arc<Outcome>>,
}

/// A part of what is known of one client, as a snapshot holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionImage {
    client: u64,
    floor: u64,
    used: u64,
    done: Vec<(u64, Arc<Outcome>)>,
}

/// What is known of a command before it is applied.
pub(super) enum Seen {
    /// Never seen: apply it.
    New,
    /// Applied before, with this answer.
    Done(Arc<Outcome>),
    /// So old that nobody waits for it; it must not be applied, it may have been.
    Stale,
}

impl Sessions {
    pub(super) fn look_up(&mut self, proposal: &Proposal) -> Seen {
        self.clock += 1;
        if !self.clients.contains_key(&proposal.client) {
            self.make_room();
        }
        let session = self.clients.entry(proposal.client).or_default();
        session.used = self.clock;
        if proposal.floor > session.floor {
            session.floor = proposal.floor;
            session.done = session.done.split_off(&proposal.floor);
        }
        if proposal.seq < session.floor {
            return Seen::Stale;
        }
        match session.done.get(&proposal.seq) {
            Some(outcome) => Seen::Done(Arc::clone(outcome)),
            None => Seen::New,
        }
    }

    pub(super) fn done(&mut self, proposal: &Proposal, outcome: Arc<Outcome>) {
        if let Some(session) = self.clients.get_mut(&proposal.client) {
            session.done.insert(proposal.seq, kept(outcome));
        }
    }

    /// What is not in [`Sessions::images`].
    pub(super) fn head(&self) -> Sessions {
        Sessions { clients: BTreeMap::new(), clock: self.clock }
    }

    /// All clients, in images of a bounded size.
    pub(super) fn images(&self) -> impl Iterator<Item = SessionImage> {
        self.clients.iter().flat_map(|(client, session)| {
            let mut done = session.done.iter();
            let mut images = session.done.len().div_ceil(IMAGE_OUTCOMES).max(1);
            std::iter::from_fn(move || {
                images = images.checked_sub(1)?;
                let done = done.by_ref().take(IMAGE_OUTCOMES);
                Some(SessionImage {
                    client: *client,
                    floor: session.floor,
                    used: session.used,
                    done: done.map(|(seq, outcome)| (*seq, Arc::clone(outcome))).collect(),
                })
            })
        })
    }

    pub(super) fn add(&mut self, image: SessionImage) {
        let session = self.clients.entry(image.client).or_default();
        (session.floor, session.used) = (image.floor, image.used);
        session.done.extend(image.done);
    }

    fn make_room(&mut self) {
        if self.clients.len() < MAX_SESSIONS {
            return;
        }
        let quiet = self.clients.iter().min_by_key(|(_, session)| session.used);
        if let Some(id) = quiet.map(|(id, _)| *id) {
            self.clients.remove(&id);
        }
    }
}

/// What one who asks again is told. It follows from the outcome alone: every member must come to the same.
fn kept(outcome: Arc<Outcome>) -> Arc<Outcome> {
    let bytes = postcard::experimental::serialized_size(&*outcome).unwrap_or(usize::MAX);
    if bytes <= KEPT_BYTES {
        return outcome;
    }
    let part = |key: &Bytes| Bytes::copy_from_slice(&key[..key.len().min(KEPT_BYTES / 2)]);
    Arc::new(Err(match &*outcome {
        Ok(_) => WriteError::AnswerTooLarge,
        // A refusal stays one; it can be large by its key only.
        Err(WriteError::DuplicateKey { key }) => WriteError::DuplicateKey { key: part(key) },
        Err(WriteError::KeyNotFound { key }) => WriteError::KeyNotFound { key: part(key) },
        Err(error) => error.clone(),
    }))
}
