//! What the API serves, told to clients: plain lists for each group version, and the aggregated form.

use pontoon_model::resource::{self, Resource};
use serde_json::{Map, Value, json};

use crate::review::{self, Review};

/// `/api`: the core group's versions.
pub(crate) fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// `/apis`: the named groups.
pub(crate) fn groups() -> Value {
    let groups: Vec<Value> =
        group_names().into_iter().filter(|name| !name.is_empty()).map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(crate) fn group_document(name: &str) -> Value {
    let mut document = group(name);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    document
}

fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions_of(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/api/v1` or `/apis/<group>/<version>`: the resources and their parts.
pub(crate) fn resources(group: &str, version: &str) -> Value {
    let of_objects = objects_in(group, version).flat_map(|resource| {
        let parts = resource.subresources.iter().map(move |part| {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, part.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": part.kind,
                "verbs": part.verbs,
            });
            if (part.group, part.version) != (resource.group, resource.version) {
                entry["group"] = part.group.into();
                entry["version"] = part.version.into();
            }
            entry
        });
        std::iter::once(plain(resource)).chain(parts)
    });
    let of_reviews = reviews_in(group, version).map(|review| {
        json!({
            "name": review.plural,
            "singularName": review.singular,
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": of_objects.chain(of_reviews).collect::<Vec<Value>>(),
    })
}

fn plain(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    add_names(&mut entry, resource);
    entry
}

fn add_names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// The aggregated form: of the core group for `/api`, of all others for `/apis`.
pub(crate) fn aggregated(core: bool, version: &str) -> Value {
    let items: Vec<Value> = group_names()
        .into_iter()
        .filter(|name| name.is_empty() == core)
        .map(aggregated_group)
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(name: &str) -> Value {
    let mut meta = Map::new();
    if !name.is_empty() {
        meta.insert("name".to_owned(), name.into());
    }
    meta.insert("creationTimestamp".to_owned(), Value::Null);
    let versions: Vec<Value> = versions_of(name)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> = objects_in(name, version)
                .map(aggregated_resource)
                .chain(reviews_in(name, version).map(aggregated_review))
                .collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": meta, "versions": versions})
}

fn aggregated_resource(resource: &'static Resource) -> Value {
    let parts: Vec<Value> = resource
        .subresources
        .iter()
        .map(|part| {
            json!({
                "subresource": part.name,
                "responseKind": kind(part.group, part.version, part.kind),
                "verbs": part.verbs,
            })
        })
        .collect();
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": scope(resource.namespaced),
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_names(&mut entry, resource);
    if !parts.is_empty() {
        entry["subresources"] = parts.into();
    }
    entry
}

fn aggregated_review(review: &'static Review) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": kind(review.group, review.version, review.kind),
        "scope": scope(review.namespaced),
        "singularResource": review.singular,
        "verbs": ["create"],
    })
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

/// Every group, each once, the core group (empty) first.
pub(crate) fn group_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = resource::ALL
        .iter()
        .map(|resource| resource.group)
        .chain(review::ALL.iter().map(|review| review.group))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The versions of a group, the preferred one first.
pub(crate) fn versions_of(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&'static str> = resource::ALL
        .iter()
        .filter(|resource| resource.group == group)
        .map(|resource| resource.version)
        .chain(review::ALL.iter().filter(|review| review.group == group).map(|r| r.version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

pub(crate) fn objects_in(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    resource::ALL.iter().copied().filter(move |r| r.group == group && r.version == version)
}

pub(crate) fn reviews_in(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    review::ALL.iter().filter(move |r| r.group == group && r.version == version)
}

/// `v1` or `apps/v1`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
