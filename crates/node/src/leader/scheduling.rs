//! Scheduling: pods without a node are collected for a moment, placed together, and bound together, so
//! that bindings share fsyncs. What cannot be placed waits for the cluster to change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, ObjectReference, Pod};
use pontoon_controllers::{Change, Entry};
use pontoon_model::resource;
use pontoon_objects::{Patch, Sub, WriteOptions};
use pontoon_scheduler::{Outcome, Placement, Snapshot, schedule};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Leader;
use crate::events::{Occurrence, Recorder};

/// How long the first waiting pod waits for others to be placed with.
const GATHER: Duration = Duration::from_millis(2);
/// Pods placed in one go.
const BATCH_MAX: usize = 2048;
/// Pods that cannot be placed are looked at again after this, whatever happens.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Events about bound pods that wait to be written, and that are being written.
const EVENTS_WAITING: usize = 8192;
const EVENTS_AT_ONCE: usize = 256;

type PodKey = (String, String);

/// Schedules until the token ends it.
pub(super) async fn run(leader: Leader, stop: CancellationToken) {
    let (bound, waiting) = mpsc::channel(EVENTS_WAITING);
    // Told by a task of their own, which ends with this one.
    let telling = tell_bound(leader.recorder.clone(), waiting);
    let _telling = AbortOnDropHandle::new(tokio::spawn(telling));
    let mut scheduling = Scheduling {
        leader,
        bound,
        snapshot: Snapshot::new(),
        waiting: BTreeMap::new(),
        parked: BTreeMap::new(),
        retry_at: None,
        suspects: 0,
    };
    tokio::select! {
        () = scheduling.run() => {}
        () = stop.cancelled() => {}
    }
}

/// Tells of pods that were given their nodes, some at a time.
async fn tell_bound(
    recorder: Arc<Recorder>,
    mut waiting: mpsc::Receiver<(ObjectReference, String)>,
) {
    let waiting = futures::stream::poll_fn(|cx| waiting.poll_recv(cx));
    let tell = async |(regarding, node): (ObjectReference, String)| {
        let (namespace, name) = (&regarding.namespace, &regarding.name);
        let message = format!(
            "Successfully assigned {}/{} to {node}",
            namespace.as_deref().unwrap_or_default(),
            name.as_deref().unwrap_or_default()
        );
        recorder.record(&regarding, &said(false, "Scheduled", &message)).await;
    };
    waiting.for_each_concurrent(EVENTS_AT_ONCE, tell).await;
}

struct Scheduling {
    leader: Leader,
    /// Pods that were bound, and to which nodes, for the events about it.
    bound: mpsc::Sender<(ObjectReference, String)>,
    snapshot: Snapshot,
    /// Pods to be placed next.
    waiting: BTreeMap<PodKey, Arc<Pod>>,
    /// Pods that fit nowhere, with what was said about them.
    parked: BTreeMap<PodKey, (Arc<Pod>, String)>,
    retry_at: Option<Instant>,
    /// Pods that are placed one by one, since the scheduler panicked over one of them.
    suspects: usize,
}

impl Scheduling {
    async fn run(&mut self) {
        loop {
            let mut changes = self.leader.view.subscribe();
            self.start_afresh();
            loop {
                let deadline = if self.waiting.is_empty() {
                    self.retry_at
                } else {
                    Some(Instant::now() + GATHER)
                };
                tokio::select! {
                    biased;
                    change = changes.recv() => match change {
                        Ok(change) => self.take(&change),
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    },
                    () = at(deadline) => self.place().await,
                }
                // A flood of changes must not put placing off for ever.
                if self.waiting.len() >= BATCH_MAX {
                    self.place().await;
                }
            }
        }
    }

    fn start_afresh(&mut self) {
        self.snapshot = Snapshot::new();
        self.waiting.clear();
        self.parked.clear();
        let changes = self.leader.view.read().changes();
        for change in changes {
            self.take(&change);
        }
    }

    fn take(&mut self, change: &Change) {
        let key = &change.key;
        if key.is(resource::PODS) {
            self.take_pod((key.namespace().to_owned(), key.name.clone()), change.new.as_deref());
        } else if key.is(resource::NODES) {
            match change.new.as_ref().and_then(|entry| entry.get::<Node>()) {
                Some(node) => self.snapshot.upsert_node(node),
                None => self.snapshot.remove_node(&key.name),
            }
            self.unpark();
        } else if key.is(resource::NAMESPACES) {
            match change.new.as_ref().and_then(|entry| entry.get::<Namespace>()) {
                Some(namespace) => self.snapshot.upsert_namespace(namespace),
                None => self.snapshot.remove_namespace(&key.name),
            }
        }
    }

    fn take_pod(&mut self, key: PodKey, entry: Option<&Entry>) {
        let Some(pod) = entry.and_then(|entry| entry.get::<Pod>()) else {
            self.snapshot.remove_pod(&key.0, &key.1);
            self.waiting.remove(&key);
            self.parked.remove(&key);
            return self.unpark();
        };
        self.snapshot.upsert_pod(pod);
        if is_waiting(pod) {
            // A change of a parked pod's status is most likely our own; its spec may have changed, too.
            match self.parked.get_mut(&key) {
                Some((known, _)) if known.spec == pod.spec => *known = pod.clone(),
                _ => {
                    self.waiting.insert(key, pod.clone());
                }
            }
        } else {
            self.waiting.remove(&key);
            self.parked.remove(&key);
        }
    }

    /// The cluster has changed: what fitted nowhere may fit now.
    fn unpark(&mut self) {
        if !self.parked.is_empty()
            && self.retry_at.is_none_or(|at| at > Instant::now() + GATHER * 50)
        {
            self.retry_at = Some(Instant::now() + GATHER * 50);
        }
    }

    async fn place(&mut self) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            for (key, (pod, _)) in &self.parked {
                self.waiting.entry(key.clone()).or_insert_with(|| pod.clone());
            }
        }
        let most = if self.suspects > 0 { 1 } else { BATCH_MAX };
        self.suspects = self.suspects.saturating_sub(1);
        let keys: Vec<PodKey> = self.waiting.keys().take(most).cloned().collect();
        let pods: Vec<Arc<Pod>> = keys.iter().filter_map(|key| self.waiting.remove(key)).collect();
        if pods.is_empty() {
            return;
        }
        let Some(placements) = attempt(|| schedule(&mut self.snapshot, &pods, rand::random()))
        else {
            return self.isolate(keys, pods);
        };
        let decided =
            pods.iter().zip(&placements).map(|(pod, placement)| self.carry_out(pod, placement));
        let outcomes = futures::future::join_all(decided).await;
        let mut again = BTreeSet::new();
        for ((pod, placement), outcome) in pods.iter().zip(&placements).zip(outcomes) {
            let key = (placement.namespace.clone(), placement.name.clone());
            match outcome {
                Done::Bound => {
                    self.parked.remove(&key);
                }
                Done::Unschedulable(why) => {
                    self.parked.insert(key, (pod.clone(), why));
                }
                Done::Failed => {
                    self.snapshot.remove_pod(&key.0, &key.1);
                    again.insert(key.clone());
                    self.parked.insert(key, (pod.clone(), String::new()));
                }
            }
        }
        if !self.parked.is_empty() && self.retry_at.is_none() {
            let wait = if again.is_empty() { RETRY_AFTER } else { Duration::from_millis(200) };
            self.retry_at = Some(Instant::now() + wait);
        }
    }

    /// The scheduler panicked over one of these pods: they are placed one by one, and the one that it panics over
    /// alone is left until it changes or its time to be looked at comes again.
    fn isolate(&mut self, keys: Vec<PodKey>, pods: Vec<Arc<Pod>>) {
        let former = std::mem::take(&mut self.parked);
        let waiting = std::mem::take(&mut self.waiting);
        // What it was about to note is lost with it.
        self.start_afresh();
        self.waiting = waiting;
        self.parked = former;
        if let ([key], [pod]) = (keys.as_slice(), pods.as_slice()) {
            tracing::error!(namespace = key.0, pod = key.1, "the scheduler panicked over a pod");
            self.parked.insert(key.clone(), (pod.clone(), String::new()));
            self.retry_at.get_or_insert(Instant::now() + RETRY_AFTER);
            return;
        }
        tracing::error!("the scheduler panicked; its pods are placed one by one");
        self.suspects = pods.len();
        self.waiting.extend(keys.into_iter().zip(pods));
    }

    async fn carry_out(&self, pod: &Arc<Pod>, placement: &Placement) -> Done {
        match &placement.outcome {
            Outcome::Node(node) => self.bind(pod, placement, node).await,
            Outcome::Unschedulable(why) => {
                let why = why.to_string();
                let key = (placement.namespace.clone(), placement.name.clone());
                if self.parked.get(&key).is_none_or(|(_, said)| *said != why) {
                    self.tell(pod, placement, &why).await;
                }
                Done::Unschedulable(why)
            }
        }
    }

    async fn bind(&self, pod: &Pod, placement: &Placement, node: &str) -> Done {
        let bound = self
            .leader
            .objects
            .bind(&placement.namespace, &placement.name, Some(&placement.uid), node)
            .await;
        match bound {
            Ok(object) => {
                self.leader.view.apply_written(object);
                // An event holds up nobody: when many wait already, this one is not told.
                if self.bound.try_send((reference(pod), node.to_owned())).is_err() {
                    tracing::debug!(pod = placement.name, node, "too many events wait");
                }
                Done::Bound
            }
            Err(status) if status.is_not_found() || status.is_conflict() => Done::Bound,
            Err(status) => {
                tracing::warn!(pod = placement.name, node, error = status.message, "bind a pod");
                Done::Failed
            }
        }
    }

    /// Says in the pod's status and in an event why it cannot be placed.
    async fn tell(&self, pod: &Pod, placement: &Placement, why: &str) {
        let now = Timestamp::now();
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "lastTransitionTime": format!("{now:.0}"),
        });
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": placement.uid },
            "status": { "phase": "Pending", "conditions": [condition] },
        }));
        let options = WriteOptions::default();
        let namespace = Some(placement.namespace.as_str());
        let done = self
            .leader
            .objects
            .patch(resource::PODS, namespace, &placement.name, &patch, Sub::Status, &options)
            .await;
        if let Err(status) = done {
            tracing::debug!(pod = placement.name, error = status.message, "say why a pod waits");
        }
        let what = said(true, "FailedScheduling", why);
        self.leader.recorder.record(&reference(pod), &what).await;
    }
}

/// What `f` answers, or nothing when it panics.
fn attempt<T>(f: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).ok()
}

enum Done {
    /// It has a node, or is gone: nothing is left to do.
    Bound,
    Unschedulable(String),
    Failed,
}

/// What the scheduler says of a pod.
fn said<'a>(warning: bool, reason: &'a str, message: &'a str) -> Occurrence<'a> {
    let at = Timestamp::now();
    Occurrence { warning, reason, message, at, component: "pontoon-scheduler", host: None }
}

/// Whether a pod is to be given a node.
fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && spec.is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty())
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
