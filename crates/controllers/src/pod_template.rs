//! Pod templates, as the JSON they were stored as: fields that no struct knows reach the pods.

use std::collections::BTreeMap;

use pontoon_model::resource;
use serde_json::{Map, Value, json};

use crate::edit;
use crate::entry::Entry;
use crate::generated_name::json_hash;
use crate::key::Key;
use crate::plan::Action;

/// The label that tells a Deployment's ReplicaSets and their pods apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// `spec.template` of a workload.
pub(crate) fn of(entry: &Entry) -> Value {
    let object = entry.object.value().ok();
    let template = object.and_then(|mut o| o.pointer_mut("/spec/template").map(Value::take));
    template.filter(Value::is_object).unwrap_or_else(|| json!({}))
}

/// The template without what makes no difference to pods: the hash label, nulls, empty maps.
pub(crate) fn bare(template: &Value) -> Value {
    let mut bare = pruned(template);
    if let Some(labels) = bare.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    pruned(&bare)
}

/// Whether two templates make the same pods.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    bare(a) == bare(b)
}

/// The hash of a template; `collisions` gives another one when the name is taken.
pub(crate) fn hash(template: &Value, collisions: i32) -> u64 {
    let mut bare = bare(template);
    if collisions > 0 {
        bare["collisions"] = json!(collisions);
    }
    json_hash(&bare)
}

/// Creates a pod from a template, controlled by `owner`.
pub(crate) fn create_pod(template: &Value, name: &str, owner: &Key, uid: &str) -> Action {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(owner.namespace));
    let owners = [edit::controller_reference(owner, uid)];
    metadata.insert("ownerReferences".to_owned(), edit::to_json(&owners));
    let body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
    });
    Action::Create { resource: resource::PODS, namespace: owner.namespace.clone(), body }
}

/// Sets labels of the template.
pub(crate) fn label(template: &mut Value, labels: &BTreeMap<&str, &str>) {
    for (key, value) in labels {
        if !template["metadata"]["labels"].is_object() {
            template["metadata"]["labels"] = json!({});
        }
        template["metadata"]["labels"][*key] = json!(value);
    }
}

fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(k, v)| (k.clone(), pruned(v)));
            // `creationTimestamp: null` and `annotations: {}` come and go with clients. An empty
            // map one level down means something: `emptyDir: {}`.
            let idle = |k: &str, v: &Value| {
                v.is_null() || (matches!(k, "annotations" | "labels") && *v == json!({}))
            };
            Value::Object(kept.filter(|(k, v)| !idle(k, v)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: Value, b: Value, equal: bool) {
        assert_eq!(same(&a, &b), equal, "{a} and {b}");
        assert_eq!(hash(&a, 0) == hash(&b, 0), equal, "{a} and {b}");
    }

    #[test]
    fn templates_are_compared_by_what_pods_get() {
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
        let plain = json!({"metadata": {"labels": {"app": "a"}}, "spec": spec});
        let hashed = json!({
            "metadata": {"labels": {"app": "a", HASH_LABEL: "x"}, "creationTimestamp": null,
                         "annotations": {}},
            "spec": spec,
        });
        check(plain.clone(), hashed, true);
        let other = json!({"metadata": {"labels": {"app": "b"}}, "spec": spec});
        check(plain.clone(), other, false);
        let unknown = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
            "containers": [{"name": "c", "image": "i"}], "newField": 1}});
        check(plain, unknown, false);
    }

    #[test]
    fn a_collision_changes_the_hash() {
        let template = json!({"spec": {"containers": []}});
        assert_ne!(hash(&template, 0), hash(&template, 1));
    }
}
