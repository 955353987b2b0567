//! Events for people: equal ones are counted on one object instead of filling the store.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use pontoon_model::resource;
use pontoon_objects::{Objects, Patch, Sub, WriteOptions};
use serde_json::json;

/// Events remembered for counting; then the memory starts afresh.
const REMEMBERED_MAX: usize = 4096;
/// A message is cut to this, as Kubernetes does.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Writes events. Losing one is no harm: a failed write is only logged.
pub struct Recorder {
    objects: Objects,
    seen: Mutex<HashMap<Similar, (String, u64)>>,
    serial: AtomicU64,
}

/// Something that happened.
pub struct Occurrence<'a> {
    /// Whether somebody should look.
    pub warning: bool,
    /// One word in camel case.
    pub reason: &'a str,
    /// A sentence for people.
    pub message: &'a str,
    pub at: Timestamp,
    /// Which part of the cluster says so, and on which node if it is a node's.
    pub component: &'a str,
    pub host: Option<&'a str>,
}

/// What makes two events the same one, happening again.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Similar {
    uid: String,
    field: String,
    reason: String,
    message: String,
}

impl Recorder {
    /// A recorder that remembers nothing yet.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        let start = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
        Self { objects, seen: Mutex::default(), serial: AtomicU64::new(start) }
    }

    /// Writes an event, or counts it up when it happened before.
    pub async fn record(&self, regarding: &ObjectReference, what: &Occurrence<'_>) {
        let similar = Similar {
            uid: regarding.uid.clone().unwrap_or_default(),
            field: regarding.field_path.clone().unwrap_or_default(),
            reason: what.reason.to_owned(),
            message: cut(what.message).to_owned(),
        };
        let again = self.lock().get_mut(&similar).map(|(name, count)| {
            *count += 1;
            (name.clone(), *count)
        });
        if let Some((name, count)) = again
            && self.count_up(regarding, &name, count, what).await
        {
            return;
        }
        self.create(regarding, similar, what).await;
    }

    /// Counts an event up; false when it is gone.
    async fn count_up(
        &self,
        regarding: &ObjectReference,
        name: &str,
        count: u64,
        what: &Occurrence<'_>,
    ) -> bool {
        let change = json!({ "count": count, "lastTimestamp": seconds(what.at) });
        let (namespace, patch, options) =
            (namespace(regarding), Patch::Merge(change), WriteOptions::default());
        let done = self
            .objects
            .patch(resource::EVENTS, Some(namespace), name, &patch, Sub::None, &options)
            .await;
        match done {
            Err(status) if status.is_not_found() => false,
            Err(status) => {
                tracing::debug!(status.message, "count an event");
                true
            }
            Ok(_) => true,
        }
    }

    async fn create(&self, regarding: &ObjectReference, similar: Similar, what: &Occurrence<'_>) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{serial:x}", regarding.name.as_deref().unwrap_or("object"));
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "namespace": namespace(regarding), "name": name },
            "involvedObject": regarding,
            "type": if what.warning { "Warning" } else { "Normal" },
            "reason": what.reason,
            "message": similar.message,
            "source": { "component": what.component, "host": what.host },
            "firstTimestamp": seconds(what.at),
            "lastTimestamp": seconds(what.at),
            "count": 1,
        });
        let options = WriteOptions::default();
        match self
            .objects
            .create(resource::EVENTS, Some(namespace(regarding)), body, &options)
            .await
        {
            Ok(_) => self.remember(similar, name),
            Err(status) => tracing::debug!(status.message, "write an event"),
        }
    }

    fn remember(&self, similar: Similar, name: String) {
        let mut seen = self.lock();
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert(similar, (name, 1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Similar, (String, u64)>> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Events of what has no namespace (nodes) are kept in the default one.
fn namespace(regarding: &ObjectReference) -> &str {
    regarding.namespace.as_deref().unwrap_or("default")
}

/// Kubernetes' `Time` has whole seconds.
fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
