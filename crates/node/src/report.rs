//! News from nodes: their form between node and manager, and what a manager does with it. A node may
//! speak only of itself and of the pods bound to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, ObjectReference, Pod, PodStatus};
use pontoon_agent::{Report, ReportError, Reports};
use pontoon_controllers::Key;
use pontoon_model::object::Object;
use pontoon_model::resource;
use pontoon_model::status::Status;
use pontoon_objects::{DeleteOptions, Objects, Sub, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::event_quota::EventQuota;
use crate::events::{Occurrence, Recorder};
use crate::identity::Role;
use crate::node_labels;
use crate::rpc::client::ManagerClient;
use crate::rpc::{BODY_BYTES_MAX, Refusal};
use crate::view::View;

/// An unchanged node status is written this often all the same, so that its heartbeat times move.
const HEARTBEAT_SECONDS: i64 = 60;
/// How long a manager's own reports wait for a leader before they are sent again: a manager that stops
/// makes one last attempt, and must not be held up by it for as long as a write would wait.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Where a node's object remembers which labels the node gave itself, so that one that it claims no more goes.
const OWN_LABELS: &str = "pontoon.io/own-labels";
/// The longest reason and field of an event; its message is cut by the recorder.
const REASON_BYTES_MAX: usize = 128;
const FIELD_PATH_BYTES_MAX: usize = 512;
/// Reports that are taken in one request, and that are sent in one: a request that fails is sent again as a whole.
const REPORTS_MAX: usize = 10_000;
const REPORTS_SENT: usize = 256;

/// A report on the wire.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WireReport {
    PodStatus {
        namespace: String,
        name: String,
        uid: String,
        status: Box<PodStatus>,
    },
    PodGone {
        namespace: String,
        name: String,
        uid: String,
    },
    NodeStatus {
        status: Box<NodeStatus>,
        labels: BTreeMap<String, String>,
    },
    Event {
        regarding: Box<ObjectReference>,
        warning: bool,
        reason: String,
        message: String,
        at: Timestamp,
    },
}

impl From<Report> for WireReport {
    fn from(report: Report) -> Self {
        match report {
            Report::PodStatus { namespace, name, uid, status } => {
                Self::PodStatus { namespace, name, uid, status }
            }
            Report::PodGone { namespace, name, uid } => Self::PodGone { namespace, name, uid },
            Report::NodeStatus { status, labels } => Self::NodeStatus { status, labels },
            Report::Event(event) => Self::Event {
                regarding: Box::new(event.regarding),
                warning: event.warning,
                reason: event.reason.to_owned(),
                message: event.message,
                at: event.at,
            },
        }
    }
}

/// A worker's way to deliver reports: any manager takes them.
pub(crate) struct ToManagers(pub ManagerClient);

#[async_trait]
impl Reports for ToManagers {
    async fn report(&self, reports: Vec<Report>) -> Result<(), ReportError> {
        for request in requests(reports) {
            let done: Result<(), Refusal> = self.0.call(Method::POST, "/v1/report", &request).await;
            done.map_err(|e| ReportError(e.message))?;
        }
        Ok(())
    }
}

/// The reports as the bodies of requests that a manager takes: none holds too many of them or too many bytes.
fn requests(reports: Vec<Report>) -> Vec<Vec<Box<RawValue>>> {
    let mut requests: Vec<Vec<Box<RawValue>>> = Vec::new();
    let mut bytes = 0;
    for report in reports.into_iter().map(WireReport::from) {
        let encoded = serde_json::value::to_raw_value(&report).expect("plain data becomes JSON");
        // With the comma or bracket before it, and the bracket at the end.
        let needed = encoded.get().len() + 2;
        if needed > BODY_BYTES_MAX {
            // No manager would ever take it, and what waits behind it must not wait for ever.
            tracing::error!(bytes = needed, "a report is too large to be sent and is dropped");
            continue;
        }
        bytes += needed;
        match requests
            .last_mut()
            .filter(|last| bytes <= BODY_BYTES_MAX && last.len() < REPORTS_SENT)
        {
            Some(last) => last.push(encoded),
            None => {
                bytes = needed;
                requests.push(vec![encoded]);
            }
        }
    }
    requests
}

/// Adds the labels that a node was started with to what its agent finds out by itself.
pub(crate) struct WithLabels {
    pub labels: Vec<(String, String)>,
    pub inner: Arc<dyn Reports>,
}

#[async_trait]
impl Reports for WithLabels {
    async fn report(&self, mut reports: Vec<Report>) -> Result<(), ReportError> {
        for report in &mut reports {
            if let Report::NodeStatus { labels, .. } = report {
                labels.extend(self.labels.iter().cloned());
            }
        }
        self.inner.report(reports).await
    }
}

/// A manager's own way: no wire.
pub struct InProcess {
    pub node: String,
    pub sink: Sink,
}

#[async_trait]
impl Reports for InProcess {
    async fn report(&self, reports: Vec<Report>) -> Result<(), ReportError> {
        let wire = reports.into_iter().map(WireReport::from).collect();
        // Only a manager has a sink of its own.
        let reporter = Reporter { name: &self.node, role: Role::Manager };
        let taken = tokio::time::timeout(TAKEN_WITHIN, self.sink.take(reporter, wire)).await;
        match taken {
            Ok(taken) => taken.map_err(|e| ReportError(e.message)),
            Err(_) => Err(ReportError("no manager leads".to_owned())),
        }
    }
}

/// Whose reports they are, by its certificate and its record: whatever the reports say.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    pub name: &'a str,
    pub role: Role,
}

/// Where a manager puts reports.
#[derive(Clone)]
pub struct Sink {
    pub objects: Objects,
    pub view: Arc<View>,
    pub recorder: Arc<Recorder>,
    /// How many events each node may still have written.
    pub events: Arc<EventQuota>,
}

impl Sink {
    /// Applies a node's reports in order. What concerns pods that are not (or no longer) this node's is
    /// dropped; durable when this returns.
    ///
    /// # Errors
    /// When the store cannot take them now; the node sends them again.
    pub async fn take(
        &self,
        reporter: Reporter<'_>,
        reports: Vec<WireReport>,
    ) -> Result<(), Refusal> {
        let node = reporter.name;
        if reports.len() > REPORTS_MAX {
            return Err(Refusal::bad_request(format!(
                "more than {REPORTS_MAX} reports in one request"
            )));
        }
        // Pods do not wait for each other's writes: they share one fsync.
        let taken = reports.into_iter().map(|report| self.take_one(reporter, report));
        let mut failed = None;
        for done in futures::future::join_all(taken).await {
            match done {
                Ok(()) => {}
                Err(status) if status.code >= 500 || status.code == 429 => failed = Some(status),
                Err(status) => {
                    tracing::debug!(node, message = status.message, "a report is dropped")
                }
            }
        }
        match failed {
            Some(status) => Err(Refusal::unavailable(status.message)),
            None => Ok(()),
        }
    }

    async fn take_one(&self, reporter: Reporter<'_>, report: WireReport) -> Result<(), Status> {
        let node = reporter.name;
        match report {
            WireReport::PodStatus { namespace, name, uid, status } => {
                if !self.is_on(node, &namespace, &name, &uid).await? {
                    return Ok(());
                }
                let body = json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": { "namespace": namespace, "name": name, "uid": uid },
                    "status": status,
                });
                let options = WriteOptions::default();
                let updated = self
                    .objects
                    .update(resource::PODS, Some(&namespace), &name, body, Sub::Status, &options)
                    .await?;
                self.view.apply_written(updated);
                Ok(())
            }
            WireReport::PodGone { namespace, name, uid } => {
                if !self.is_on(node, &namespace, &name, &uid).await? {
                    return Ok(());
                }
                let options = DeleteOptions {
                    grace_seconds: Some(0),
                    uid: Some(uid),
                    ..DeleteOptions::default()
                };
                match self.objects.delete(resource::PODS, Some(&namespace), &name, &options).await {
                    Err(status) if !status.is_not_found() => Err(status),
                    _ => Ok(()),
                }
            }
            WireReport::NodeStatus { status, labels } => {
                self.take_node(reporter, &status, labels).await
            }
            WireReport::Event { regarding, warning, reason, message, at } => {
                let Some(regarding) = self.own(node, *regarding).await? else { return Ok(()) };
                if reason.len() > REASON_BYTES_MAX || !self.events.allow(node, Instant::now()) {
                    return Ok(());
                }
                let what = Occurrence {
                    warning,
                    reason: &reason,
                    message: &message,
                    at,
                    component: "pontoon-agent",
                    host: Some(node),
                };
                self.recorder.record(&regarding, &what).await;
                Ok(())
            }
        }
    }

    /// What an event of a node is about, if that is the node itself or a pod of it.
    async fn own(
        &self,
        node: &str,
        regarding: ObjectReference,
    ) -> Result<Option<ObjectReference>, Status> {
        let Some(found) = subject(node, regarding) else { return Ok(None) };
        if found.kind.as_deref() == Some("Node") {
            return Ok(Some(found));
        }
        let field = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name, uid) =
            (field(&found.namespace), field(&found.name), field(&found.uid));
        Ok(self.is_on(node, &namespace, &name, &uid).await?.then_some(found))
    }

    async fn is_on(
        &self,
        node: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<bool, Status> {
        let is = |pod: &Pod| {
            pod.metadata.uid.as_deref() == Some(uid)
                && pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
        };
        let known = self.view.read().get::<Pod>(Some(namespace), name).cloned();
        if known.is_some_and(|pod| is(&pod)) {
            return Ok(true);
        }
        match self.objects.get(resource::PODS, Some(namespace), name).await {
            Ok(object) => Ok(object.typed::<Pod>().is_ok_and(|pod| is(&pod))),
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn take_node(
        &self,
        reporter: Reporter<'_>,
        status: &NodeStatus,
        labels: BTreeMap<String, String>,
    ) -> Result<(), Status> {
        let (node, role) = (reporter.name, reporter.role);
        let labels = node_labels::wanted(labels, role);
        let own = node_labels::remembered(&labels);
        let known = self.node(node).await?;
        let options = WriteOptions::default();
        let known = match known {
            Some(known) => known,
            None => {
                let body = json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {
                        "name": node, "labels": labels, "annotations": { OWN_LABELS: own },
                    },
                });
                match self.objects.create(resource::NODES, None, body, &options).await {
                    Ok(created) => created,
                    Err(status) if status.is_already_exists() => {
                        self.objects.get(resource::NODES, None, node).await?
                    }
                    Err(status) => return Err(status),
                }
            }
        };
        let before = known.meta.annotations.get(OWN_LABELS).map(String::as_str);
        let mut wanted = json!(labels);
        let mut take_away = |label: &str| {
            if known.meta.labels.contains_key(label) {
                wanted[label] = Value::Null;
            }
        };
        node_labels::outdated(role).for_each(&mut take_away);
        node_labels::dropped(before, &labels).into_iter().for_each(take_away);
        let is_known = |(key, value): (&String, &String)| known.meta.labels.get(key) == Some(value);
        if before != Some(own.as_str())
            || !labels.iter().all(is_known)
            || wanted.as_object().is_some_and(|w| w.len() > labels.len())
        {
            let meta = json!({ "labels": wanted, "annotations": { OWN_LABELS: own } });
            let patch = pontoon_objects::Patch::Merge(json!({ "metadata": meta }));
            self.objects.patch(resource::NODES, None, node, &patch, Sub::None, &options).await?;
        }
        if is_old_news(&known, status) {
            return Ok(());
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": node }, "status": status,
        });
        let updated =
            self.objects.update(resource::NODES, None, node, body, Sub::Status, &options).await?;
        self.view.apply_written(updated);
        Ok(())
    }

    async fn node(&self, name: &str) -> Result<Option<Object>, Status> {
        let key = Key::new(resource::NODES, None, name);
        let known = self.view.read().entry(&key).map(|entry| entry.object.clone());
        match known {
            Some(known) => Ok(Some(known)),
            None => match self.objects.get(resource::NODES, None, name).await {
                Ok(object) => Ok(Some(object)),
                Err(status) if status.is_not_found() => Ok(None),
                Err(status) => Err(status),
            },
        }
    }
}

/// What an event may be about, with as little as says so: the node itself, or some pod.
fn subject(node: &str, regarding: ObjectReference) -> Option<ObjectReference> {
    let plain = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: regarding.kind.clone(),
        ..ObjectReference::default()
    };
    match regarding.kind.as_deref()? {
        "Node" if regarding.name.as_deref() == Some(node) => Some(ObjectReference {
            name: regarding.name,
            // A node's events are found under its name.
            uid: Some(node.to_owned()),
            ..plain
        }),
        "Pod" => Some(ObjectReference {
            namespace: regarding.namespace,
            name: regarding.name,
            uid: regarding.uid,
            field_path: regarding.field_path.filter(|path| path.len() <= FIELD_PATH_BYTES_MAX),
            ..plain
        }),
        _ => None,
    }
}

/// Whether a status says what is known already, its heartbeat times aside, and the last of those is recent.
fn is_old_news(known: &Object, status: &NodeStatus) -> bool {
    let Ok(node) = known.typed::<Node>() else { return false };
    let Some(former) = node.status else { return false };
    let heartbeat = |status: &NodeStatus| {
        let times =
            status.conditions.iter().flatten().filter_map(|c| c.last_heartbeat_time.as_ref());
        times.map(|time| time.0.as_second()).max()
    };
    let age = heartbeat(status).zip(heartbeat(&former)).map(|(new, old)| new - old);
    age.is_some_and(|age| age < HEARTBEAT_SECONDS) && timeless(status) == timeless(&former)
}

/// A status without the times that change though nothing happened.
fn timeless(status: &NodeStatus) -> Value {
    let mut value = serde_json::to_value(status).expect("a status becomes JSON");
    for condition in value["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastHeartbeatTime");
            condition.remove("lastTransitionTime");
        }
    }
    value
}

#[cfg(test)]
mod tests;
