//! What nodes and strangers may do, against real objects.

use http::{Method, Request};
use serde_json::{Value, json};

use super::cluster::{Cluster, json_request, pod};
use crate::Identity;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn code(cluster: &Cluster, identity: &Identity, request: Request<String>) -> u16 {
    cluster.send_as(identity.clone(), request).await.code
}

fn get(path: &str) -> Request<String> {
    Request::get(path).body(String::new()).unwrap()
}

fn patch(path: &str, body: &Value) -> Request<String> {
    let request = Request::patch(path).header("content-type", "application/merge-patch+json");
    request.body(body.to_string()).unwrap()
}

async fn cluster_with_pods() -> Cluster {
    let cluster = Cluster::start().await;
    for node in ["n1", "n2"] {
        cluster.create("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        let name = format!("on-{node}");
        let mut body = pod(&name);
        body["spec"]["volumes"] =
            json!([{"name": "v", "secret": {"secretName": format!("of-{node}")}}]);
        cluster.create(PODS, body).await;
        cluster.objects.bind("default", &name, None, node).await.unwrap();
        let secret = json!({"metadata": {"name": format!("of-{node}")}});
        cluster.create("/api/v1/namespaces/default/secrets", secret).await;
    }
    cluster
}

#[tokio::test]
async fn a_node_reads_its_own_and_no_more() {
    let cluster = cluster_with_pods().await;
    let node = Identity::node("n1");
    for (path, wanted) in [
        ("/api/v1/namespaces/default/pods/on-n1", 200),
        ("/api/v1/namespaces/default/pods/on-n2", 403),
        ("/api/v1/namespaces/default/secrets/of-n1", 200),
        ("/api/v1/namespaces/default/secrets/of-n2", 403),
        ("/api/v1/namespaces/default/secrets", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/services", 200),
        ("/api/v1/nodes", 200),
        ("/api/v1/namespaces/default/pods/on-n1/log", 403),
        ("/apis/apps/v1/deployments", 403),
        ("/version", 200),
    ] {
        assert_eq!(code(&cluster, &node, get(path)).await, wanted, "{path}");
    }
}

#[tokio::test]
async fn a_node_writes_its_own_status_and_lease() {
    let cluster = cluster_with_pods().await;
    let node = Identity::node("n1");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let status = json!({"status": {"phase": "Running"}});
    let lease = |name: &str| json!({"metadata": {"name": name}});
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "on-n1", "namespace": "default"}});
    for (request, wanted) in [
        (patch(&format!("{PODS}/on-n1/status"), &status), 200),
        (patch(&format!("{PODS}/on-n2/status"), &status), 403),
        (patch(&format!("{PODS}/on-n1"), &status), 403),
        (patch("/api/v1/nodes/n1/status", &json!({"status": {}})), 200),
        (patch("/api/v1/nodes/n2/status", &json!({"status": {}})), 403),
        (patch("/api/v1/nodes/n1", &json!({"spec": {"unschedulable": false}})), 403),
        (json_request(Method::POST, leases, &lease("n2")), 403),
        (json_request(Method::POST, leases, &lease("n1")), 201),
        (json_request(Method::POST, "/api/v1/namespaces/default/events", &event), 403),
        (json_request(Method::POST, PODS, &pod("new")), 403),
        (Request::delete(format!("{PODS}/on-n1")).body(String::new()).unwrap(), 403),
    ] {
        let told = format!("{} {}", request.method(), request.uri());
        assert_eq!(code(&cluster, &node, request).await, wanted, "{told}");
    }
}

#[tokio::test]
async fn a_node_changes_neither_its_labels_nor_its_taints() {
    let cluster = cluster_with_pods().await;
    let node = Identity::node("n1");
    let claim = json!({
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"taints": [], "unschedulable": false, "podCIDR": "10.0.0.0/8"},
        "status": {"phase": "Running"},
    });
    let before = cluster.send(get("/api/v1/nodes/n1")).await.json();
    assert_eq!(code(&cluster, &node, patch("/api/v1/nodes/n1/status", &claim)).await, 200);
    let after = cluster.send(get("/api/v1/nodes/n1")).await.json();
    assert_eq!(after["status"]["phase"], "Running");
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    assert_eq!(after["spec"], before["spec"]);
    for path in ["/api/v1/nodes/n1", "/api/v1/nodes/n2", "/api/v1/nodes/n2/status"] {
        assert_eq!(code(&cluster, &node, patch(path, &claim)).await, 403, "{path}");
    }
}

#[tokio::test]
async fn strangers_may_only_ask_who_they_are() {
    let cluster = Cluster::start().await;
    let eve = Identity::new("eve", ["devs".to_owned()]);
    let (status, reason, message) = cluster.send_as(eve.clone(), get(PODS)).await.refusal();
    assert_eq!((status, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let ask = |path: &str, body: Value| json_request(Method::POST, path, &body);
    let whoami = ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({}));
    let told = cluster.send_as(eve.clone(), whoami).await.json();
    assert_eq!(told["status"]["userInfo"]["username"], "eve");
    let may = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let told = cluster.send_as(eve.clone(), ask(path, may.clone())).await.json();
    assert_eq!(
        (&told["kind"], &told["status"]["allowed"]),
        (&json!("SelfSubjectAccessReview"), &json!(false))
    );
    assert_eq!(cluster.send_as(eve.clone(), ask(path, json!({}))).await.code, 400);
    let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let mut about = may;
    about["spec"]["user"] = "admin".into();
    about["spec"]["groups"] = json!(["system:masters"]);
    assert_eq!(cluster.send_as(eve, ask(others, about.clone())).await.code, 403);
    assert_eq!(cluster.post(others, &about).await.json()["status"]["allowed"], true);
}
