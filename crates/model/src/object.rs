//! An API object as it is stored and served: JSON bytes beside its typed metadata. Fields that
//! nobody here knows stay as they are.

mod fields;
mod meta;
mod text;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::resource::{Resource, Typed};

pub use meta::{Meta, OwnerReference};
pub use text::{encode, timestamp};

/// Bytes that are no object of the resource.
#[derive(Debug, thiserror::Error)]
#[error("read a {kind} from {bytes} bytes of JSON: {reason}")]
pub struct BadObject {
    pub kind: &'static str,
    pub bytes: usize,
    pub reason: String,
}

/// An API object. Clones share everything.
#[derive(Clone, Debug)]
pub struct Object {
    pub resource: &'static Resource,
    pub meta: Arc<Meta>,
    text: Arc<Text>,
}

/// The stored JSON, without a resourceVersion, and the one clients see, made when first asked for.
#[derive(Debug)]
struct Text {
    stored: Bytes,
    served: OnceLock<Bytes>,
    fields: OnceLock<Box<fields::Fields>>,
}

impl Object {
    /// An object as it lies in the store at a revision.
    pub fn from_stored(
        resource: &'static Resource,
        stored: Bytes,
        revision: u64,
    ) -> Result<Self, BadObject> {
        let bad = |reason: String| BadObject { kind: resource.kind, bytes: stored.len(), reason };
        let meta = if stored.starts_with(resource.head.as_bytes()) {
            Meta::read(&stored[resource.head.len() - 1..]).map_err(|e| bad(e.to_string()))?
        } else {
            // Written by something else, such as an etcd client: bring it into our form.
            let value: Value = serde_json::from_slice(&stored).map_err(|e| bad(e.to_string()))?;
            return Self::from_value(resource, value, revision);
        };
        Ok(Self::assemble(resource, meta, stored, revision))
    }

    /// An object from its value; a resourceVersion in it is dropped in favour of `revision`.
    pub fn from_value(
        resource: &'static Resource,
        value: Value,
        revision: u64,
    ) -> Result<Self, BadObject> {
        if !value.is_object() {
            let reason = "it is not a JSON object".to_owned();
            return Err(BadObject { kind: resource.kind, bytes: 0, reason });
        }
        let stored = encode(resource, value);
        let meta = Meta::read(&stored[resource.head.len() - 1..]).map_err(|e| BadObject {
            kind: resource.kind,
            bytes: stored.len(),
            reason: e.to_string(),
        })?;
        Ok(Self::assemble(resource, meta, stored, revision))
    }

    /// A bookmark: an object of the kind that has nothing but a resourceVersion.
    pub fn bookmark(resource: &'static Resource, revision: u64, initial_events_end: bool) -> Self {
        let inner = if initial_events_end {
            r#""annotations":{"k8s.io/initial-events-end":"true"},"creationTimestamp":null}}"#
        } else {
            r#""creationTimestamp":null}}"#
        };
        let stored = Bytes::from([resource.head, inner].concat());
        Self::assemble(resource, Meta::default(), stored, revision)
    }

    fn assemble(resource: &'static Resource, mut meta: Meta, stored: Bytes, revision: u64) -> Self {
        meta.resource_version = revision;
        let text = Text { stored, served: OnceLock::new(), fields: OnceLock::new() };
        Self { resource, meta: Arc::new(meta), text: Arc::new(text) }
    }

    /// The same object at another revision: what it is once a write of it has been committed.
    pub fn at(&self, revision: u64) -> Self {
        let meta = Meta::clone(&self.meta);
        Self::assemble(self.resource, meta, self.text.stored.clone(), revision)
    }

    /// What the store holds.
    pub fn stored(&self) -> Bytes {
        self.text.stored.clone()
    }

    /// What clients read: the stored JSON with `metadata.resourceVersion` put in. Made once and
    /// shared by all clones.
    pub fn json(&self) -> Bytes {
        let served =
            || text::with_revision(self.resource, &self.text.stored, self.meta.resource_version);
        self.text.served.get_or_init(served).clone()
    }

    /// The object as its Rust type, with its resourceVersion.
    pub fn typed<K: Typed>(&self) -> Result<K, BadObject> {
        let mut typed: K = serde_json::from_slice(&self.text.stored).map_err(|e| self.bad(&e))?;
        let version = self.meta.resource_version;
        typed.metadata_mut().resource_version = (version != 0).then(|| version.to_string());
        Ok(typed)
    }

    /// The object as JSON, with its resourceVersion.
    pub fn value(&self) -> Result<Value, BadObject> {
        let mut value: Value =
            serde_json::from_slice(&self.text.stored).map_err(|e| self.bad(&e))?;
        let version = self.meta.resource_version;
        if version != 0
            && let Some(meta) = value.get_mut("metadata")
        {
            meta["resourceVersion"] = Value::String(version.to_string());
        }
        Ok(value)
    }

    /// A field that objects can be selected by, empty if it is not set. The JSON is read once.
    pub fn field(&self, path: &str) -> Cow<'_, str> {
        match path {
            "metadata.name" => Cow::Borrowed(&self.meta.name),
            "metadata.namespace" => {
                Cow::Borrowed(self.meta.namespace.as_deref().unwrap_or_default())
            }
            _ => {
                let read = || Box::new(fields::Fields::read(&self.text.stored));
                self.text.fields.get_or_init(read).get(path)
            }
        }
    }

    /// Where the object is stored.
    pub fn key(&self) -> String {
        self.resource.key(self.meta.namespace.as_deref(), &self.meta.name)
    }

    fn bad(&self, error: &serde_json::Error) -> BadObject {
        BadObject {
            kind: self.resource.kind,
            bytes: self.text.stored.len(),
            reason: error.to_string(),
        }
    }
}

/// Two objects are equal when they are the same text at the same revision.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.resource == other.resource
            && self.meta.resource_version == other.meta.resource_version
            && self.text.stored == other.text.stored
    }
}

impl Eq for Object {}

/// The object of a typed value, to be created or written.
pub fn value_of<K: Typed>(typed: &K) -> Result<Value, BadObject> {
    serde_json::to_value(typed).map_err(|e| BadObject {
        kind: K::RESOURCE.kind,
        bytes: 0,
        reason: e.to_string(),
    })
}

/// The text of a typed time, in seconds, as metadata has it.
pub fn time(at: jiff::Timestamp) -> Time {
    Time(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::PODS;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "status": {"phase": "Pending"},
            "metadata": {
                "uid": "u", "name": "a", "namespace": "n", "resourceVersion": "7",
                "creationTimestamp": "2026-11-23T10:00:00Z", "labels": {"a": "b"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "o", "controller": true}],
                "futureField": {"kept": true},
            },
            "kind": "Pod",
            "apiVersion": "v1",
            "spec": {"containers": [{"name": "c"}], "unknown": [1, 2]},
        })
    }

    #[test]
    fn stored_text_begins_with_the_head_and_has_no_revision() {
        let object = Object::from_value(PODS, pod(), 9).unwrap();
        let stored = object.stored();
        assert!(stored.starts_with(br#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTi"#));
        assert!(!String::from_utf8_lossy(&stored).contains("resourceVersion"));
        let again = Object::from_stored(PODS, stored, 9).unwrap();
        assert_eq!(again, object);
        assert_eq!(again.meta.labels["a"], "b");
        assert_eq!(again.meta.owner_references[0].uid, "o");
        assert_eq!(again.meta.creation_timestamp.unwrap().to_string(), "2026-11-23T10:00:00Z");
    }

    #[test]
    fn clients_see_the_revision_and_every_unknown_field() {
        let object = Object::from_value(PODS, pod(), 12).unwrap();
        let mut wanted = pod();
        wanted["metadata"]["resourceVersion"] = json!("12");
        let served: Value = serde_json::from_slice(&object.json()).unwrap();
        assert_eq!(served, wanted);
        assert_eq!(object.value().unwrap(), wanted);
        let typed: Pod = object.typed().unwrap();
        assert_eq!(typed.metadata.resource_version.as_deref(), Some("12"));
        let later: Value = serde_json::from_slice(&object.at(13).json()).unwrap();
        assert_eq!(later["metadata"]["resourceVersion"], "13");
    }

    #[test]
    fn foreign_text_is_brought_into_form() {
        let foreign = Bytes::from(serde_json::to_vec_pretty(&pod()).unwrap());
        let object = Object::from_stored(PODS, foreign, 3).unwrap();
        assert_eq!(object, Object::from_value(PODS, pod(), 3).unwrap());
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["", "{}x", "[1]", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":1}}"#]
        {
            assert!(Object::from_stored(PODS, Bytes::from(text), 1).is_err(), "{text}");
        }
    }

    #[test]
    fn bookmarks_carry_the_revision() {
        let mark: Value = serde_json::from_slice(&Object::bookmark(PODS, 5, true).json()).unwrap();
        assert_eq!(mark["metadata"]["resourceVersion"], "5");
        assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
}
