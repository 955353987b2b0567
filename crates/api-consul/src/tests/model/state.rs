//! The model: a map of entries and a few sessions, as Consul's documentation describes them.

use std::collections::{BTreeMap, BTreeSet};

/// What is done with a key; sessions go by number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Set { flags: u64 },
    Cas { right: bool },
    Lock(usize),
    Unlock(usize),
    Delete,
    DeleteCas { right: bool },
    DeleteTree,
    CheckIndex { right: bool },
    CheckSession(usize),
    CheckNotExists,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Set { .. } => "set",
            Verb::Cas { .. } => "cas",
            Verb::Lock(_) => "lock",
            Verb::Unlock(_) => "unlock",
            Verb::Delete => "delete",
            Verb::DeleteCas { .. } => "delete-cas",
            Verb::DeleteTree => "delete-tree",
            Verb::CheckIndex { .. } => "check-index",
            Verb::CheckSession(_) => "check-session",
            Verb::CheckNotExists => "check-not-exists",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Verb, key, value.
    Txn(Vec<(Verb, &'static str, &'static str)>),
    Create {
        session: usize,
        deletes: bool,
        delays: bool,
    },
    Destroy(usize),
    /// All lock delays are over.
    TimePasses,
}

/// An entry; an index of 0 is one that the real side has still to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: &'static str,
    pub(super) flags: u64,
    pub(super) lock_index: u64,
    pub(super) session: Option<usize>,
    pub(super) create: u64,
    pub(super) modify: u64,
    /// It was read of the store before the transaction that is being done: only such have an index to compare.
    is_new: bool,
}

#[derive(Clone, Debug)]
struct Session {
    deletes: bool,
    delays: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    entries: BTreeMap<&'static str, Entry>,
    sessions: BTreeMap<usize, Session>,
    delayed: BTreeSet<&'static str>,
    pub(super) newest: u64,
}

impl Model {
    pub(super) fn keys(&self) -> Vec<&str> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn entry(&self, key: &str) -> Entry {
        self.entries[key].clone()
    }

    /// The index that a client knows of a key.
    pub(super) fn index(&self, key: &str) -> u64 {
        self.entries.get(key).map_or(0, |entry| entry.modify)
    }

    pub(super) fn learn(&mut self, key: &str, create: u64, modify: u64) {
        let entry = self.entries.get_mut(key).expect("it was compared");
        (entry.create, entry.modify, entry.is_new) = (create, modify, false);
        self.newest = self.newest.max(modify);
    }

    /// A session's number stands for one session at a time.
    pub(super) fn would_lose_a_session(&self, step: &Step) -> bool {
        matches!(step, Step::Create { session, .. } if self.sessions.contains_key(session))
    }

    /// Does a step; true if it could be done.
    pub(super) fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::TimePasses => self.delayed.clear(),
            Step::Create { session, deletes, delays } => {
                let made = Session { deletes: *deletes, delays: *delays };
                self.sessions.insert(*session, made);
            }
            Step::Destroy(session) => self.destroy(*session),
            Step::Txn(ops) => {
                let before = self.clone();
                // All are tried, as all errors are told, but none is done if one fails.
                let done = ops.iter().fold(true, |all, (verb, key, value)| {
                    self.apply(&before, *verb, key, value) && all
                });
                if !done {
                    *self = before;
                }
                return done;
            }
        }
        true
    }

    fn destroy(&mut self, id: usize) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let held = |(_, entry): &(&&'static str, &Entry)| entry.session == Some(id);
        let held: Vec<_> = self.entries.iter().filter(held).map(|(key, _)| *key).collect();
        for key in held {
            if session.deletes {
                self.entries.remove(key);
            } else if let Some(entry) = self.entries.get_mut(key) {
                (entry.session, entry.modify) = (None, 0);
            }
            if session.delays {
                self.delayed.insert(key);
            }
        }
    }

    fn apply(
        &mut self,
        before: &Model,
        verb: Verb,
        key: &'static str,
        value: &'static str,
    ) -> bool {
        let present = self.entries.get(key).cloned();
        // What this transaction wrote has an index that no client can name.
        let named = before.index(key);
        let is_named = present.as_ref().is_some_and(|entry| !entry.is_new && entry.modify == named);
        match verb {
            Verb::Set { flags } => self.set(before, key, value, flags),
            Verb::Cas { right } => {
                let matches = match &present {
                    None => named == 0 && right,
                    Some(_) => right && named != 0 && is_named,
                };
                if matches {
                    self.set(before, key, value, 0);
                }
                return matches;
            }
            Verb::Lock(session) => return self.lock(before, key, value, session),
            Verb::Unlock(session) => {
                let Some(entry) = present.filter(|entry| entry.session == Some(session)) else {
                    return false;
                };
                self.write(before, key, Entry { value, flags: 0, session: None, ..entry });
            }
            Verb::Delete => drop(self.entries.remove(key)),
            Verb::DeleteTree => self.entries.retain(|other, _| !other.starts_with(key)),
            Verb::DeleteCas { right } => {
                let matches = present.is_none() || right && is_named;
                if matches {
                    self.entries.remove(key);
                }
                return matches;
            }
            Verb::CheckIndex { right } => return right && is_named,
            Verb::CheckSession(session) => {
                return present.is_some_and(|entry| entry.session == Some(session));
            }
            Verb::CheckNotExists => return present.is_none(),
        }
        true
    }

    fn set(&mut self, before: &Model, key: &'static str, value: &'static str, flags: u64) {
        let present = self.entries.get(key).cloned().unwrap_or_default();
        self.write(before, key, Entry { value, flags, ..present });
    }

    fn lock(
        &mut self,
        before: &Model,
        key: &'static str,
        value: &'static str,
        session: usize,
    ) -> bool {
        let present = self.entries.get(key).cloned().unwrap_or_default();
        let is_free = present.session.is_none();
        if !self.sessions.contains_key(&session)
            || self.delayed.contains(key)
            || !is_free && present.session != Some(session)
        {
            return false;
        }
        let lock_index = present.lock_index + u64::from(is_free);
        let locked = Entry { value, flags: 0, lock_index, session: Some(session), ..present };
        self.write(before, key, locked);
        true
    }

    /// Writes an entry, unless it is so already.
    fn write(&mut self, before: &Model, key: &'static str, entry: Entry) {
        if self.entries.get(key) == Some(&entry) {
            return;
        }
        // Deleted and written again in one transaction, it was never away.
        let create = before.entries.get(key).map_or(0, |entry| entry.create);
        self.entries.insert(key, Entry { create, modify: 0, is_new: true, ..entry });
    }
}
