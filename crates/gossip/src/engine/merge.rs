//! Giving and taking full states.

use super::Engine;
use crate::exchange::{Exchange, Known, MAX_MEMBERS, State};
use crate::identity::Id;
use crate::record::{Broadcast, MAX_NAME};
use crate::tuning::REMEMBER_MS;

/// So many changes at once are not passed on by gossip: a newcomer learns what all others know already.
const PASS_ON: usize = 32;

impl Engine {
    /// All this node knows.
    pub(crate) fn state(&self) -> Exchange {
        let me = self.foca.identity();
        let own = if self.left { State::Down } else { State::Alive };
        let myself = Known { id: me.clone(), incarnation: 0, state: own, age_ms: 0 };
        let others = self
            .foca
            .iter_membership_state()
            .filter(|member| member.id().name != me.name)
            .map(|member| self.known(member));
        let members = std::iter::once(myself).chain(others).take(MAX_MEMBERS).collect();
        Exchange {
            from: me.clone(),
            members,
            records: self.records.lock().all().cloned().collect(),
        }
    }

    fn known(&self, member: &foca::Member<Id>) -> Known {
        Known {
            id: member.id().clone(),
            incarnation: member.incarnation(),
            state: match member.state() {
                foca::State::Alive => State::Alive,
                foca::State::Suspect => State::Suspect,
                foca::State::Down => State::Down,
            },
            age_ms: self.view.age(&member.id().name, self.now),
        }
    }

    /// Takes in what another node knows. True if this node began a new life over it: then the other should be told at once.
    pub(crate) fn merge(&mut self, now: u64, remote: Exchange) -> bool {
        self.observe(now);
        if self.left {
            return false;
        }
        let before = self.foca.identity().bump;
        for record in remote.records {
            self.broadcast(&Broadcast::Record(record));
        }
        let mut updates = Vec::new();
        for known in remote.members {
            if (1..=MAX_NAME).contains(&known.id.name.len()) {
                self.take(known, &mut updates);
            }
        }
        let pass_on = updates.len() <= PASS_ON;
        let applied = self.foca.apply_many(updates.into_iter(), pass_on, &mut self.effects);
        self.log(applied);
        self.heard = self.now;
        let said = self.foca.gossip(&mut self.effects);
        self.log(said);
        self.settle();
        self.publish();
        self.foca.identity().bump != before
    }

    fn take(&mut self, known: Known, updates: &mut Vec<foca::Member<Id>>) {
        let me = self.foca.identity();
        if known.id.name == me.name {
            let mine = known.id == *me;
            if (mine && known.state == State::Down) || (!mine && known.id.bump >= me.bump) {
                self.rejoin(known.id.bump);
            }
            return;
        }
        let here =
            self.foca.iter_membership_state().find(|member| member.id().name == known.id.name);
        let here = here.map(|member| (member.id().clone(), member.state()));
        match known.state {
            State::Down => match here {
                Some((id, state)) if id == known.id && state != foca::State::Down => {
                    if self.records.lock().has_left(&id) {
                        updates.push(foca::Member::down(id));
                    } else {
                        // To us it is alive. It must learn that to others it is not; then it begins a new life.
                        self.broadcast(&Broadcast::Nudge {
                            name: id.name.to_string(),
                            bump: id.bump,
                        });
                    }
                }
                None if known.age_ms >= REMEMBER_MS => {}
                _ => {
                    self.view.note_age(&known.id.name, self.now, known.age_ms);
                    updates.push(foca::Member::new(known.id, known.incarnation, foca::State::Down));
                }
            },
            State::Alive | State::Suspect => {
                let state = match known.state {
                    State::Suspect => foca::State::Suspect,
                    _ => foca::State::Alive,
                };
                updates.push(foca::Member::new(known.id, known.incarnation, state));
            }
        }
    }
}
