//! What `kubectl` reads: discovery, schemas, tables, descriptions, watches, rights, logs and exec.

use pontoon_model::resource::{NODES, PODS};
use pontoon_objects::{Sub, WriteOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::cluster::pod;
use super::kubectl::{Kubectl, rows};

const PODS_PATH: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn discovery_and_versions() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let version = kubectl.ok("version").await;
    assert!(version.contains("Server Version: v1.32.0+pontoon-0.1.0"), "{version}");
    let resources = kubectl.ok("api-resources").await;
    for wanted in ["deployments deploy apps/v1 true Deployment", "nodes no v1 false Node"] {
        let wanted: Vec<&str> = wanted.split(' ').collect();
        assert!(rows(&resources).contains(&wanted), "{resources}");
    }
    let by_verb = kubectl.ok("api-resources --verbs=list --namespaced=true -o name").await;
    assert!(by_verb.lines().any(|line| line == "endpointslices.discovery.k8s.io"), "{by_verb}");
    let versions = kubectl.ok("api-versions").await;
    assert!(versions.lines().any(|line| line == "coordination.k8s.io/v1"), "{versions}");
    assert_eq!(kubectl.ok("get --raw=/readyz").await, "ok");
    let info = kubectl.ok("cluster-info").await;
    assert!(info.contains("is running at"), "{info}");
}

#[tokio::test]
async fn explain() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let pod = kubectl.ok("explain pod.spec.containers.image").await;
    assert!(pod.contains("FIELD: image <string>"), "{pod}");
    assert!(pod.contains("Container image name."), "{pod}");
    let all = kubectl.ok("explain deployments --recursive").await;
    assert!(all.contains("progressDeadlineSeconds"), "{all}");
    let port = kubectl.ok("explain service.spec.ports.targetPort").await;
    assert!(port.contains("IntOrString"), "{port}");
    let required = kubectl.ok("explain deployment.spec").await;
    assert!(required.contains("-required-"), "{required}");
    assert!(kubectl.fails("explain pod.spec.nosuch").await.contains("does not exist"));
}

#[tokio::test]
async fn tables_of_pods() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let none = kubectl.run(&["get", "pods"], "").await;
    assert_eq!((none.ok, none.stderr.trim()), (true, "No resources found in default namespace."));
    for name in ["a", "b"] {
        kubectl.cluster.create(PODS_PATH, pod(name)).await;
    }
    let table = kubectl.ok("get pods").await;
    assert_eq!(rows(&table)[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(rows(&table)[1][..4], ["a", "0/1", "Pending", "0"]);
    let wide = kubectl.ok("get po -o wide -A").await;
    assert!(wide.starts_with("NAMESPACE"), "{wide}");
    assert!(wide.contains("NOMINATED NODE"), "{wide}");
    let labels = kubectl.ok("get pods -l app=b --show-labels --no-headers").await;
    assert!(labels.starts_with("b ") && labels.trim_end().ends_with("app=b"), "{labels}");
    let column = kubectl.ok("get pods -L app --sort-by=.metadata.name").await;
    assert!(column.contains("APP"), "{column}");
    assert_eq!(kubectl.ok("get pods --field-selector metadata.name=b -o name").await, "pod/b\n");
    assert_eq!(kubectl.ok("get pods --chunk-size=1 -o name").await, "pod/a\npod/b\n");
    let one: Value = serde_json::from_str(&kubectl.ok("get pod a -o json").await).unwrap();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("Pod"), &json!("a")));
    assert!(kubectl.ok("get pods -o yaml").await.contains("kind: List"));
    assert_eq!(
        kubectl.ok("get pods -o jsonpath={.items[*].spec.containers[0].name}").await,
        "main main"
    );
    assert_eq!(
        kubectl.fails("get pod nosuch").await,
        "Error from server (NotFound): pods \"nosuch\" not found\n"
    );
    assert!(kubectl.fails("get nosuch").await.contains("doesn't have a resource type"));
    assert!(kubectl.ok("get all").await.contains("pod/a"));
}

#[tokio::test]
async fn tables_and_descriptions_of_every_kind() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create namespace n").await;
    kubectl.ok("create configmap c --from-literal=k=v").await;
    kubectl.ok("create secret generic s --from-literal=k=v").await;
    kubectl.ok("create serviceaccount sa").await;
    kubectl.ok("create deployment d --image=pontoon.local/hello --replicas=2").await;
    kubectl.ok("create service clusterip svc --tcp=80:8080").await;
    let made = kubectl.cluster.create(PODS_PATH, pod("p")).await;
    kubectl.cluster.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    kubectl
        .cluster
        .create(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}),
        )
        .await;
    kubectl.cluster.create("/api/v1/namespaces/default/events", json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default", "uid": made["metadata"]["uid"]},
        "type": "Warning", "reason": "Failed", "message": "it failed",
        "firstTimestamp": "2026-11-23T10:00:00Z", "lastTimestamp": "2026-11-23T10:00:00Z"})).await;
    for kind in ["ns/n", "cm/c", "secret/s", "sa/sa", "deploy/d", "svc/svc", "pod/p", "node/n1"] {
        assert!(kubectl.ok(&format!("get {kind} -o wide")).await.starts_with("NAME"), "{kind}");
        let told = kubectl.ok(&format!("describe {kind}")).await;
        assert!(told.starts_with("Name:"), "{kind}: {told}");
    }
    assert!(kubectl.ok("describe pod p").await.contains("it failed"));
    assert!(kubectl.ok("get events -o wide").await.contains("it failed"));
    assert!(kubectl.ok("events").await.contains("it failed"));
    assert!(kubectl.ok("get leases").await.contains("me"));
    assert!(kubectl.ok("describe lease l").await.contains("Holder Identity"));
    for kind in ["rs", "ds", "ep", "endpointslices"] {
        assert!(kubectl.run(&["get", kind], "").await.ok, "{kind}");
    }
}

#[tokio::test]
async fn watches_are_tables_that_grow() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.cluster.create(PODS_PATH, pod("a")).await;
    let mut child = kubectl.spawn("get pods -w");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().unwrap();
    assert!(next().await.starts_with("NAME"));
    assert!(next().await.starts_with("a "));
    kubectl.cluster.create(PODS_PATH, pod("b")).await;
    assert!(next().await.starts_with("b "));
    kubectl.ok("delete pod b").await;
    assert!(next().await.starts_with("b "));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn wait_sees_conditions_and_deletions() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.cluster.create(PODS_PATH, pod("a")).await;
    let waiting = kubectl.ok("wait --for=condition=Ready pod/a --timeout=60s");
    let ready = async {
        let status = json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let (namespace, options) = (Some("default"), WriteOptions::default());
        let objects = &kubectl.cluster.objects;
        objects.update(PODS, namespace, "a", status, Sub::Status, &options).await.unwrap();
    };
    let (told, ()) = tokio::join!(waiting, ready);
    assert_eq!(told, "pod/a condition met\n");
    let waiting = kubectl.ok("wait --for=delete pod/a --timeout=60s");
    let (told, _) = tokio::join!(waiting, kubectl.ok("delete pod a"));
    assert!(told.is_empty() || told == "pod/a condition met\n", "{told}");
}

#[tokio::test]
async fn rights() {
    let Some(kubectl) = Kubectl::start().await else { return };
    assert_eq!(kubectl.ok("auth can-i create pods").await, "yes\n");
    assert_eq!(kubectl.ok("auth can-i get pods --subresource=log -n kube-system").await, "yes\n");
    let whoami = kubectl.ok("auth whoami").await;
    assert!(whoami.contains("admin") && whoami.contains("system:masters"), "{whoami}");
    let list = kubectl.ok("auth can-i --list").await;
    assert!(list.contains("*.*"), "{list}");
}

async fn run_pod_on(kubectl: &Kubectl, name: &str, node: &str, phase: &str) {
    let cluster = &kubectl.cluster;
    if cluster.objects.get(NODES, None, node).await.is_err() {
        cluster.create("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
    }
    cluster.create(PODS_PATH, pod(name)).await;
    cluster.objects.bind("default", name, None, node).await.unwrap();
    let state = if phase == "Running" {
        json!({"running": {}})
    } else {
        json!({"waiting": {"reason": "ContainerCreating"}})
    };
    let status = json!({"metadata": {"name": name}, "status": {"phase": phase,
        "containerStatuses": [{"name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state}]}});
    let options = WriteOptions::default();
    cluster
        .objects
        .update(PODS, Some("default"), name, status, Sub::Status, &options)
        .await
        .unwrap();
}

#[tokio::test]
async fn logs() {
    let Some(kubectl) = Kubectl::start().await else { return };
    run_pod_on(&kubectl, "p", "n1", "Running").await;
    assert_eq!(kubectl.ok("logs p").await, "one\ntwo\n");
    assert_eq!(
        kubectl.ok("logs -f p -c main --tail=5 --timestamps --since=10s").await,
        "one\ntwo\n"
    );
    let asked = kubectl.cluster.nodes.asked.lock().unwrap().clone();
    assert_eq!(asked[0], "/logs/default/p/main");
    assert_eq!(
        asked[1],
        "/logs/default/p/main?follow=true&timestamps=true&tailLines=5&sinceSeconds=10"
    );
    run_pod_on(&kubectl, "young", "n1", "Pending").await;
    assert_eq!(
        kubectl.fails("logs young").await,
        "Error from server (BadRequest): container \"main\" in pod \"young\" is waiting to start: ContainerCreating\n"
    );
    run_pod_on(&kubectl, "lost", "n2", "Running").await;
    assert!(kubectl.fails("logs lost").await.contains("cannot reach node n2"));
    kubectl.cluster.create(PODS_PATH, pod("unbound")).await;
    assert_eq!(kubectl.ok("logs unbound").await, "");
    let mut open = kubectl.cluster.nodes.open.subscribe();
    open.wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test]
async fn exec() {
    let Some(kubectl) = Kubectl::start().await else { return };
    run_pod_on(&kubectl, "p", "n1", "Running").await;
    assert_eq!(kubectl.ok("exec p -- hostname").await, "hello from the node\n");
    assert_eq!(kubectl.ok_with("exec -i p -- cat", "to and fro").await, "to and fro");
    let failed = kubectl.fails("exec p -- fail").await;
    assert_eq!(failed, "command terminated with exit code 7\n");
    run_pod_on(&kubectl, "refusing", "n3", "Running").await;
    let failed = kubectl.fails("exec refusing -- hostname").await;
    assert!(
        failed.contains("SPDY is not served") || failed.contains("not on this node"),
        "{failed}"
    );
    let failed = kubectl.fails("attach p").await;
    assert!(failed.contains("not"), "{failed}");
    let mut open = kubectl.cluster.nodes.open.subscribe();
    open.wait_for(|count| *count == 0).await.unwrap();
}
