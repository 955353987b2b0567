//! Metadata: names, labels, annotations, owners, finalizers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

use super::faults::Faults;
use super::name;
use super::path::Path;
use crate::resource::{self, Resource};

/// All annotations of an object together, in bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const META: Path<'static> = Path::root("metadata");

type NameRule = fn(&str) -> Vec<String>;

fn name_rule(resource: &Resource) -> NameRule {
    if *resource == *resource::NAMESPACES {
        name::dns_label
    } else if *resource == *resource::SERVICES {
        name::dns_label_1035
    } else {
        name::dns_subdomain
    }
}

pub(super) fn check(resource: &Resource, meta: &ObjectMeta, faults: &mut Faults) {
    let rule = name_rule(resource);
    if let Some(prefix) = meta.generate_name.as_deref().filter(|p| !p.is_empty()) {
        // What comes after the prefix makes a trailing dash or dot right.
        let prefix_of_name = format!("{}a", prefix.get(..57).unwrap_or(prefix));
        faults.all_invalid(&META.child("generateName"), prefix, rule(&prefix_of_name));
    }
    let name = meta.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        faults.required(&META.child("name"), "name or generateName is required");
    } else {
        faults.all_invalid(&META.child("name"), name, rule(name));
    }
    check_namespace(resource, meta.namespace.as_deref().unwrap_or_default(), faults);
    if let Some(map) = &meta.labels {
        labels(&META.child("labels"), map, faults);
    }
    if let Some(map) = &meta.annotations {
        annotations(&META.child("annotations"), map, faults);
    }
    owners(meta.owner_references.as_deref().unwrap_or_default(), faults);
    for (i, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        let at = META.child("finalizers");
        faults.all_invalid(&at.index(i), finalizer, name::qualified_name(finalizer));
    }
}

fn check_namespace(resource: &Resource, namespace: &str, faults: &mut Faults) {
    let at = META.child("namespace");
    match (resource.namespaced, namespace) {
        (true, "") => faults.required(&at, ""),
        (true, namespace) => faults.all_invalid(&at, namespace, name::dns_label(namespace)),
        (false, "") => {}
        (false, _) => faults.forbidden(&at, "not allowed on this type"),
    }
}

/// Labels, wherever they are.
pub(super) fn labels(at: &Path<'_>, map: &BTreeMap<String, String>, faults: &mut Faults) {
    for (key, value) in map {
        faults.all_invalid(at, key, name::qualified_name(key));
        faults.all_invalid(at, value, name::label_value(value));
    }
}

pub(super) fn annotations(at: &Path<'_>, map: &BTreeMap<String, String>, faults: &mut Faults) {
    for key in map.keys() {
        faults.all_invalid(at, key, name::qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = map.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > ANNOTATIONS_MAX {
        faults.too_long(at, ANNOTATIONS_MAX);
    }
}

fn owners(owners: &[OwnerReference], faults: &mut Faults) {
    let at = META.child("ownerReferences");
    for (i, owner) in owners.iter().enumerate() {
        let at = at.index(i);
        let fields = [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ];
        for (field, _) in fields.iter().filter(|(_, value)| value.is_empty()) {
            faults.required(&at.child(field), "must not be empty");
        }
    }
    let controllers: Vec<_> = owners.iter().filter(|o| o.controller == Some(true)).collect();
    if let [first, second, ..] = controllers[..] {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            first.name, second.name
        );
        faults.invalid(&at, owners.len(), &why);
    }
}

/// What an update of metadata must leave alone, beyond what is put back without a word.
pub(super) fn check_update(new: &ObjectMeta, old: &ObjectMeta, faults: &mut Faults) {
    if old.deletion_timestamp.is_none() {
        return;
    }
    let known = |f: &&String| old.finalizers.iter().flatten().any(|o| o == *f);
    let added: Vec<&String> = new.finalizers.iter().flatten().filter(|f| !known(f)).collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        );
        faults.forbidden(&META.child("finalizers"), &why);
    }
}
