//! Runs the cases in `cases/`: one state in a few lines, and what is planned on it.

mod api_service;
mod eviction;
mod ranking;
mod rolling;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use pontoon_model::object::{Object, timestamp};
use pontoon_model::resource::Resource;
use serde_json::{Value, json};

use crate::cache::Cache;

/// The cases of a file: paragraphs without their comments.
fn read(file: &str) -> Vec<Vec<String>> {
    let path = format!("{}/cases/{file}.case", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = |case: &str| -> Vec<String> {
        case.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    };
    let cases: Vec<_> = text.split("\n\n").map(lines).filter(|c| !c.is_empty()).collect();
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

/// The time so many seconds ago, as objects have it.
fn ago(seconds: i64) -> String {
    timestamp(now() - SignedDuration::from_secs(seconds))
}

/// The `name=value` words of a line.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let words = line.split_whitespace();
    words.filter_map(|w| w.split_once('=')).find(|(n, _)| *n == name).map(|(_, value)| value)
}

fn put(cache: &mut Cache, resource: &'static Resource, body: Value, revision: u64) {
    let namespace = resource.namespaced.then_some("default");
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    let object = Object::from_value(resource, body, revision).unwrap();
    cache.apply(resource, namespace, &name, Some(object)).unwrap().unwrap();
}

/// A pod from its line: `node=`, `ready=` for so many seconds, `age=`, `restarts=`, `cost=`.
fn pod(line: &str) -> Pod {
    let name = line.split_whitespace().nth(1).unwrap();
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "annotations": {},
                     "creationTimestamp": ago(word(line, "age").unwrap_or("1000").parse().unwrap())},
        "spec": {"containers": [], "nodeName": word(line, "node")},
        "status": {"phase": if word(line, "node").is_some() { "Running" } else { "Pending" }},
    });
    if let Some(seconds) = word(line, "ready") {
        let since = ago(seconds.parse().unwrap());
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        pod["status"]["conditions"] = json!([ready]);
    }
    if let Some(restarts) = word(line, "restarts") {
        let restarts: i32 = restarts.parse().unwrap();
        pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "i", "imageID": "i",
            "ready": true, "restartCount": restarts}]);
    }
    if let Some(cost) = word(line, "cost") {
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = json!(cost);
    }
    serde_json::from_value(pod).unwrap()
}
