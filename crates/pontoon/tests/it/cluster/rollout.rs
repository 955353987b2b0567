//! A rolling update during which the leader's power fails: the next leader goes on with the same ReplicaSets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::failure::{leader, other_names};
use crate::world::{World, cluster, text, wait};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

/// A step takes two seconds: a pod counts only when it has been ready for so long.
fn front(version: &str) -> Value {
    let labels = json!({ "app": "front" });
    let container = json!({ "name": "main", "image": "pontoon.local/hello", "env": [{ "name": "V", "value": version }] });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "front" }, "spec": {
        "replicas": 6, "minReadySeconds": 2, "selector": { "matchLabels": labels },
        "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } } } })
}

fn get(world: &World, at: &str, path: &str) -> Option<Value> {
    world.ask(at, "GET", path, &Value::Null).ok().filter(|(code, _)| *code == 200).map(|(_, v)| v)
}

/// By ReplicaSet: its pods' hash, and how many pods it wants.
fn sets(world: &World, at: &str) -> Option<BTreeMap<String, (String, u64)>> {
    let list = get(world, at, SETS)?;
    let of = |set: &Value| {
        let hash = text(&set["metadata"]["labels"]["pod-template-hash"]);
        (text(&set["metadata"]["name"]), (hash, set["spec"]["replicas"].as_u64().unwrap()))
    };
    Some(list["items"].as_array()?.iter().map(of).collect())
}

/// Waits until the Deployment runs as its newest template says, on six pods.
fn done(world: &World, at: &str) -> Value {
    wait("the rollout is done", || {
        let front = get(world, at, &format!("{DEPLOYMENTS}/front"))?;
        let status = &front["status"];
        let is = |field: &str| status[field].as_u64() == Some(6);
        let observed = status["observedGeneration"] == front["metadata"]["generation"];
        (observed && is("replicas") && is("updatedReplicas") && is("availableReplicas"))
            .then_some(front)
    })
}

fn names(sets: &BTreeMap<String, (String, u64)>) -> Vec<(&String, &String)> {
    sets.iter().map(|(name, (hash, _))| (name, hash)).collect()
}

#[test]
fn a_rollout_goes_on_after_its_leaders_power_off() {
    let Some(world) = cluster(&["a", "b", "c"]) else { return };
    let (code, made) = world.ask("a", "POST", DEPLOYMENTS, &front("1")).unwrap();
    assert_eq!(code, 201, "{made}");
    done(&world, "a");
    let lost = wait("a leader", || leader(&world, "a"));
    let at = other_names(&lost)[0];
    let mut change = get(&world, at, &format!("{DEPLOYMENTS}/front")).unwrap();
    change["spec"] = front("2")["spec"].clone();
    let (code, changed) = world.ask(at, "PUT", &format!("{DEPLOYMENTS}/front"), &change).unwrap();
    assert_eq!(code, 200, "{changed}");
    let before = wait("the rollout is half done", || {
        let sets = sets(&world, at)?;
        (sets.len() == 2 && sets.values().all(|(_, replicas)| (1..6).contains(replicas)))
            .then_some(sets)
    });
    world.kill(&lost);
    let finished = done(&world, at);
    let after = sets(&world, at).unwrap();
    assert_eq!(names(&after), names(&before), "the same sets under the same names");
    let mut wanted: Vec<u64> = after.values().map(|(_, replicas)| *replicas).collect();
    wanted.sort_unstable();
    assert_eq!(wanted, [0, 6]);
    let (new, (hash, _)) = after.iter().find(|(_, (_, replicas))| *replicas == 6).unwrap();
    assert_eq!(new, &format!("front-{hash}"));
    let pods = world.wait_for_pods(at, "front", 6);
    assert!(pods.iter().all(|(pod, _)| pod.starts_with(&format!("{new}-"))), "{pods:?} of {new}");
    let revision = |object: &Value| {
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone()
    };
    assert_eq!(revision(&finished), "2");
    // The one that comes back has nothing to add.
    world.start(&lost);
    world.wait_for_nodes(at, 3);
    let done = done(&world, at);
    assert_eq!(revision(&done), "2");
    assert_eq!(names(&sets(&world, at).unwrap()), names(&before));
}
