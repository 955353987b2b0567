//! One change of one object, read once for all who are told of it.

use std::sync::{Arc, OnceLock};

use pontoon_model::object::Object;
use pontoon_model::resource::{PODS, Resource};
use pontoon_store::{Batch, Event, EventKind, KeyValue};
use serde_json::json;

/// The changes of one revision.
pub(crate) type Deltas = Arc<[Arc<Delta>]>;

/// An object before and after a write.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) revision: u64,
    pub(crate) old: Option<Object>,
    pub(crate) new: Option<Object>,
    /// Whether the object came into being. It may have an unknown `old` if it did not.
    pub(crate) created: bool,
    gone: OnceLock<Object>,
}

impl Delta {
    /// The changes of a batch. What cannot be read is left out, and said in the log.
    pub(crate) fn read_all(resource: &'static Resource, batch: &Batch) -> Deltas {
        batch.events.iter().filter_map(|event| Self::read(resource, event)).map(Arc::new).collect()
    }

    fn read(resource: &'static Resource, event: &Event) -> Option<Self> {
        let revision = event.kv.mod_revision;
        let old = event.prev.as_ref().and_then(|kv| object(resource, kv));
        let (old, new) = match event.kind {
            EventKind::Put => (old, Some(object(resource, &event.kv)?)),
            EventKind::Delete => (Some(old.or_else(|| nameless(resource, &event.kv))?), None),
        };
        let created = event.is_create();
        Some(Self { revision, old, new, created, gone: OnceLock::new() })
    }

    /// The last state of an object that is gone, or gone from somebody's view, at this revision.
    pub(crate) fn gone(&self) -> Option<Object> {
        let last = self.old.as_ref().or(self.new.as_ref())?;
        Some(self.gone.get_or_init(|| last.at(self.revision)).clone())
    }

    /// The object's newest state that is known.
    pub(crate) fn state(&self) -> Option<&Object> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// The nodes that the pod is and was bound to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = String> {
        let node =
            |o: &Object| (*o.resource == *PODS).then(|| o.field("spec.nodeName").into_owned());
        let new = self.new.as_ref().and_then(node);
        let old = self.old.as_ref().and_then(node).filter(|n| Some(n) != new.as_ref());
        new.into_iter().chain(old)
    }

    /// Roughly what it takes of memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        // Most of it shares the store's own bytes; what is made for clients is as large again.
        self.new.as_ref().map_or(0, |o| o.stored().len()) + 512
    }
}

fn object(resource: &'static Resource, kv: &KeyValue) -> Option<Object> {
    match Object::from_stored(resource, kv.value.clone(), kv.mod_revision) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = %String::from_utf8_lossy(&kv.key), %error, "skip an object in the store");
            None
        }
    }
}

/// What is known of a deleted object whose last state is not: its name.
fn nameless(resource: &'static Resource, kv: &KeyValue) -> Option<Object> {
    let key = std::str::from_utf8(&kv.key).ok()?;
    let (namespace, name) = resource.parse_key(key)?;
    let value = match namespace {
        Some(namespace) => json!({"metadata": {"name": name, "namespace": namespace}}),
        None => json!({"metadata": {"name": name}}),
    };
    Object::from_value(resource, value, kv.mod_revision).ok()
}
