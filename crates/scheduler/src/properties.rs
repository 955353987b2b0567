//! What holds for every snapshot: nothing is overcommitted, counts add up, equal input gives
//! equal output, and equal nodes get equal numbers of pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::json;

use crate::{Outcome, Snapshot, schedule};

fn node(name: usize, cpu: i64) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": format!("n{name}"), "labels": {"host": format!("n{name}")}},
        "status": {
            "allocatable": {"cpu": format!("{cpu}m"), "memory": "64Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap()
}

fn pod(name: usize, owner: usize, cpu: i64) -> Arc<Pod> {
    let pod = json!({
        "metadata": {
            "name": format!("p{name}"), "namespace": "default", "uid": format!("u{name}"),
            "labels": {"app": format!("a{owner}")},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                                 "uid": format!("o{owner}"), "controller": true}],
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{cpu}m")}}}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_overcommitted(
        nodes in prop::collection::vec(100i64..4_000, 1..12),
        pods in prop::collection::vec((0usize..4, 50i64..900), 0..60),
        seed in any::<u64>(),
    ) {
        let mut snapshot = Snapshot::new();
        for (i, cpu) in nodes.iter().enumerate() {
            snapshot.upsert_node(&node(i, *cpu));
        }
        let mut twin = snapshot.clone();
        let pods: Vec<_> =
            pods.iter().enumerate().map(|(i, (owner, cpu))| pod(i, *owner, *cpu)).collect();
        let placements = schedule(&mut snapshot, &pods, seed);
        prop_assert_eq!(&placements, &schedule(&mut twin, &pods, seed));
        prop_assert_eq!(&placements, &schedule(&mut snapshot, &pods, seed + 1), "decided is decided");
        for (i, cpu) in nodes.iter().enumerate() {
            let name = format!("n{i}");
            prop_assert!(snapshot.node(&name).unwrap().requested.cpu_millis <= *cpu);
        }
        for pod in &pods {
            snapshot.remove_pod("default", pod.metadata.name.as_deref().unwrap());
        }
        for i in 0..nodes.len() {
            let node = snapshot.node(&format!("n{i}")).unwrap();
            prop_assert_eq!(&node.requested, &crate::Resources::default());
        }
        prop_assert!(snapshot.groups.is_empty() && snapshot.looks.is_empty());
        prop_assert_eq!(snapshot.pod_count(), 0);
    }

    #[test]
    fn equal_nodes_are_filled_evenly(
        nodes in 1usize..150, replicas in 1usize..200, batch in 1usize..50, seed in any::<u64>(),
    ) {
        let mut snapshot = Snapshot::new();
        for i in 0..nodes {
            snapshot.upsert_node(&node(i, 64_000));
        }
        // A node holds 110 pods.
        let replicas = replicas.min(nodes * 110);
        let pods: Vec<_> = (0..replicas).map(|i| pod(i, 0, 100)).collect();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for some in pods.chunks(batch) {
            for placement in schedule(&mut snapshot, some, seed) {
                let Outcome::Node(name) = placement.outcome else { panic!("there is room") };
                *counts.entry(name).or_default() += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or(0);
        prop_assert_eq!(most, replicas.div_ceil(nodes));
    }
}
