//! What a reconciler wants done. A plan is data; the runtime carries it out.

use std::ops::Range;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use pontoon_model::resource::Resource;
use serde_json::Value;

use crate::key::Key;

/// Which part of an object a patch writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sub {
    /// The object itself, its status aside.
    Whole,
    Status,
    /// A namespace's `spec.finalizers`; the namespace goes once they are empty.
    Finalize,
}

/// What becomes of an object's dependents when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// Whether an event tells of something ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// A thing that must not exist for a deletion to go ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    pub key: Key,
    /// Another object of the same name does not count; without a uid any of that name does.
    pub uid: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object; `AlreadyExists` means that an earlier plan did it, and is no failure.
    Create { resource: &'static Resource, namespace: Option<String>, body: Value },
    /// Replaces an object; the body has the resourceVersion it was read at.
    Update { key: Key, body: Value },
    /// Merges (RFC 7386) into an object. The patch carries `metadata.resourceVersion`: on a
    /// conflict the reconciler is run again on newer state.
    Patch { key: Key, sub: Sub, patch: Value },
    /// Deletes the object with this uid; `NotFound` and another uid are no failures.
    Delete {
        key: Key,
        uid: String,
        /// `None` is the object's own grace; `Some(0)` takes it away at once.
        grace_seconds: Option<i64>,
        propagation: Propagation,
        /// Look each of these up in the store itself first (linearizable) and leave the object
        /// alone if one of them exists after all: caches of different resources lag differently.
        only_if_absent: Vec<Absent>,
    },
    /// Deletes all objects of a resource in a namespace, those this cache never saw as well.
    DeleteAll { resource: &'static Resource, namespace: String },
    /// Tells users. Equal ones may be counted up on one Event object.
    Event {
        regarding: Box<ObjectReference>,
        kind: EventType,
        reason: &'static str,
        message: String,
    },
}

/// The outcome of a reconciler.
///
/// Actions are carried out in order, up to the first that fails; the key then comes back with a
/// back-off. An Event is left out when the action before it found its work already done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to look again although nothing changed; zero means at once.
    pub requeue_after: Option<Duration>,
    /// The object whose user learns of a failure, see [`Plan::failure`].
    pub subject: Option<Box<ObjectReference>>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Asks to be run again after this time, or earlier if that was asked before.
    pub(crate) fn again_in(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |d| d.min(after)));
    }

    pub(crate) fn event(
        &mut self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &'static str,
        message: String,
    ) {
        let regarding = Box::new(regarding.clone());
        self.push(Action::Event { regarding, kind, reason, message });
    }

    /// Groups of actions; the members of a group may be carried out at the same time, an Event
    /// after the action before it. Creations come in groups that double from one, so that a
    /// creation that must fail is tried once and not hundreds of times.
    pub fn batches(&self) -> Vec<Range<usize>> {
        let mut batches = Vec::new();
        let mut start = 0;
        let mut size = 1;
        while start < self.actions.len() {
            let mut end = start;
            let mut created = 0;
            while end < self.actions.len() && self.bulk(end) && created < size {
                created += 1;
                end = self.past_events(end + 1);
            }
            if end == start {
                end = self.past_events(start + 1);
                size = 1;
            } else {
                size *= 2;
            }
            batches.push(start..end);
            start = end;
        }
        batches
    }

    fn bulk(&self, at: usize) -> bool {
        matches!(self.actions[at], Action::Create { .. } | Action::Delete { .. })
    }

    fn past_events(&self, mut at: usize) -> usize {
        while matches!(self.actions.get(at), Some(Action::Event { .. })) {
            at += 1;
        }
        at
    }

    /// The event that tells the subject's user that this action failed with this error.
    pub fn failure(&self, action: &Action, error: &str) -> Option<Action> {
        let regarding = self.subject.clone()?;
        let (reason, message) = match action {
            Action::Create { resource, .. } => {
                ("FailedCreate", format!("Error creating {}: {error}", resource.singular))
            }
            Action::Delete { key, .. } => (
                "FailedDelete",
                format!("Error deleting {} {}: {error}", key.resource.singular, key.name),
            ),
            _ => return None,
        };
        Some(Action::Event { regarding, kind: EventType::Warning, reason, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_model::resource;

    fn create() -> Action {
        Action::Create { resource: resource::PODS, namespace: None, body: Value::Null }
    }

    fn event() -> Action {
        let regarding = Box::default();
        Action::Event { regarding, kind: EventType::Normal, reason: "R", message: String::new() }
    }

    fn patch() -> Action {
        let key = Key::new(resource::PODS, None, "p");
        Action::Patch { key, sub: Sub::Status, patch: Value::Null }
    }

    fn check(actions: Vec<Action>, expected: &[Range<usize>]) {
        let plan = Plan { actions, ..Plan::default() };
        assert_eq!(plan.batches(), expected);
    }

    #[test]
    fn creations_double() {
        check((0..8).map(|_| create()).collect(), &[0..1, 1..3, 3..7, 7..8]);
    }

    #[test]
    fn events_stay_with_their_action() {
        check(vec![create(), event(), create(), event(), patch(), event()], &[0..2, 2..4, 4..6]);
    }

    #[test]
    fn other_actions_are_alone_and_start_anew() {
        let actions = vec![create(), create(), create(), patch(), create(), create()];
        check(actions, &[0..1, 1..3, 3..4, 4..5, 5..6]);
    }
}
