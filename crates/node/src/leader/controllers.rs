//! Runs one controller: a queue of keys, each reconciled on the newest state, its plan carried out, and
//! what fails tried again with a pause that doubles.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use pontoon_controllers::{
    Absent, Action, Cache, Change, Controller, EventType, Key, Plan, Propagation, Sub,
};
use pontoon_model::status::Status;
use pontoon_objects::{DeleteOptions, Patch, WriteOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Leader;
use crate::events::Occurrence;

/// First pause before a key whose plan failed is looked at again; it doubles with each failure.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Everything is looked at again this often, whether or not anything seemed to change.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// Keys of one controller worked on at the same time.
const WORKERS: usize = 16;

/// Runs the controller until the token ends it.
pub(super) async fn run(leader: Leader, controller: &'static Controller, stop: CancellationToken) {
    let mut queue = Queue {
        leader,
        controller,
        due: BTreeMap::new(),
        failures: HashMap::new(),
        busy: BTreeMap::new(),
    };
    tokio::select! {
        () = queue.run() => {}
        () = stop.cancelled() => {}
    }
}

struct Queue {
    leader: Leader,
    controller: &'static Controller,
    /// When each waiting key is due.
    due: BTreeMap<Key, Instant>,
    failures: HashMap<Key, u32>,
    /// Keys being worked on; `true` when something changed meanwhile.
    busy: BTreeMap<Key, bool>,
}

impl Queue {
    async fn run(&mut self) {
        loop {
            let mut changes = self.leader.view.subscribe();
            self.enqueue_everything();
            let mut look_again = tokio::time::interval(LOOK_AGAIN);
            look_again.reset();
            let mut work = FuturesUnordered::new();
            loop {
                let free = WORKERS.saturating_sub(work.len());
                for key in self.take_due(free) {
                    work.push(reconcile(self.leader.clone(), self.controller, key));
                }
                let next =
                    if work.len() < WORKERS { self.due.values().min().copied() } else { None };
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(change) => self.take(&change),
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    },
                    Some((key, outcome)) = work.next(), if !work.is_empty() => self.done(key, outcome),
                    () = sleep_until(next) => {}
                    _ = look_again.tick() => self.enqueue_everything(),
                }
            }
            // Plans under way are carried to their end before everything is looked at again.
            while let Some((key, outcome)) = work.next().await {
                self.done(key, outcome);
            }
        }
    }

    fn enqueue_everything(&mut self) {
        let changes = self.leader.view.read().changes();
        for change in changes {
            self.take(&change);
        }
    }

    fn take(&mut self, change: &Change) {
        if !self.controller.watches.iter().any(|resource| change.key.is(resource)) {
            return;
        }
        let keys = keys_of(self.controller, change, &self.leader.view.read());
        for key in keys {
            self.enqueue(key, Instant::now());
        }
    }

    fn enqueue(&mut self, key: Key, when: Instant) {
        if let Some(changed) = self.busy.get_mut(&key) {
            *changed = true;
            return;
        }
        let due = self.due.entry(key).or_insert(when);
        *due = (*due).min(when);
    }

    fn take_due(&mut self, most: usize) -> Vec<Key> {
        let now = Instant::now();
        let due = self.due.iter().filter(|(_, when)| **when <= now).map(|(key, _)| key.clone());
        let keys: Vec<Key> = due.take(most).collect();
        for key in &keys {
            self.due.remove(key);
            self.busy.insert(key.clone(), false);
        }
        keys
    }

    fn done(&mut self, key: Key, outcome: Result<Option<Duration>, Status>) {
        let changed = self.busy.remove(&key).unwrap_or(false);
        let now = Instant::now();
        match outcome {
            Ok(again) => {
                self.failures.remove(&key);
                if let Some(after) = again {
                    self.enqueue(key.clone(), now + after);
                }
                if changed {
                    self.enqueue(key, now);
                }
            }
            Err(status) => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = (PAUSE * 2u32.saturating_pow((*failures).min(20))).min(PAUSE_MAX);
                *failures += 1;
                tracing::debug!(
                    controller = self.controller.name, key = %key, failures, error = status.message,
                    "a plan failed"
                );
                self.enqueue(key, now + pause);
            }
        }
    }
}

/// The keys that a change concerns. A panic over one object is a bug, and must not keep all others from being
/// looked at.
fn keys_of(controller: &Controller, change: &Change, cache: &Cache) -> Vec<Key> {
    let keys = || (controller.keys)(change, cache);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(keys)).unwrap_or_else(|_| {
        tracing::error!(controller = controller.name, key = %change.key, "panicked over a change");
        Vec::new()
    })
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// One look at one key. A panic in a reconciler is a bug in it, and ends with that key.
async fn reconcile(
    leader: Leader,
    controller: &'static Controller,
    key: Key,
) -> (Key, Result<Option<Duration>, Status>) {
    let planned = {
        let cache = leader.view.read();
        let plan = || (controller.reconcile)(Timestamp::now(), &key, &cache);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(plan))
    };
    let outcome = match planned {
        Ok(plan) => carry_out(&leader, controller, &plan).await.map(|()| plan.requeue_after),
        Err(_) => Err(Status::internal(format!("the controller {} panicked", controller.name))),
    };
    (key, outcome)
}

/// Carries out a plan up to the first failure.
async fn carry_out(leader: &Leader, controller: &Controller, plan: &Plan) -> Result<(), Status> {
    for batch in plan.batches() {
        let steps = batch.clone().map(|at| step(leader, controller, plan, at));
        let outcomes = futures::future::join_all(steps).await;
        let mut failed = None;
        let mut skipped = false;
        for (at, outcome) in batch.zip(outcomes) {
            match outcome {
                Ok(Outcome::Event) if !skipped => {
                    tell(leader, controller, &plan.actions[at]).await;
                }
                Ok(Outcome::Event) => {}
                Ok(Outcome::Done) => skipped = false,
                Ok(Outcome::DoneBefore) => skipped = true,
                Err(status) => {
                    skipped = true;
                    if let Some(event) = plan.failure(&plan.actions[at], &status.message) {
                        tell(leader, controller, &event).await;
                    }
                    failed = Some(status);
                }
            }
        }
        if let Some(status) = failed {
            return Err(status);
        }
    }
    Ok(())
}

enum Outcome {
    Done,
    /// An earlier plan did it.
    DoneBefore,
    /// To be told once it is known how the action before it went.
    Event,
}

async fn step(
    leader: &Leader,
    controller: &Controller,
    plan: &Plan,
    at: usize,
) -> Result<Outcome, Status> {
    let objects = &leader.objects;
    let options =
        WriteOptions { field_manager: Some(controller.name.to_owned()), ..WriteOptions::default() };
    match &plan.actions[at] {
        Action::Create { resource, namespace, body } => {
            match objects.create(resource, namespace.as_deref(), body.clone(), &options).await {
                Ok(created) => leader.view.apply_written(created),
                Err(status) if status.is_already_exists() => return Ok(Outcome::DoneBefore),
                Err(status) => return Err(status),
            }
        }
        Action::Update { key, body } => {
            let (namespace, name) = (key.namespace.as_deref(), key.name.as_str());
            let sub = pontoon_objects::Sub::None;
            let updated =
                objects.update(key.resource, namespace, name, body.clone(), sub, &options).await?;
            leader.view.apply_written(updated);
        }
        Action::Patch { key, sub, patch } => {
            let (namespace, name) = (key.namespace.as_deref(), key.name.as_str());
            let sub = match sub {
                Sub::Whole => pontoon_objects::Sub::None,
                Sub::Status => pontoon_objects::Sub::Status,
                Sub::Finalize => pontoon_objects::Sub::Finalize,
            };
            let patch = Patch::Merge(patch.clone());
            match objects.patch(key.resource, namespace, name, &patch, sub, &options).await {
                Ok(patched) => leader.view.apply_written(patched),
                Err(status) if status.is_not_found() => return Ok(Outcome::DoneBefore),
                Err(status) => return Err(status),
            }
        }
        Action::Delete { key, uid, grace_seconds, propagation, only_if_absent } => {
            return delete(leader, key, uid, *grace_seconds, *propagation, only_if_absent).await;
        }
        Action::DeleteAll { resource, namespace } => {
            let all = pontoon_objects::ListOptions::default();
            let options = DeleteOptions::default();
            objects.delete_collection(resource, Some(namespace), &all, &options).await?;
        }
        Action::Event { .. } => return Ok(Outcome::Event),
    }
    Ok(Outcome::Done)
}

async fn delete(
    leader: &Leader,
    key: &Key,
    uid: &str,
    grace_seconds: Option<i64>,
    propagation: Propagation,
    only_if_absent: &[Absent],
) -> Result<Outcome, Status> {
    for absent in only_if_absent {
        let (namespace, name) = (absent.key.namespace.as_deref(), absent.key.name.as_str());
        match leader.objects.get(absent.key.resource, namespace, name).await {
            Ok(found) if absent.uid.as_ref().is_none_or(|uid| *uid == found.meta.uid) => {
                return Ok(Outcome::DoneBefore);
            }
            Ok(_) => {}
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    let options = DeleteOptions {
        grace_seconds,
        uid: Some(uid.to_owned()),
        propagation: Some(match propagation {
            Propagation::Background => pontoon_objects::Propagation::Background,
            Propagation::Foreground => pontoon_objects::Propagation::Foreground,
            Propagation::Orphan => pontoon_objects::Propagation::Orphan,
        }),
        ..DeleteOptions::default()
    };
    let namespace = key.namespace.as_deref();
    match leader.objects.delete(key.resource, namespace, &key.name, &options).await {
        Ok(deleted) => {
            leader.view.apply_written(deleted);
            Ok(Outcome::Done)
        }
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(Outcome::DoneBefore),
        Err(status) => Err(status),
    }
}

async fn tell(leader: &Leader, controller: &Controller, event: &Action) {
    if let Action::Event { regarding, kind, reason, message } = event {
        let what = Occurrence {
            warning: *kind == EventType::Warning,
            reason,
            message,
            at: Timestamp::now(),
            component: controller.name,
            host: None,
        };
        leader.recorder.record(regarding, &what).await;
    }
}

#[cfg(test)]
mod tests {
    use pontoon_model::resource;

    use super::*;

    #[test]
    fn a_panic_over_one_change_is_that_changes_alone() {
        let controller = Controller {
            name: "test",
            watches: &[resource::PODS],
            keys: |change, _| {
                assert_ne!(change.key.name, "bad");
                vec![change.key.clone()]
            },
            reconcile: |_, _, _| Plan::none(),
        };
        let keys = |name: &str| {
            let key = Key::new(resource::PODS, Some("default"), name);
            let change = Change { key, old: None, new: None, liveness: false };
            keys_of(&controller, &change, &Cache::default()).len()
        };
        assert_eq!((keys("bad"), keys("good")), (0, 1));
    }
}
