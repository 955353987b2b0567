//! Builds patches: only what differs, guarded by the resourceVersion that was read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cache::Cache;
use crate::entry::Entry;
use crate::key::Key;
use crate::plan::{Action, Sub};

/// The merge patch that makes `old` into `new`; `None` if they are the same.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (field, value) in after {
        let former = before.get(field).unwrap_or(&Value::Null);
        if let Some(change) = difference(former, value) {
            patch.insert(field.clone(), change);
        }
    }
    for field in before.keys().filter(|f| !after.contains_key(*f)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// A patch of the object as it was read.
pub(crate) fn patch(key: &Key, meta: &ObjectMeta, sub: Sub, mut patch: Value) -> Action {
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    Action::Patch { key: key.clone(), sub, patch }
}

/// A patch of the status, if it is to change.
pub(crate) fn status<T: Serialize>(
    key: &Key,
    meta: &ObjectMeta,
    old: Option<&T>,
    new: &T,
) -> Option<Action> {
    let old = old.map_or(Value::Null, to_json);
    let change = difference(&old, &to_json(new))?;
    Some(patch(key, meta, Sub::Status, json!({ "status": change })))
}

/// A patch of annotations and labels, if they are to change; `None` takes one away.
pub(crate) fn annotations(
    key: &Key,
    meta: &ObjectMeta,
    wanted: &BTreeMap<String, Option<String>>,
) -> Option<Action> {
    let has = |name: &str| meta.annotations.as_ref().and_then(|a| a.get(name));
    let differ: BTreeMap<_, _> =
        wanted.iter().filter(|(name, value)| has(name) != value.as_ref()).collect();
    if differ.is_empty() {
        return None;
    }
    Some(patch(key, meta, Sub::Whole, json!({ "metadata": { "annotations": differ } })))
}

/// A patch that gives an object these owners and no others.
pub(crate) fn owners(entry: &Entry, key: &Key, owners: &[OwnerReference]) -> Action {
    let revision = entry.meta().resource_version.to_string();
    let owners = to_json(&owners);
    let patch = json!({"metadata": {"resourceVersion": revision, "ownerReferences": owners}});
    Action::Patch { key: key.clone(), sub: Sub::Whole, patch }
}

/// A patch that takes a finalizer from an object.
pub(crate) fn without_finalizer(entry: &Entry, key: &Key, finalizer: &str) -> Action {
    let meta = entry.meta();
    let rest: Vec<_> = meta.finalizers.iter().filter(|f| *f != finalizer).collect();
    let revision = meta.resource_version.to_string();
    let patch = json!({"metadata": {"resourceVersion": revision, "finalizers": rest}});
    Action::Patch { key: key.clone(), sub: Sub::Whole, patch }
}

/// The reference that makes an object the controller of what it creates.
pub(crate) fn controller_reference(key: &Key, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: key.resource.api_version().to_string(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: key.resource.kind.to_owned(),
        name: key.name.clone(),
        uid: uid.to_owned(),
    }
}

/// The reference by which events speak of an object.
pub(crate) fn reference(cache: &Cache, key: &Key) -> ObjectReference {
    let entry = cache.entry(key);
    ObjectReference {
        api_version: Some(key.resource.api_version().to_string()),
        kind: Some(key.resource.kind.to_owned()),
        name: Some(key.name.clone()),
        namespace: key.namespace.clone(),
        uid: entry.map(|e| e.meta().uid.clone()),
        resource_version: entry.map(|e| e.meta().resource_version.to_string()),
        field_path: None,
    }
}

/// A value as JSON. What reconcilers write are trees of strings and numbers, which always are.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("API types have string keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: Value, new: Value, expected: Option<Value>) {
        assert_eq!(difference(&old, &new), expected, "{old} -> {new}");
    }

    #[test]
    fn differences_are_minimal() {
        check(json!({"a": 1}), json!({"a": 1}), None);
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null})));
        check(
            json!({"a": {"x": 1, "y": 2}}),
            json!({"a": {"x": 1, "y": 3}}),
            Some(json!({"a": {"y": 3}})),
        );
        check(json!({"l": [1]}), json!({"l": [1, 2]}), Some(json!({"l": [1, 2]})));
        check(json!(null), json!({"a": 1}), Some(json!({"a": 1})));
    }
}
