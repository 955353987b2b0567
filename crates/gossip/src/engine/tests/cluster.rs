//! A cluster in virtual time: engines joined by a network that delays, loses, partitions, and by machines that stall and die.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use rand10::rngs::SmallRng;
use rand10::{RngExt, SeedableRng};

use crate::config::Profile;
use crate::engine::{Action, Answer, Engine, Start, SuspicionKey};
use crate::member::{Meta, Status};

/// How a machine dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The power goes: nothing answers any more.
    Machine,
    /// The process goes: the kernel refuses connections.
    Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: u64,
    pub(super) by: usize,
    pub(super) whom: usize,
    pub(super) status: Status,
}

enum Event {
    Datagram { to: SocketAddr, data: Bytes },
    Exchange { from: usize, with: SocketAddr, round: u8 },
    Checked { node: usize, suspect: SuspicionKey, answer: Answer },
}

struct Node {
    engine: Option<Engine>,
    address: SocketAddr,
    death: Option<Death>,
    side: u8,
    stalled_until: u64,
    waiting: Vec<Bytes>,
    statuses: BTreeMap<usize, Status>,
}

pub(super) struct Cluster {
    pub(super) now: u64,
    pub(super) loss: f64,
    pub(super) history: Vec<Seen>,
    nodes: Vec<Node>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    rng: SmallRng,
}

pub(super) fn name(index: usize) -> String {
    format!("node-{index}")
}

fn index(name: &str) -> usize {
    name.trim_start_matches("node-").parse().unwrap()
}

fn address(index: usize, life: u16) -> SocketAddr {
    SocketAddr::from(([10, life as u8, (index / 250) as u8, (index % 250) as u8], 7946))
}

impl Cluster {
    /// Nodes that know nobody yet.
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut cluster = Self {
            now: 1_000_000_000,
            loss: 0.0,
            history: Vec::new(),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            rng: SmallRng::seed_from_u64(seed),
        };
        for index in 0..size {
            let address = address(index, 0);
            let engine = cluster.engine(index, address);
            cluster.nodes.push(Node {
                engine: Some(engine),
                address,
                death: None,
                side: 0,
                stalled_until: 0,
                waiting: Vec::new(),
                statuses: BTreeMap::new(),
            });
        }
        cluster
    }

    /// Nodes that have all joined by the first, and know all.
    pub(super) fn joined(size: usize, seed: u64) -> Self {
        let mut cluster = Self::new(size, seed);
        for index in 1..size {
            cluster.join(index, 0);
            cluster.run(20);
        }
        cluster.run_until("all know all", 20_000, |cluster| cluster.all_see_all(Status::Alive));
        cluster
    }

    fn engine(&mut self, index: usize, address: SocketAddr) -> Engine {
        Engine::new(Start {
            name: name(index),
            address,
            meta: Meta { role: "worker".into(), ..Meta::default() },
            profile: Profile::Lan,
            now: self.now,
            seed: self.rng.random(),
        })
    }

    pub(super) fn on<T>(&mut self, node: usize, act: impl FnOnce(&mut Engine, u64) -> T) -> T {
        let now = self.now;
        let done = act(self.nodes[node].engine.as_mut().unwrap(), now);
        self.perform(node);
        done
    }

    pub(super) fn join(&mut self, node: usize, seed: usize) {
        let address = self.nodes[seed].address;
        self.on(node, |engine, now| engine.add_seeds(now, &[address]));
        self.push(1, Event::Exchange { from: node, with: address, round: 0 });
    }

    pub(super) fn leave(&mut self, node: usize) {
        let told = self.on(node, Engine::leave);
        for with in told {
            self.push(1, Event::Exchange { from: node, with, round: 0 });
        }
    }

    pub(super) fn kill(&mut self, node: usize, death: Death) {
        self.nodes[node].engine = None;
        self.nodes[node].death = Some(death);
        self.nodes[node].waiting.clear();
    }

    /// Starts it again, remembering nothing, at another address.
    pub(super) fn restart(&mut self, node: usize) {
        let address = address(node, 1);
        let engine = self.engine(node, address);
        let dead = &mut self.nodes[node];
        (dead.engine, dead.address, dead.death) = (Some(engine), address, None);
        dead.statuses.clear();
        self.perform(node);
    }

    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    pub(super) fn partition(&mut self, others: &[usize]) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.side = u8::from(others.contains(&index));
        }
    }

    /// From now on it does nothing for so long, though its kernel takes what comes.
    pub(super) fn stall(&mut self, node: usize, ms: u64) {
        self.nodes[node].stalled_until = self.now + ms;
    }

    pub(super) fn is_stalled(&self, node: usize) -> bool {
        self.nodes[node].stalled_until > self.now
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].engine.is_some()).collect()
    }

    pub(super) fn status(&self, by: usize, whom: usize) -> Option<Status> {
        self.nodes[by].statuses.get(&whom).copied()
    }

    pub(super) fn all_see(&self, whom: usize, status: Status) -> bool {
        self.alive().iter().all(|by| *by == whom || self.status(*by, whom) == Some(status))
    }

    pub(super) fn all_see_all(&self, status: Status) -> bool {
        self.alive().iter().all(|whom| self.all_see(*whom, status))
    }

    pub(super) fn ever(&self, status: Status) -> BTreeSet<(usize, usize)> {
        let such = self.history.iter().filter(|seen| seen.status == status);
        such.map(|seen| (seen.by, seen.whom)).collect()
    }

    pub(super) fn random(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.step(at);
        }
        self.now = end;
    }

    /// Runs until it is so; gives the milliseconds that took.
    pub(super) fn run_until(
        &mut self,
        what: &str,
        limit: u64,
        done: impl Fn(&Self) -> bool,
    ) -> u64 {
        let start = self.now;
        while !done(self) {
            let next = self.next().unwrap_or(u64::MAX);
            assert!(next <= start + limit, "not within {limit} ms: {what}");
            self.step(next);
        }
        self.now - start
    }

    fn wakes(&self, node: &Node) -> Option<u64> {
        let next = node.engine.as_ref()?.next();
        let woken = (!node.waiting.is_empty()).then_some(node.stalled_until);
        next.into_iter().chain(woken).min().map(|at| at.max(node.stalled_until).max(self.now))
    }

    fn next(&self) -> Option<u64> {
        let event = self.queue.keys().next().map(|(at, _)| *at);
        self.nodes.iter().filter_map(|node| self.wakes(node)).chain(event).min()
    }

    fn step(&mut self, at: u64) {
        self.now = at;
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= at) {
            let event = first.remove();
            self.happen(event);
        }
        for index in 0..self.nodes.len() {
            if self.wakes(&self.nodes[index]).is_some_and(|wakes| wakes <= at) {
                let waiting = std::mem::take(&mut self.nodes[index].waiting);
                self.on(index, |engine, now| {
                    for data in waiting {
                        engine.datagram(now, &data);
                    }
                    engine.tick(now);
                });
            }
        }
    }

    fn push(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn find(&self, address: SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == address)
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.nodes[a].side == self.nodes[b].side
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { to, data } => {
                let Some(node) = self.find(to).filter(|n| self.nodes[*n].engine.is_some()) else {
                    return;
                };
                self.nodes[node].waiting.push(data);
                self.nodes[node].stalled_until = self.nodes[node].stalled_until.max(self.now);
            }
            Event::Exchange { from, with, round } => self.exchange(from, with, round),
            Event::Checked { node, suspect, answer } => {
                if self.nodes[node].engine.is_some() {
                    self.on(node, |engine, now| engine.checked(now, &suspect, answer));
                }
            }
        }
    }

    fn exchange(&mut self, from: usize, with: SocketAddr, round: u8) {
        let Some(to) = self.find(with).filter(|to| self.connected(from, *to)) else { return };
        if self.nodes[from].engine.is_none() || self.nodes[to].engine.is_none() || from == to {
            return;
        }
        let busy = self.nodes[to].stalled_until.max(self.nodes[from].stalled_until);
        if busy > self.now {
            self.push(busy - self.now, Event::Exchange { from, with, round });
            return;
        }
        let ours = self.nodes[from].engine.as_ref().unwrap().state();
        self.on(to, |engine, now| engine.merge(now, ours));
        let theirs = self.nodes[to].engine.as_ref().unwrap().state();
        let renewed = self.on(from, |engine, now| engine.merge(now, theirs));
        if renewed && round == 0 {
            self.push(1, Event::Exchange { from, with, round: 1 });
        }
    }

    fn perform(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].engine.as_mut().and_then(Engine::take_action) {
            match action {
                Action::Send { to, data } => {
                    assert!(data.len() <= crate::tuning::MAX_MESSAGE);
                    let reaches = self.find(to).is_some_and(|to| self.connected(node, to));
                    if reaches && !self.rng.random_bool(self.loss) {
                        let delay = self.rng.random_range(1..4);
                        self.push(delay, Event::Datagram { to, data });
                    }
                }
                Action::Exchange { with } => {
                    let delay = self.rng.random_range(1..5);
                    self.push(delay, Event::Exchange { from: node, with, round: 0 });
                }
                Action::Check { suspect } => self.check(node, suspect),
                Action::Publish(members) => {
                    let before = std::mem::take(&mut self.nodes[node].statuses);
                    let now: BTreeMap<usize, Status> =
                        members.iter().map(|member| (index(&member.name), member.status)).collect();
                    for (whom, status) in &now {
                        if before.get(whom) != Some(status) {
                            let seen =
                                Seen { at: self.now, by: node, whom: *whom, status: *status };
                            self.history.push(seen);
                        }
                    }
                    self.nodes[node].statuses = now;
                }
            }
        }
    }

    fn check(&mut self, node: usize, suspect: SuspicionKey) {
        let target = self.find(suspect.id.address).filter(|to| self.connected(node, *to));
        let (after, answer) = match target.map(|target| self.nodes[target].death) {
            Some(None) => (2, Answer::Accepted),
            Some(Some(Death::Process)) => (2, Answer::Refused),
            _ => (800, Answer::Silent),
        };
        self.push(after, Event::Checked { node, suspect, answer });
    }
}
