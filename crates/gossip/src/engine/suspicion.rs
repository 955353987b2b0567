//! Suspects: how long each has to refute, and what its machine says meanwhile. A machine whose kernel accepts a connection
//! for the process is not dead but slow, and is given more time; one that refuses has no such process, and is given less.

use bytes::{BufMut, BytesMut};
use foca::{Codec, Header, Message, PostcardCodec, Timer};

use super::{Action, Due, Engine};
use crate::identity::Id;
use crate::tuning::MAX_EXTENSIONS;

/// One suspicion against one life of a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SuspicionKey {
    pub(crate) id: Id,
    pub(crate) incarnation: u16,
}

/// What trying to connect to a suspect showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its kernel accepted: the process exists.
    Accepted,
    /// Its kernel refused: there is no such process.
    Refused,
    /// Nothing came back.
    Silent,
}

pub(super) struct Suspicion {
    timer: Timer<Id>,
    /// On the lived clock; earlier timers of the same suspicion are void.
    due: u64,
    patience: u64,
    answer: Option<Answer>,
    extensions: u8,
}

impl Engine {
    /// A probe failed: begins a suspicion, or goes on with the one there is.
    pub(super) fn suspect(&mut self, patience: u64, timer: Timer<Id>) {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer else { return };
        let key = SuspicionKey { id: member_id.clone(), incarnation: *incarnation };
        if let Some(known) = self.suspicions.get_mut(&key) {
            known.timer = timer;
            return;
        }
        let patience = self.health.widen(patience);
        let due = self.timers.lived(self.now) + patience;
        let suspicion = Suspicion { timer, due, patience, answer: None, extensions: 0 };
        self.suspicions.insert(key.clone(), suspicion);
        self.set(patience, Due::Suspicion(key.clone()));
        self.actions.push_back(Action::Check { suspect: key.clone() });
        self.accuse(key);
        self.publish_soon();
    }

    /// Tells the suspect itself, again and again until it is settled: by rumour alone it may never hear what it must refute.
    pub(super) fn accuse(&mut self, key: SuspicionKey) {
        if !self.is_suspect(&key) {
            self.suspicions.remove(&key);
        }
        if !self.suspicions.contains_key(&key) {
            return;
        }
        match self.accusation(&key) {
            Ok(data) => self.actions.push_back(Action::Send { to: key.id.address, data }),
            Err(error) => tracing::debug!(%error, "a suspect could not be told"),
        }
        self.set(self.tuning.probe_ms, Due::Accuse(key));
    }

    fn is_suspect(&self, key: &SuspicionKey) -> bool {
        self.foca.iter_membership_state().any(|member| {
            *member.id() == key.id
                && member.state() == foca::State::Suspect
                && member.incarnation() == key.incarnation
        })
    }

    /// A gossip message of the protocol with the one piece of news that the receiver is suspected.
    fn accusation(&self, key: &SuspicionKey) -> Result<bytes::Bytes, postcard::Error> {
        let header = Header {
            src: self.foca.identity().clone(),
            // The lowest is always true: it claims no more than that we are alive.
            src_incarnation: 0,
            dst: key.id.clone(),
            message: Message::Gossip,
        };
        let news = foca::Member::new(key.id.clone(), key.incarnation, foca::State::Suspect);
        let mut out = BytesMut::with_capacity(crate::tuning::MAX_MESSAGE);
        PostcardCodec.encode_header(&header, &mut out)?;
        out.put_u16(1);
        PostcardCodec.encode_member(&news, &mut out)?;
        Ok(out.freeze())
    }

    /// Who is heard from is not dead, whether or not it knows yet that it is suspected.
    pub(super) fn note_heard(&mut self, data: &[u8]) {
        if self.suspicions.is_empty() {
            return;
        }
        let decoded: Result<Header<Id>, _> = PostcardCodec.decode_header(data);
        let Ok(header) = decoded else { return };
        for (key, suspicion) in &mut self.suspicions {
            if key.id == header.src {
                suspicion.answer = Some(Answer::Accepted);
            }
        }
    }

    /// What came of an `Action::Check`.
    pub(crate) fn checked(&mut self, now: u64, key: &SuspicionKey, answer: Answer) {
        self.observe(now);
        let lived = self.timers.lived(self.now);
        let Some(suspicion) = self.suspicions.get_mut(key) else { return };
        // A connection that fails does not unsay that it was heard.
        if answer != Answer::Silent || suspicion.answer.is_none() {
            suspicion.answer = Some(answer);
        }
        let soon = self.tuning.refused_ms;
        if answer == Answer::Refused && lived + soon < suspicion.due {
            suspicion.due = lived + soon;
            self.set(soon, Due::Suspicion(key.clone()));
        }
    }

    pub(super) fn suspicion_due(&mut self, key: SuspicionKey) {
        let lived = self.timers.lived(self.now);
        if self.suspicions.get(&key).is_none_or(|suspicion| lived < suspicion.due) {
            return;
        }
        let Some(mut suspicion) = self.suspicions.remove(&key) else { return };
        if !self.is_suspect(&key) {
            return;
        }
        if suspicion.answer == Some(Answer::Accepted) && suspicion.extensions < MAX_EXTENSIONS {
            tracing::debug!(member = %key.id.name, "silent, but its machine answers: it gets more time");
            suspicion.extensions += 1;
            suspicion.answer = None;
            suspicion.due = lived + suspicion.patience;
            self.set(suspicion.patience, Due::Suspicion(key.clone()));
            self.suspicions.insert(key.clone(), suspicion);
            self.actions.push_back(Action::Check { suspect: key });
            return;
        }
        let declared = self.foca.handle_timer(suspicion.timer, &mut self.effects);
        self.log(declared);
    }
}
