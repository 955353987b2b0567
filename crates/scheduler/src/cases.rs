//! Runs the cases in `cases/`: nodes and pods, a line each, and where the pods should go.
//!
//! A case ends with an empty line. Words of a line: `name=amount` is a resource, `key:value` a
//! label, `!key=value:effect` a taint, and a `{…}` at the end is merged into the spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::{Outcome, Placement, Snapshot, schedule};

fn check(file: &str) {
    let path = format!("{}/cases/{file}.case", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut ran = 0;
    for case in text.split("\n\n").filter(|c| !c.trim().is_empty()) {
        for seed in 0..4 {
            Case::run(case, seed);
        }
        ran += 1;
    }
    assert!(ran > 0, "{file} has no cases");
}

#[test]
fn spread() {
    check("spread");
}

#[test]
fn resources() {
    check("resources");
}

#[test]
fn nodes() {
    check("nodes");
}

#[test]
fn topology() {
    check("topology");
}

#[derive(Default)]
struct Case<'a> {
    text: &'a str,
    seed: u64,
    snapshot: Snapshot,
    waiting: Vec<Arc<Pod>>,
    decided: BTreeMap<String, Placement>,
}

impl<'a> Case<'a> {
    fn run(text: &'a str, seed: u64) {
        let mut case = Self { text, seed, ..Self::default() };
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            let (verb, rest) = line.split_once(' ').unwrap();
            case.step(verb, rest);
        }
    }

    fn step(&mut self, verb: &str, rest: &str) {
        match verb {
            "node" => self.snapshot.upsert_node(&node(rest)),
            "placed" => {
                let (name, rest) = rest.split_once(' ').unwrap();
                let (on, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let mut pod = pod(name, rest);
                pod.spec.get_or_insert_default().node_name = Some(on.to_owned());
                self.snapshot.upsert_pod(&pod);
            }
            "pod" => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                self.waiting.push(Arc::new(pod(name, rest)));
            }
            "pods" => {
                let (name, rest) = rest.split_once(' ').unwrap();
                let (count, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                for n in 0..count.parse::<usize>().unwrap() {
                    self.waiting.push(Arc::new(pod(&format!("{name}-{n}"), rest)));
                }
            }
            "on" => {
                let (name, node) = rest.split_once(' ').unwrap();
                let expected = Outcome::Node(node.to_owned());
                assert_eq!(self.outcome(name), expected, "{name} in:\n{}", self.text);
            }
            "refused" => {
                let (name, why) = rest.split_once(' ').unwrap();
                let Outcome::Unschedulable(said) = self.outcome(name) else {
                    panic!("{name} was placed in:\n{}", self.text);
                };
                assert_eq!(said.to_string(), why, "{name} in:\n{}", self.text);
            }
            "count" => self.count(rest),
            other => panic!("no such word as {other} in:\n{}", self.text),
        }
    }

    fn decide(&mut self) {
        let pods = std::mem::take(&mut self.waiting);
        for placement in schedule(&mut self.snapshot, &pods, self.seed) {
            self.decided.insert(placement.name.clone(), placement);
        }
    }

    fn outcome(&mut self, name: &str) -> Outcome {
        self.decide();
        self.decided[name].outcome.clone()
    }

    fn count(&mut self, expected: &str) {
        self.decide();
        for word in expected.split(' ') {
            let (node, count) = word.split_once('=').unwrap();
            let pods = self.snapshot.node(node).unwrap().requested.pods;
            assert_eq!(pods.to_string(), count, "pods on {node} in:\n{}", self.text);
        }
    }
}

fn words(text: &str) -> (Vec<&str>, Value) {
    let (words, json) = match text.find('{') {
        Some(at) => (&text[..at], serde_json::from_str(&text[at..]).unwrap()),
        None => (text, json!({})),
    };
    (words.split_whitespace().collect(), json)
}

fn node(text: &str) -> Node {
    let (words, _) = words(text);
    let mut node = json!({
        "metadata": {"name": words[0], "labels": {}},
        "spec": {"taints": []},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    for word in &words[1..] {
        if let Some(taint) = word.strip_prefix('!') {
            let (key, rest) = taint.split_once('=').unwrap();
            let (value, effect) = rest.split_once(':').unwrap();
            let taint = json!({"key": key, "value": value, "effect": effect});
            node["spec"]["taints"].as_array_mut().unwrap().push(taint);
        } else if let Some((name, amount)) = word.split_once('=') {
            node["status"]["allocatable"][name] = json!(amount);
        } else if let Some((key, value)) = word.split_once(':') {
            node["metadata"]["labels"][key] = json!(value);
        } else if *word == "cordoned" {
            node["spec"]["unschedulable"] = json!(true);
        } else {
            assert_eq!(*word, "unready");
            node["status"]["conditions"][0]["status"] = json!("False");
        }
    }
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, text: &str) -> Pod {
    let (words, spec) = words(text);
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]},
    });
    for word in words {
        if let Some(owner) = word.strip_prefix("owner=") {
            let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner,
                               "uid": owner, "controller": true});
            pod["metadata"]["ownerReferences"] = json!([owner]);
        } else if let Some(port) = word.strip_prefix("port=") {
            let port: i32 = port.parse().unwrap();
            let port = json!({"containerPort": port, "hostPort": port});
            pod["spec"]["containers"][0]["ports"] = json!([port]);
        } else if let Some((name, amount)) = word.split_once('=') {
            pod["spec"]["containers"][0]["resources"]["requests"][name] = json!(amount);
        } else if let Some((key, value)) = word.split_once(':') {
            pod["metadata"]["labels"][key] = json!(value);
        } else if word == "terminating" {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        } else {
            assert_eq!(word, "finished");
            pod["status"]["phase"] = json!("Succeeded");
        }
    }
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}
