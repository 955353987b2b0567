//! The ring of recent changes and the table of followers; no waiting happens here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::delta::Deltas;

/// The most revisions that are kept, and their bytes.
const MOST_REVISIONS: usize = 4096;
const MOST_BYTES: usize = 16 << 20;
/// How many revisions a follower may be behind before it has to catch up by itself.
const QUEUE: usize = 1024;

struct Follower {
    changes: mpsc::Sender<Deltas>,
    node: Option<String>,
}

pub(super) struct State {
    ring: VecDeque<(u64, usize, Deltas)>,
    bytes: usize,
    /// Every change after this revision, up to `progress`, is in the ring.
    start: u64,
    progress: u64,
    followers: HashMap<u64, Follower>,
    /// Those who follow everything.
    general: BTreeSet<u64>,
    by_node: HashMap<String, BTreeSet<u64>>,
    next_id: u64,
    closed: bool,
}

impl State {
    pub(super) fn new(revision: u64) -> Self {
        Self {
            ring: VecDeque::new(),
            bytes: 0,
            start: revision,
            progress: revision,
            followers: HashMap::new(),
            general: BTreeSet::new(),
            by_node: HashMap::new(),
            next_id: 0,
            closed: false,
        }
    }

    pub(super) fn attach(
        &mut self,
        after: u64,
        node: Option<&str>,
    ) -> Option<(Vec<Deltas>, u64, mpsc::Receiver<Deltas>)> {
        if after < self.start || self.closed {
            return None;
        }
        let recent = self.ring.iter().filter(|(revision, _, _)| *revision > after);
        let backlog = recent.map(|(_, _, deltas)| Arc::clone(deltas)).collect();
        let (changes, receiver) = mpsc::channel(QUEUE);
        let id = self.next_id;
        self.next_id += 1;
        match node {
            Some(node) => self.by_node.entry(node.to_owned()).or_default().insert(id),
            None => self.general.insert(id),
        };
        self.followers.insert(id, Follower { changes, node: node.map(str::to_owned) });
        Some((backlog, id, receiver))
    }

    pub(super) fn detach(&mut self, id: u64) {
        let Some(follower) = self.followers.remove(&id) else { return };
        let Some(node) = follower.node else {
            self.general.remove(&id);
            return;
        };
        if let Some(ids) = self.by_node.get_mut(&node) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    pub(super) fn publish(&mut self, revision: u64, deltas: Deltas) {
        self.progress = self.progress.max(revision);
        if deltas.is_empty() {
            return;
        }
        self.remember(revision, Arc::clone(&deltas));
        let mut slow = Vec::new();
        for id in &self.general {
            if !self.tell(*id, &deltas) {
                slow.push(*id);
            }
        }
        for (id, indexes) in self.concerned(&deltas) {
            let own: Deltas = indexes.iter().map(|i| Arc::clone(&deltas[*i])).collect();
            if !self.tell(id, &own) {
                slow.push(id);
            }
        }
        // Their queues end here; they find out and catch up from the ring or the store.
        for id in slow {
            self.detach(id);
        }
    }

    /// Those who follow a node that a change is about, with the changes that are.
    fn concerned(&self, deltas: &Deltas) -> HashMap<u64, BTreeSet<usize>> {
        let mut concerned: HashMap<u64, BTreeSet<usize>> = HashMap::new();
        if self.by_node.is_empty() {
            return concerned;
        }
        for (i, delta) in deltas.iter().enumerate() {
            for node in delta.nodes() {
                for id in self.by_node.get(&node).into_iter().flatten() {
                    concerned.entry(*id).or_default().insert(i);
                }
            }
        }
        concerned
    }

    fn tell(&self, id: u64, deltas: &Deltas) -> bool {
        let follower = self.followers.get(&id);
        follower.is_none_or(|f| f.changes.try_send(Arc::clone(deltas)).is_ok())
    }

    fn remember(&mut self, revision: u64, deltas: Deltas) {
        let weight = deltas.iter().map(|d| d.weight()).sum();
        self.bytes += weight;
        self.ring.push_back((revision, weight, deltas));
        while self.ring.len() > MOST_REVISIONS || self.bytes > MOST_BYTES {
            let Some((revision, weight, _)) = self.ring.pop_front() else { break };
            self.bytes -= weight;
            self.start = revision;
        }
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    pub(super) fn advance(&mut self, revision: u64) {
        self.progress = self.progress.max(revision);
    }

    /// Begins anew at a revision; what was before it is not known here.
    pub(super) fn restart(&mut self, revision: u64) {
        self.ring.clear();
        self.bytes = 0;
        self.start = revision;
        self.progress = revision;
        self.let_go();
    }

    /// The store stopped: nobody will be told anything any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.let_go();
    }

    fn let_go(&mut self) {
        self.followers.clear();
        self.general.clear();
        self.by_node.clear();
    }
}
