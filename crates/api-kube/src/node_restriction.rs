//! A node may read pods that are bound to it and what they refer to, and nobody else's.

use pontoon_model::object::Object;
use pontoon_model::resource::{CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS};
use pontoon_model::selector::FieldSelector;
use pontoon_model::status::Status;
use pontoon_objects::ListOptions;
use serde_json::Value;

use crate::authorize;
use crate::call::Call;

/// Checks that what the call is about is a pod of the calling node, or is used by one.
pub(crate) async fn check_own(call: &Call) -> Result<(), Status> {
    let node = call.identity.node_name().unwrap_or_default();
    let own = if call.target.resource == PODS {
        let pod = call.objects().get(PODS, call.target.namespace(), call.target.name()).await?;
        is_bound_to(&pod, node)?
    } else {
        is_used_on(call, node).await?
    };
    if own {
        return Ok(());
    }
    let reason = format!("no relationship found between node \"{node}\" and this object");
    Err(authorize::refusal(&call.identity, &call.attributes(), &reason))
}

/// Checks that the name in a body is the calling node's own, for leases that a node creates.
pub(crate) fn check_created_name(call: &Call, body: &Value) -> Result<(), Status> {
    let Some(node) = call.identity.node_name() else { return Ok(()) };
    let is_lease = call.target.resource.plural == "leases";
    let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if call.identity.is_master() || !is_lease || name == node {
        return Ok(());
    }
    let reason = format!("node \"{node}\" may only write what is its own");
    Err(authorize::refusal(&call.identity, &call.attributes(), &reason))
}

fn is_bound_to(pod: &Object, node: &str) -> Result<bool, Status> {
    let value = pod.value().map_err(|error| Status::internal(error.to_string()))?;
    Ok(value.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node))
}

async fn is_used_on(call: &Call, node: &str) -> Result<bool, Status> {
    let options = ListOptions {
        fields: Some(FieldSelector::equal("spec.nodeName", node)),
        ..ListOptions::default()
    };
    let pods = call.objects().list(PODS, call.target.namespace(), &options).await?;
    let names: &[&str] = match call.target.resource {
        resource if resource == SECRETS => {
            &["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets"]
        }
        resource if resource == CONFIG_MAPS => &["configMap", "configMapRef", "configMapKeyRef"],
        resource if resource == SERVICE_ACCOUNTS => &["serviceAccountName"],
        _ => &[],
    };
    for pod in &pods.items {
        let value = pod.value().map_err(|error| Status::internal(error.to_string()))?;
        if value.get("spec").is_some_and(|spec| refers(spec, names, call.target.name())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of the fields of these names holds the name, as text or in an object's `name`.
fn refers(value: &Value, fields: &[&str], name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            (fields.contains(&key.as_str()) && names(inner, name)) || refers(inner, fields, name)
        }),
        Value::Array(items) => items.iter().any(|inner| refers(inner, fields, name)),
        _ => false,
    }
}

fn names(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Object(map) => map.get("name").and_then(Value::as_str) == Some(name),
        Value::Array(items) => items.iter().any(|item| names(item, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_pods_have_them() {
        let spec = json!({
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"secret": {"secretName": "vol"}}, {"projected": {"sources": [{"secret": {"name": "proj"}}]}},
                {"configMap": {"name": "cm"}}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
                "envFrom": [{"secretRef": {"name": "env"}}]}],
        });
        let secret = ["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets"];
        for name in ["pull", "vol", "proj", "key", "env"] {
            assert!(refers(&spec, &secret, name), "{name}");
        }
        assert!(!refers(&spec, &secret, "cm"));
        assert!(!refers(&spec, &secret, "k"));
        assert!(refers(&spec, &["configMap"], "cm"));
        assert!(refers(&spec, &["serviceAccountName"], "sa"));
    }
}
