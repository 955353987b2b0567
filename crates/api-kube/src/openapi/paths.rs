//! The paths of an OpenAPI document: which operations there are on which kind.

use pontoon_model::resource::Resource;
use serde_json::{Map, Value, json};

use super::definitions::{meta, schema_name};
use crate::discovery;
use crate::review::Review;

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The paths of one group version.
pub(super) fn v3(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    for resource in discovery::objects_in(group, version) {
        add_resource(&mut paths, resource);
    }
    for review in discovery::reviews_in(group, version) {
        let namespaced = if review.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{}{namespaced}/{}", root(group, version), review.plural);
        paths.insert(path, json!({"post": review_operation(review)}));
    }
    Value::Object(paths)
}

/// All paths, without their bodies: what clients of version 2 look up there is which kind is where.
pub(super) fn v2() -> Value {
    let mut paths = Map::new();
    for group in discovery::group_names() {
        for version in discovery::versions_of(group) {
            let Value::Object(of_version) = v3(group, version) else { continue };
            paths.extend(of_version.into_iter().map(|(path, item)| (path, bare(item))));
        }
    }
    Value::Object(paths)
}

/// An item in the form of version 2: no request bodies, and types in the parameters.
fn bare(mut item: Value) -> Value {
    for operation in item.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        let Some(operation) = operation.as_object_mut() else { continue };
        operation.remove("requestBody");
        operation.insert("responses".to_owned(), json!({"200": {"description": "OK"}}));
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let schema = parameter.get_mut("schema").map(Value::take).unwrap_or_default();
            parameter["type"] = schema["type"].clone();
            parameter["uniqueItems"] = true.into();
            if let Some(map) = parameter.as_object_mut() {
                map.remove("schema");
            }
        }
    }
    item
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn add_resource(paths: &mut Map<String, Value>, resource: &Resource) {
    let root = root(resource.group, resource.version);
    let namespaced = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{namespaced}/{}", resource.plural);
    let verbs = |verb: &str| resource.verbs.contains(&verb);
    let mut operations = Map::new();
    for (method, verb) in [("get", "list"), ("post", "create"), ("delete", "deletecollection")] {
        if verbs(verb) {
            operations.insert(method.to_owned(), operation(resource, verb, ""));
        }
    }
    paths.insert(collection.clone(), Value::Object(operations));
    let mut operations = Map::new();
    for (method, verb) in
        [("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete")]
    {
        if verbs(verb) {
            operations.insert(method.to_owned(), operation(resource, verb, ""));
        }
    }
    paths.insert(format!("{collection}/{{name}}"), Value::Object(operations));
    if resource.has_status() {
        let item = json!({
            "get": operation(resource, "get", "Status"),
            "put": operation(resource, "update", "Status"),
            "patch": operation(resource, "patch", "Status"),
        });
        paths.insert(format!("{collection}/{{name}}/status"), item);
    }
    if resource.namespaced && verbs("list") {
        let item = json!({"get": operation(resource, "list", "AllNamespaces")});
        paths.insert(format!("{root}/{}", resource.plural), item);
    }
}

fn operation(resource: &Resource, verb: &str, of: &str) -> Value {
    let Resource { group, version, kind, .. } = *resource;
    let object = schema_name(group, version, kind);
    let answer = match verb {
        "list" => schema_name(group, version, &resource.list_kind()),
        "delete" | "deletecollection" => meta("Status"),
        _ => object.clone(),
    };
    let action = match verb {
        "create" => "post",
        "update" => "put",
        verb => verb,
    };
    let mut operation = json!({
        "operationId": format!("{verb}{}{kind}{of}", group_word(resource)),
        "parameters": parameters(resource, verb, of),
        "responses": {"200": {"description": "OK", "content": content(&["application/json"], &answer)}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let body = match verb {
        "create" | "update" => Some(content(&["application/json", "application/yaml"], &object)),
        "patch" => Some(content(PATCHES, &object)),
        "delete" | "deletecollection" => {
            Some(content(&["application/json"], &meta("DeleteOptions")))
        }
        _ => None,
    };
    if let Some(content) = body {
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

fn review_operation(review: &Review) -> Value {
    let kind = schema_name(review.group, review.version, review.kind);
    json!({
        "operationId": format!("create{}", review.kind),
        "parameters": [],
        "requestBody": {"content": content(&["application/json"], &kind)},
        "responses": {"201": {"description": "Created", "content": content(&["application/json"], &kind)}},
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind":
            {"group": review.group, "version": review.version, "kind": review.kind},
    })
}

/// `AppsV1`, `CoreV1`.
fn group_word(resource: &Resource) -> String {
    let group = match resource.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    let mut word = String::new();
    for part in [group, resource.version] {
        let mut letters = part.chars();
        word.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        word.push_str(letters.as_str());
    }
    word
}

fn content(types: &[&str], schema: &str) -> Value {
    let reference = json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}});
    Value::Object(types.iter().map(|of| ((*of).to_owned(), reference.clone())).collect())
}

fn parameters(resource: &Resource, verb: &str, of: &str) -> Value {
    let in_path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let in_query = |(name, kind): &(&str, &str)| json!({"name": name, "in": "query", "schema": {"type": kind}});
    let mut all = Vec::new();
    if resource.namespaced && of != "AllNamespaces" {
        all.push(in_path("namespace"));
    }
    if !matches!(verb, "list" | "create" | "deletecollection") {
        all.push(in_path("name"));
    }
    let of_verb: &[(&str, &str)] = match verb {
        "create" | "update" | "patch" => {
            &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
        }
        "delete" => &[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
        ],
        "list" | "deletecollection" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        _ => &[],
    };
    all.extend(of_verb.iter().map(in_query));
    Value::Array(all)
}
