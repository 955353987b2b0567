//! Who asked for what: a command that arrives twice is done once.
//!
//! A client numbers its commands and says below which number it waits for no answer any more; the
//! answers from there on are kept. So the table holds what is in flight and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Outcome, Proposal};

/// Clients remembered; a client is one life of one member's process, so 256 are many restarts. The
/// one that was quiet longest goes first.
const MAX_SESSIONS: usize = 256;

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
            session.done.insert(proposal.seq, outcome);
        }
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
