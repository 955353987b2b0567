//! `kubectl` on nodes: cordon, taint, drain with evictions.

use pontoon_model::resource::{NODES, PODS};
use pontoon_objects::ListOptions;
use serde_json::json;

use super::cluster::pod;
use super::kubectl::{Kubectl, rows};

#[tokio::test]
async fn cordon_taint_and_drain() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let cluster = &kubectl.cluster;
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}});
    cluster.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    kubectl
        .ok_args(
            &[
                "patch",
                "node",
                "n1",
                "--subresource=status",
                "--type=merge",
                "-p",
                &json!({"status": status}).to_string(),
            ],
            "",
        )
        .await;
    assert_eq!(kubectl.ok("cordon n1").await, "node/n1 cordoned\n");
    let nodes = kubectl.ok("get nodes").await;
    assert_eq!(rows(&nodes)[1][..3], ["n1", "Ready,SchedulingDisabled", "<none>"]);
    assert_eq!(kubectl.ok("uncordon n1").await, "node/n1 uncordoned\n");
    kubectl.ok("taint nodes n1 key=value:NoSchedule").await;
    let node = cluster.objects.get(NODES, None, "n1").await.unwrap().value().unwrap();
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": "key", "value": "value", "effect": "NoSchedule"}])
    );

    for name in ["a", "b"] {
        let mut body = pod(name);
        body["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
        cluster.create("/api/v1/namespaces/default/pods", body).await;
        cluster.objects.bind("default", name, None, "n1").await.unwrap();
    }
    cluster.end_pods().await;
    let told = kubectl.ok("drain n1 --timeout=60s").await;
    assert!(told.contains("pod/a evicted") && told.contains("pod/b evicted"), "{told}");
    assert!(told.contains("node/n1 drained"), "{told}");
    let left = cluster.objects.list(PODS, None, &ListOptions::default()).await.unwrap();
    assert_eq!(left.items.len(), 0);
}
