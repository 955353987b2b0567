//! Prints how many pods a second are placed: `throughput [nodes] [pods] [batch]`.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use pontoon_scheduler::{Outcome, Snapshot, schedule};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let nodes = numbers.next().transpose()?.unwrap_or(5_000);
    let pods = numbers.next().transpose()?.unwrap_or(50_000);
    let batch = numbers.next().transpose()?.unwrap_or(500).max(1);
    for (what, spec) in [
        ("plain", json!({})),
        ("required anti-affinity by host, 100 to a group", anti_affinity()),
        ("spread over zones", zones()),
    ] {
        let mut snapshot = Snapshot::new();
        for n in 0..nodes {
            snapshot.upsert_node(&node(n)?);
        }
        let waiting = (0..pods).map(|n| pod(n, &spec)).collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        let mut placed = 0;
        for (seed, some) in waiting.chunks(batch).enumerate() {
            let placements = schedule(&mut snapshot, some, seed as u64);
            placed += placements.iter().filter(|p| matches!(p.outcome, Outcome::Node(_))).count();
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{what}: {placed} of {pods} pods on {nodes} nodes in {seconds:.3} s, {:.0}/s",
            pods as f64 / seconds
        );
    }
    Ok(())
}

fn node(n: usize) -> Result<Node, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": format!("n{n}"), "labels": {"host": format!("n{n}"), "zone": format!("z{}", n % 3)}},
        "status": {
            "allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
}

fn pod(n: usize, spec: &serde_json::Value) -> Result<Arc<Pod>, serde_json::Error> {
    let group = n / 100;
    let mut pod = json!({
        "metadata": {
            "name": format!("p{n}"), "namespace": "default", "uid": format!("u{n}"),
            "labels": {"app": format!("a{group}"), "kind": "load"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                                 "uid": format!("o{group}"), "controller": true}],
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    let mut typed: Pod = serde_json::from_value(pod)?;
    // Each group rejects, or is even with, its own pods only.
    let app = format!("a{group}");
    if let Some(spec) = &mut typed.spec {
        let far = spec.affinity.as_mut().and_then(|a| a.pod_anti_affinity.as_mut());
        let terms =
            far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_mut());
        for term in terms.into_iter().flatten() {
            let selector = term.label_selector.get_or_insert_default();
            selector.match_labels.get_or_insert_default().insert("app".to_owned(), app.clone());
        }
        for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
            let selector = constraint.label_selector.get_or_insert_default();
            selector.match_labels.get_or_insert_default().insert("app".to_owned(), app.clone());
        }
    }
    Ok(Arc::new(typed))
}

fn anti_affinity() -> serde_json::Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {}}, "topologyKey": "host"}]}}})
}

fn zones() -> serde_json::Value {
    json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {}}}]})
}
