//! What the rest of the program sees: members with their status and since when.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{Action, Engine};
use crate::member::{Member, Status};
use crate::tuning::REMEMBER_MS;

/// The last published members, and what is known of the age of what came from others.
#[derive(Default)]
pub(super) struct View {
    members: Arc<Vec<Member>>,
    fingerprint: u64,
    since: BTreeMap<String, (Status, u64)>,
    hints: BTreeMap<String, u64>,
}

impl View {
    pub(super) fn age(&self, name: &str, now: u64) -> u64 {
        self.since.get(name).map_or(0, |(_, since)| now.saturating_sub(*since))
    }

    /// A member heard of for the first time has been dead for so long already.
    pub(super) fn note_age(&mut self, name: &str, now: u64, age: u64) {
        if !self.since.contains_key(name) {
            self.hints.insert(name.to_owned(), now.saturating_sub(age));
        }
    }

    pub(super) fn any_failed_within(&self, now: u64, age: u64) -> bool {
        self.since
            .values()
            .any(|(status, since)| *status == Status::Failed && now.saturating_sub(*since) < age)
    }

    fn since(&mut self, name: &str, status: Status, now: u64) -> u64 {
        let hint = self.hints.remove(name);
        match self.since.get(name) {
            Some((before, since)) if *before == status => *since,
            _ => {
                let since = hint.unwrap_or(now);
                self.since.insert(name.to_owned(), (status, since));
                since
            }
        }
    }
}

impl Engine {
    /// Works out the members and says so if they changed.
    pub(super) fn publish(&mut self) {
        let fingerprint = self.fingerprint();
        if fingerprint == self.view.fingerprint {
            return;
        }
        self.view.fingerprint = fingerprint;
        let now = self.now;
        let me = self.foca.identity().clone();
        let own = if self.left { Status::Left } else { Status::Alive };
        let records = self.records.lock();
        let others =
            self.foca.iter_membership_state().filter(|member| member.id().name != me.name).map(
                |member| {
                    let status = match member.state() {
                        _ if records.has_left(member.id()) => Status::Left,
                        foca::State::Alive => Status::Alive,
                        foca::State::Suspect => Status::Suspect,
                        foca::State::Down => Status::Failed,
                    };
                    (member.id(), status)
                },
            );
        let mut members: Vec<Member> = std::iter::once((&me, own))
            .chain(others)
            .map(|(id, status)| Member {
                name: id.name.to_string(),
                address: id.address,
                status,
                meta: records.get(&id.name).map(|record| record.meta.clone()).unwrap_or_default(),
                incarnation: id.bump,
                since_ms: self.view.since(&id.name, status, now),
            })
            .collect();
        drop(records);
        members.sort_by(|a, b| a.name.cmp(&b.name));
        if *self.view.members != members {
            self.view.members = Arc::new(members);
            self.actions.push_back(Action::Publish(self.view.members.clone()));
        }
    }

    /// Differs when the members would: cheap, for it is asked after many datagrams that change nothing.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.foca.identity().bump, self.left, self.records.lock().changes()).hash(&mut hasher);
        for member in self.foca.iter_membership_state() {
            let id = member.id();
            (&*id.name, id.bump, id.address, member.state() as u8).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The members last published.
    pub(crate) fn members(&self) -> Arc<Vec<Member>> {
        self.view.members.clone()
    }

    /// Forgets members that have been gone for three days.
    pub(super) fn reap(&mut self) {
        let old: Vec<_> = self
            .foca
            .iter_membership_state()
            .filter(|member| {
                member.state() == foca::State::Down
                    && self.view.age(&member.id().name, self.now) >= REMEMBER_MS
            })
            .map(|member| member.id().clone())
            .collect();
        for id in old {
            let name = id.name.clone();
            let removed = self.foca.handle_timer(foca::Timer::RemoveDown(id), &mut self.effects);
            self.log(removed);
            if name != self.foca.identity().name {
                self.records.lock().remove(&name);
                self.view.since.remove(&*name);
            }
        }
        self.publish();
    }
}
