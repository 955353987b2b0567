//! The next step of a Deployment.

use pontoon_model::resource;
use serde_json::{Value, json};

use super::{ago, now, put, read, word};
use crate::cache::Cache;
use crate::key::Key;
use crate::plan::Action;

fn number(line: &str, name: &str, default: i32) -> i32 {
    word(line, name).map_or(default, |n| n.parse().unwrap())
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}},
           "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(line: &str, revision: usize) -> Value {
    let (surge, unavailable) = (number(line, "surge", 0), number(line, "unavailable", 0));
    let kind = word(line, "strategy").unwrap_or("RollingUpdate");
    let mut strategy = json!({"type": kind});
    if kind == "RollingUpdate" {
        strategy["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": unavailable});
    }
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "web", "generation": 1,
                     "annotations": {"deployment.kubernetes.io/revision": revision.to_string()}},
        "spec": {
            "replicas": number(line, "replicas", 1),
            "paused": word(line, "paused") == Some("true"),
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "template": template(word(line, "image").unwrap()),
        },
    })
}

fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true}])
}

/// A ReplicaSet as the Deployment left it, with all of its ready pods.
fn set(cache: &mut Cache, line: &str, head: &str, revision: usize) {
    let name = line.split(' ').nth(1).unwrap();
    let replicas = number(head, "replicas", 1);
    let was = number(head, "was", replicas);
    let most = number(head, "most", replicas + number(head, "surge", 0));
    let body = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": ago(1_000 - i64::try_from(revision).unwrap()),
            "ownerReferences": owner("Deployment", "web"),
            "annotations": {
                "deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": was.to_string(),
                "deployment.kubernetes.io/max-replicas": most.to_string(),
            },
        },
        "spec": {"replicas": number(line, "size", 0), "selector": {"matchLabels": {"app": "web"}},
                 "template": template(word(line, "image").unwrap())},
    });
    put(cache, resource::REPLICA_SETS, body, revision as u64 * 100);
    for n in 0..number(line, "ready", 0) {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": ago(100)});
        let body = json!({
            "metadata": {"name": format!("{name}-{n}"), "namespace": "default", "uid": format!("{name}-{n}"),
                         "labels": {"app": "web"}, "ownerReferences": owner("ReplicaSet", name)},
            "spec": {"containers": [], "nodeName": "n"},
            "status": {"phase": "Running", "conditions": [ready]},
        });
        put(cache, resource::PODS, body, revision as u64 * 100 + 1);
    }
}

/// What the plan does to ReplicaSets, in words.
fn steps(actions: &[Action]) -> String {
    let mut steps = Vec::new();
    for action in actions {
        match action {
            Action::Create { body, .. } => {
                let image = body["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
                steps.push(format!("create {} {}", image.unwrap(), body["spec"]["replicas"]));
            }
            Action::Event { message, .. } if !message.contains(" from 0 to ") => {
                let words: Vec<&str> = message.split(' ').collect();
                steps.push(format!("{} {}->{}", words[4], words[6], words[8]));
            }
            _ => {}
        }
    }
    steps.sort();
    if steps.is_empty() { "nothing".to_owned() } else { steps.join(", ") }
}

#[test]
fn rolling() {
    for case in read("rolling") {
        let (head, rest) = case.split_first().unwrap();
        let (expected, sets) = rest.split_last().unwrap();
        let mut cache = Cache::default();
        put(&mut cache, resource::DEPLOYMENTS, deployment(head, sets.len()), 1);
        for (at, line) in sets.iter().enumerate() {
            set(&mut cache, line, head, at + 1);
        }
        let key = Key::new(resource::DEPLOYMENTS, Some("default"), "web");
        let plan = crate::deployment::reconcile(now(), &key, &cache);
        assert_eq!(format!("plan {}", steps(&plan.actions)), *expected, "{case:#?}");
    }
}
