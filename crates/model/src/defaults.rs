//! What Kubernetes fills in where an object says nothing.

mod pod;
mod service;
mod workload;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::names;
use crate::resource::{self, Resource};

pub use pod::qos_class;

type Object = Map<String, Value>;

/// Fills in the defaults of an object. What is of a wrong type is left for validation to refuse.
pub fn apply(resource: &Resource, object: &mut Value) {
    if *resource == *resource::PODS {
        with(object.get_mut("spec"), |spec| {
            pod::spec(spec);
            pod::admitted(spec);
        });
    } else if *resource == *resource::DEPLOYMENTS {
        with(object.get_mut("spec"), workload::deployment);
    } else if *resource == *resource::REPLICA_SETS {
        with(object.get_mut("spec"), workload::replica_set);
    } else if *resource == *resource::DAEMON_SETS {
        with(object.get_mut("spec"), workload::daemon_set);
    } else if *resource == *resource::SERVICES {
        with(object.get_mut("spec"), service::spec);
    } else if *resource == *resource::SECRETS {
        with(Some(object), secret);
    } else if *resource == *resource::NAMESPACES {
        with(Some(object), namespace);
    } else if *resource == *resource::ENDPOINTS {
        each(object, "subsets", |subset| {
            each_of(subset, "ports", |port| absent(port, "protocol", json!("TCP")));
        });
    } else if *resource == *resource::ENDPOINT_SLICES {
        each(object, "ports", |port| {
            absent(port, "protocol", json!("TCP"));
            absent(port, "name", json!(""));
        });
    }
}

/// The status with which an object begins, whatever the client sent. Nodes bring their own.
pub fn initial_status(resource: &Resource, object: &mut Value) {
    let status = if *resource == *resource::PODS {
        let qos = object.get("spec").map_or("BestEffort", qos_class);
        json!({"phase": "Pending", "qosClass": qos})
    } else if *resource == *resource::NAMESPACES {
        json!({"phase": "Active"})
    } else if *resource == *resource::SERVICES {
        json!({"loadBalancer": {}})
    } else if *resource == *resource::REPLICA_SETS {
        json!({"replicas": 0})
    } else if *resource == *resource::DAEMON_SETS {
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
    } else if *resource == *resource::DEPLOYMENTS {
        json!({})
    } else {
        return;
    };
    with(Some(object), |object| {
        object.insert("status".to_owned(), status);
    });
}

fn secret(object: &mut Object) {
    absent(object, "type", json!("Opaque"));
    let Some(Value::Object(plain)) = object.get("stringData").cloned() else {
        if object.get("stringData").is_some_and(Value::is_null) {
            object.remove("stringData");
        }
        return;
    };
    if plain.values().any(|v| !v.is_string()) {
        return;
    }
    absent(object, "data", json!({}));
    if let Some(Value::Object(data)) = object.get_mut("data") {
        let encoded = plain.into_iter().filter_map(|(key, value)| {
            Some((key, Value::String(BASE64_STANDARD.encode(value.as_str()?))))
        });
        data.extend(encoded);
        object.remove("stringData");
    }
}

fn namespace(object: &mut Object) {
    let name = object.get("metadata").and_then(|m| m.get("name")).cloned();
    let Some(Value::Object(meta)) = object.get_mut("metadata") else { return };
    absent(meta, "labels", json!({}));
    if let (Some(Value::Object(labels)), Some(name @ Value::String(_))) =
        (meta.get_mut("labels"), name)
    {
        labels.insert(names::LABEL_METADATA_NAME.to_owned(), name);
    }
}

/// Sets a member that is not there or null.
fn absent(map: &mut Object, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

fn with(value: Option<&mut Value>, change: impl FnOnce(&mut Object)) {
    if let Some(Value::Object(map)) = value {
        change(map);
    }
}

/// Every object in a list that is a member of an object.
fn each(value: &mut Value, key: &str, change: impl FnMut(&mut Object)) {
    if let Value::Object(map) = value {
        each_of(map, key, change);
    }
}

fn each_of(map: &mut Object, key: &str, mut change: impl FnMut(&mut Object)) {
    if let Some(Value::Array(items)) = map.get_mut(key) {
        for item in items {
            with(Some(item), &mut change);
        }
    }
}

fn text<'o>(map: &'o Object, key: &str) -> &'o str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
