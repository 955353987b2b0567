//! The protocol without sockets, clock or threads: time and messages in, actions out. From one seed and one sequence of
//! inputs always come the same actions, so whole clusters are simulated in tests.

mod merge;
mod suspicion;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Foca, OwnedNotification, PostcardCodec, Timer};
use rand10::rngs::SmallRng;
use rand10::{RngExt, SeedableRng};

use self::suspicion::Suspicion;
pub(crate) use self::suspicion::{Answer, SuspicionKey};
use self::view::View;
use crate::clock::{Health, Timers};
use crate::config::Profile;
use crate::identity::Id;
use crate::member::{Member, Meta};
use crate::record::{Broadcast, Record, SharedRecords};
use crate::tuning::{REAP_MS, Tuning};

/// What the engine wants done.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Send a datagram.
    Send { to: SocketAddr, data: Bytes },
    /// Exchange full states with this address over TCP.
    Exchange { with: SocketAddr },
    /// Try to connect to the address of a suspect, and report.
    Check { suspect: SuspicionKey },
    /// The members changed.
    Publish(Arc<Vec<Member>>),
}

#[derive(Debug)]
enum Due {
    Protocol(Timer<Id>),
    Suspicion(SuspicionKey),
    Accuse(SuspicionKey),
    Exchange,
    Reconnect,
    Seeds,
    Publish,
    Reap,
}

/// What an engine is made of.
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) meta: Meta,
    pub(crate) profile: Profile,
    /// Real time, milliseconds since the Unix epoch; never runs backwards from here on.
    pub(crate) now: u64,
    pub(crate) seed: u64,
}

const SEED_BACKOFF_MIN: u64 = 500;
const SEED_BACKOFF_MAX: u64 = 10_000;
const PUBLISH_MS: u64 = 100;
/// Failures younger than this are tried again often, older ones at a tenth of that.
const FRESH_FAILURE_MS: u64 = 600_000;
/// How many members a leaving node tells in full.
const FAREWELLS: usize = 3;

pub(crate) struct Engine {
    foca: Foca<Id, PostcardCodec, SmallRng, SharedRecords>,
    effects: AccumulatingRuntime<Id>,
    records: SharedRecords,
    timers: Timers<Due>,
    health: Health,
    suspicions: BTreeMap<SuspicionKey, Suspicion>,
    seeds: Vec<SocketAddr>,
    seed_backoff: u64,
    seeds_waiting: bool,
    view: View,
    tuning: Tuning,
    tuned_for: usize,
    rng: SmallRng,
    actions: VecDeque<Action>,
    now: u64,
    heard: u64,
    publish_due: bool,
    left: bool,
}

impl Engine {
    pub(crate) fn new(start: Start) -> Self {
        let tuning = Tuning::from(start.profile);
        let records = SharedRecords::new(&start.name);
        let id = Id { name: start.name.into(), bump: start.now, address: start.address };
        let rng = SmallRng::seed_from_u64(start.seed);
        let foca = Foca::with_custom_broadcast(
            id,
            tuning.foca(1),
            SmallRng::seed_from_u64(start.seed ^ 0x5357_494d),
            PostcardCodec,
            records.clone(),
        );
        let mut engine = Self {
            foca,
            effects: AccumulatingRuntime::new(),
            records,
            timers: Timers::new(tuning.slack_ms),
            health: Health::default(),
            suspicions: BTreeMap::new(),
            seeds: Vec::new(),
            seed_backoff: SEED_BACKOFF_MIN,
            seeds_waiting: false,
            view: View::default(),
            tuning,
            tuned_for: 1,
            rng,
            actions: VecDeque::new(),
            now: start.now,
            heard: start.now,
            publish_due: false,
            left: false,
        };
        engine.declare(start.meta, 1);
        engine.set(tuning.exchange_ms, Due::Exchange);
        engine.set(tuning.reconnect_ms, Due::Reconnect);
        engine.set(REAP_MS, Due::Reap);
        engine.publish();
        engine
    }

    pub(crate) fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `tick` is wanted, in real time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Fires what is due. Datagrams that have come are to be given first.
    pub(crate) fn tick(&mut self, now: u64) {
        self.observe(now);
        while let Some(due) = self.timers.pop(self.now) {
            self.fire(due);
        }
        self.settle();
    }

    /// A datagram that opened under the cluster's key.
    pub(crate) fn datagram(&mut self, now: u64, data: &[u8]) {
        self.observe(now);
        if self.left {
            return;
        }
        self.note_heard(data);
        match self.foca.handle_data(data, &mut self.effects) {
            Ok(()) => self.heard = self.now,
            // From another version, or somebody's test: nothing that should stop us.
            Err(error) => tracing::debug!(%error, "a gossip message was not understood"),
        }
        self.publish_soon();
        self.settle();
    }

    /// Keeps addresses to try for as long as nobody is known to be alive.
    pub(crate) fn add_seeds(&mut self, now: u64, seeds: &[SocketAddr]) {
        self.observe(now);
        for seed in seeds {
            if !self.seeds.contains(seed) && *seed != self.foca.identity().address {
                self.seeds.push(*seed);
            }
        }
        self.try_seeds();
    }

    pub(crate) fn set_meta(&mut self, now: u64, meta: Meta) {
        self.observe(now);
        let version = self.own_version() + 1;
        self.declare(meta, version);
        self.settle();
    }

    /// Tells the others and takes no part any more. Gives the addresses of a few to be told by an exchange, too.
    pub(crate) fn leave(&mut self, now: u64) -> Vec<SocketAddr> {
        self.observe(now);
        if self.left {
            return Vec::new();
        }
        self.left = true;
        let told = self.pick(FAREWELLS, |member| member.state() != foca::State::Down);
        let version = self.own_version() + 1;
        let meta = self.own_meta();
        self.declare(meta, version);
        let said = self.foca.gossip(&mut self.effects);
        self.log(said);
        let said = self.foca.leave_cluster(&mut self.effects);
        self.log(said);
        self.settle();
        self.publish();
        told.into_iter().map(|id| id.address).collect()
    }

    /// Makes a member count as left. False if there is no such other member.
    pub(crate) fn force_leave(&mut self, now: u64, name: &str) -> bool {
        self.observe(now);
        let found = self.foca.iter_membership_state().find(|member| *member.id().name == *name);
        let Some(id) = found.map(|member| member.id().clone()) else { return false };
        if *name == *self.foca.identity().name {
            return false;
        }
        let known = self.records.lock().get(name).cloned();
        let (version, meta) = known.map_or((0, Meta::default()), |r| (r.version, r.meta));
        let record = Record { name: name.to_owned(), bump: id.bump, version, left: true, meta };
        self.broadcast(&Broadcast::Record(record));
        let down = std::iter::once(foca::Member::down(id));
        let applied = self.foca.apply_many(down, true, &mut self.effects);
        self.log(applied);
        self.settle();
        self.publish();
        true
    }

    /// Whether nobody else is known to be alive.
    pub(crate) fn is_alone(&self) -> bool {
        self.foca.num_members() == 0
    }

    fn observe(&mut self, now: u64) {
        self.now = now.max(self.now);
        if let Some(late) = self.timers.observe(self.now) {
            tracing::debug!(late_ms = late, "gossip was held up");
            self.health.held_up(late);
        }
    }

    fn set(&mut self, after: u64, due: Due) {
        self.timers.set(self.now, after, due);
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::Protocol(timer) => self.protocol_timer(timer),
            Due::Suspicion(key) => self.suspicion_due(key),
            Due::Accuse(key) => self.accuse(key),
            Due::Exchange => self.exchange_due(),
            Due::Reconnect => self.reconnect_due(),
            Due::Seeds => self.seeds_due(),
            Due::Publish => {
                self.publish_due = false;
                self.publish();
            }
            Due::Reap => {
                self.reap();
                self.set(REAP_MS, Due::Reap);
            }
        }
        self.settle();
    }

    fn protocol_timer(&mut self, timer: Timer<Id>) {
        let is_probe = matches!(timer, Timer::ProbeRandomMember(_));
        let handled = self.foca.handle_timer(timer, &mut self.effects);
        self.log(handled);
        if is_probe && !self.settle() {
            self.health.well();
        }
    }

    fn exchange_due(&mut self) {
        if self.left {
            return;
        }
        let wait = self.tuning.exchange_ms + self.rng.random_range(0..=self.tuning.exchange_ms);
        self.set(wait, Due::Exchange);
        for id in self.pick(1, |member| member.state() != foca::State::Down) {
            self.actions.push_back(Action::Exchange { with: id.address });
        }
    }

    /// Tries one failed member, for it may be alive behind a partition that has healed.
    fn reconnect_due(&mut self) {
        if self.left {
            return;
        }
        let fresh = self.view.any_failed_within(self.now, FRESH_FAILURE_MS);
        let crowd = (self.foca.num_members() as u64 / 16).max(1);
        let wait = self.tuning.reconnect_ms * crowd * if fresh { 1 } else { 10 };
        let jitter = self.rng.random_range(0..=wait / 4);
        self.set(wait + jitter, Due::Reconnect);
        let records = self.records.clone();
        let failed = |member: &foca::Member<Id>| {
            member.state() == foca::State::Down && !records.lock().has_left(member.id())
        };
        for id in self.pick(1, failed) {
            self.actions.push_back(Action::Exchange { with: id.address });
        }
    }

    fn try_seeds(&mut self) {
        self.seed_backoff = SEED_BACKOFF_MIN;
        if !self.seeds_waiting {
            self.seeds_waiting = true;
            self.set(SEED_BACKOFF_MIN, Due::Seeds);
        }
    }

    fn seeds_due(&mut self) {
        self.seeds_waiting = false;
        if self.left || !self.is_alone() || self.seeds.is_empty() {
            return;
        }
        let chosen = self.rng.random_range(0..self.seeds.len());
        self.actions.push_back(Action::Exchange { with: self.seeds[chosen] });
        self.seed_backoff = (self.seed_backoff * 2).min(SEED_BACKOFF_MAX);
        let jitter = self.rng.random_range(0..=self.seed_backoff / 2);
        self.seeds_waiting = true;
        self.set(self.seed_backoff + jitter, Due::Seeds);
    }

    /// Some other members at random.
    fn pick(&mut self, count: usize, wanted: impl Fn(&foca::Member<Id>) -> bool) -> Vec<Id> {
        let me = &self.foca.identity().name;
        let mut found: Vec<Id> = self
            .foca
            .iter_membership_state()
            .filter(|member| member.id().name != *me && wanted(member))
            .map(|member| member.id().clone())
            .collect();
        let mut out = Vec::new();
        while out.len() < count && !found.is_empty() {
            let index = self.rng.random_range(0..found.len());
            out.push(found.swap_remove(index));
        }
        out
    }

    fn own_version(&self) -> u64 {
        let name = &self.foca.identity().name;
        self.records.lock().get(name).map_or(0, |record| record.version)
    }

    fn own_meta(&self) -> Meta {
        let name = &self.foca.identity().name;
        self.records.lock().get(name).map(|record| record.meta.clone()).unwrap_or_default()
    }

    /// Says anew what this node is.
    fn declare(&mut self, meta: Meta, version: u64) {
        let id = self.foca.identity();
        let record =
            Record { name: id.name.to_string(), bump: id.bump, version, left: self.left, meta };
        self.broadcast(&Broadcast::Record(record));
        // It is our own word, not news about us.
        self.records.lock().take_summons();
        self.publish_soon();
    }

    fn broadcast(&mut self, broadcast: &Broadcast) {
        if let Err(error) = self.foca.add_broadcast(&broadcast.encode()) {
            tracing::debug!(%error, "a gossip record was not taken");
        }
    }

    /// Begins a life after the one that others count as over.
    fn rejoin(&mut self, bump: u64) {
        if self.left {
            return;
        }
        let next = self.foca.identity().after(bump);
        let changed = self.foca.change_identity(next, &mut self.effects);
        self.log(changed);
        self.after_rejoin();
    }

    fn after_rejoin(&mut self) {
        tracing::info!(bump = self.foca.identity().bump, "counted as gone; rejoining");
        let (meta, version) = (self.own_meta(), self.own_version() + 1);
        self.declare(meta, version);
        let said = self.foca.gossip(&mut self.effects);
        self.log(said);
    }

    /// Turns the protocol's effects into actions and timers. Whether a probe failed.
    fn settle(&mut self) -> bool {
        let mut failed = false;
        loop {
            let summons = self.records.lock().take_summons();
            if let Some(bump) = summons.filter(|bump| *bump >= self.foca.identity().bump) {
                self.rejoin(bump);
            }
            if self.effects.backlog() == 0 {
                break;
            }
            while let Some((to, data)) = self.effects.to_send() {
                self.actions.push_back(Action::Send { to: to.address, data });
            }
            while let Some((after, timer)) = self.effects.to_schedule() {
                failed |= self.schedule(after, timer);
            }
            while let Some(notification) = self.effects.to_notify() {
                self.notified(&notification);
            }
        }
        failed
    }

    fn schedule(&mut self, after: Duration, timer: Timer<Id>) -> bool {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 4);
        match timer {
            Timer::ChangeSuspectToDown { .. } => {
                self.probe_failed();
                self.suspect(after, timer);
                return true;
            }
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                let after = self.health.widen(after);
                self.set(after, Due::Protocol(timer));
            }
            other => self.set(after, Due::Protocol(other)),
        }
        false
    }

    /// If nobody at all was heard since the probe began, though there are others, the fault may be here.
    fn probe_failed(&mut self) {
        let quiet = self.now.saturating_sub(self.heard) > 2 * self.tuning.probe_ms;
        if quiet && self.foca.num_members() > 1 {
            self.health.deaf();
        }
    }

    fn notified(&mut self, notification: &OwnedNotification<Id>) {
        match notification {
            OwnedNotification::Rejoin(_) => self.after_rejoin(),
            OwnedNotification::Idle => self.try_seeds(),
            _ => {}
        }
        self.retune();
        self.publish();
    }

    fn retune(&mut self) {
        let members = self.foca.num_members() + 1;
        if members != self.tuned_for {
            self.tuned_for = members;
            let set = self.foca.set_config(self.tuning.foca(members));
            self.log(set);
        }
    }

    fn publish_soon(&mut self) {
        if !self.publish_due {
            self.publish_due = true;
            self.set(PUBLISH_MS, Due::Publish);
        }
    }

    fn log(&self, result: Result<(), foca::Error>) {
        if let Err(error) = result {
            tracing::debug!(%error, "the gossip protocol complained");
        }
    }
}

#[cfg(test)]
mod tests;
