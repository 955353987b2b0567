//! Events for people: equal ones are counted on one object instead of filling the store.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use pontoon_model::resource;
use pontoon_objects::{Objects, Patch, Sub, WriteOptions};
use serde_json::{Value, json};

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
    pub async fn record(
        &self,
        regarding: &ObjectReference,
        warning: bool,
        reason: &str,
        message: &str,
        at: Timestamp,
        source: Value,
    ) {
        let message = cut(message);
        let similar = Similar {
            uid: regarding.uid.clone().unwrap_or_default(),
            field: regarding.field_path.clone().unwrap_or_default(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let again = {
            let mut seen = self.lock();
            seen.get_mut(&similar).map(|(name, count)| {
                *count += 1;
                (name.clone(), *count)
            })
        };
        let options = WriteOptions::default();
        let at = at.to_string();
        if let Some((name, count)) = again {
            let patch =
                Patch::Merge(json!({ "count": count, "lastTimestamp": whole_seconds(&at) }));
            let done = self
                .objects
                .patch(resource::EVENTS, Some(&namespace), &name, &patch, Sub::None, &options)
                .await;
            match done {
                Ok(_) => return,
                Err(status) if status.is_not_found() => {}
                Err(status) => return tracing::debug!(status.message, "count an event"),
            }
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{serial:x}", regarding.name.as_deref().unwrap_or("object"));
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "namespace": namespace, "name": name },
            "involvedObject": regarding,
            "type": if warning { "Warning" } else { "Normal" },
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": whole_seconds(&at),
            "lastTimestamp": whole_seconds(&at),
            "count": 1,
        });
        match self.objects.create(resource::EVENTS, Some(&namespace), body, &options).await {
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

/// Kubernetes' `Time` has whole seconds.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
