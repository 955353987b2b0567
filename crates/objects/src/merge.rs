//! What of a new version counts, and what of the old one stays: per subresource.

use pontoon_model::object::Object;
use pontoon_model::resource::{NAMESPACES, Resource};
use pontoon_model::status::Status;
use serde_json::{Map, Value, json};

use crate::create::{counts, members, text};
use crate::options::Sub;

/// What the system says of an object; clients cannot change it.
const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
];

/// The version to be written: the part of `new` that the subresource is about, over `old`.
pub(crate) fn merge(resource: &Resource, sub: Sub, mut new: Value, old: &Value) -> Value {
    match sub {
        Sub::None => {
            let before = old["metadata"].as_object();
            let meta = members(&mut new);
            meta.remove("managedFields");
            for field in SYSTEM {
                copy(meta, before, field);
            }
            if resource.has_status() {
                copy(object(&mut new), old.as_object(), "status");
            }
            if *resource == *NAMESPACES {
                copy(object(&mut new), old.as_object(), "spec");
            }
            new
        }
        Sub::Status => {
            let mut merged = old.clone();
            copy(object(&mut merged), new.as_object(), "status");
            merged
        }
        Sub::Finalize => {
            let mut merged = old.clone();
            copy(object(&mut merged), new.as_object(), "spec");
            merged
        }
        Sub::Scale => {
            let mut merged = old.clone();
            merged["spec"]["replicas"] = new["spec"]["replicas"].clone();
            if merged["spec"]["replicas"].is_null() {
                merged["spec"]["replicas"] = json!(0);
            }
            merged
        }
    }
}

/// Counts a change of the specification.
pub(crate) fn count(resource: &Resource, new: &mut Value, old: &Value) {
    let spec = |v: &Value| v.get("spec").cloned().unwrap_or_default();
    if counts(resource) && spec(new) != spec(old) {
        bump(new);
    }
}

/// One generation more.
pub(crate) fn bump(value: &mut Value) {
    let generation = value["metadata"]["generation"].as_i64().unwrap_or(0);
    value["metadata"]["generation"] = json!(generation.saturating_add(1));
}

/// Makes a member what it is elsewhere: gone, if it is not there.
fn copy(to: &mut Map<String, Value>, from: Option<&Map<String, Value>>, field: &str) {
    match from.and_then(|f| f.get(field)) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object just now")
}

/// Refuses a new version that is not of this object, or of another version of it.
pub(crate) fn same_object(new: &mut Value, current: &Object) -> Result<(), Status> {
    let (resource, name) = (current.resource, current.meta.name.as_str());
    let meta = members(new);
    let given = text(meta, "name");
    if !given.is_empty() && given != name {
        let message =
            format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(message));
    }
    let given = text(meta, "namespace");
    if !given.is_empty() && Some(given) != current.meta.namespace.as_deref() {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    let given = text(meta, "uid");
    if !given.is_empty() && given != current.meta.uid {
        let why = format!(
            "Precondition failed: UID in precondition: {given}, UID in object meta: {}",
            current.meta.uid
        );
        return Err(Status::conflict(resource, name, &why));
    }
    match text(meta, "resourceVersion") {
        "" | "0" => Ok(()),
        version => match version.parse::<u64>() {
            Ok(version) if version == current.meta.resource_version => Ok(()),
            Ok(_) => Err(Status::stale(resource, name)),
            Err(_) => {
                let message = format!("metadata.resourceVersion: Invalid value: {version:?}");
                Err(Status::bad_request(message))
            }
        },
    }
}
