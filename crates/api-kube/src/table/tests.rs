//! Rows as `kubectl get` shows them, against what Kubernetes prints for the same objects.

use pontoon_model::resource::{self, PODS};
use serde_json::Value;

use super::*;

const NOW: &str = "2026-11-23T10:05:00Z";

fn table(resource: &'static Resource, body: Value) -> Value {
    let mut body = body;
    body["metadata"]["name"] = "x".into();
    body["metadata"]["creationTimestamp"] = "2026-11-23T10:00:00Z".into();
    body["apiVersion"] = resource.api_version().into();
    body["kind"] = resource.kind.into();
    let object = Object::from_value(resource, body, 7).unwrap();
    let tabler = Tabler::new(resource, "v1", Include::Metadata);
    tabler.table(&[object], json!({}), NOW.parse().unwrap())
}

fn cells(resource: &'static Resource, body: Value) -> Vec<String> {
    let table = table(resource, body);
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter();
    cells.map(value::scalar).collect()
}

fn check(resource: &'static Resource, body: Value, wanted: &str) {
    assert_eq!(cells(resource, body).join(" | "), wanted);
}

#[test]
fn every_kind_has_as_many_cells_as_columns_even_when_it_is_empty() {
    for resource in resource::ALL {
        let table = table(resource, json!({}));
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns, "{resource}");
        assert_eq!(table["rows"][0]["object"]["metadata"]["resourceVersion"], "7");
    }
}

fn pod_status(status: Value) -> String {
    let spec = json!({"containers": [{"name": "c"}, {"name": "d"}], "nodeName": "n1"});
    cells(PODS, json!({"spec": spec, "status": status}))[1..5].join(" | ")
}

#[test]
fn pods() {
    let running = json!({"phase": "Running", "containerStatuses": [
        {"name": "c", "ready": true, "restartCount": 2, "state": {"running": {}},
         "lastState": {"terminated": {"finishedAt": "2026-11-23T10:03:00Z"}}},
        {"name": "d", "ready": false, "restartCount": 0, "state": {"running": {}}}]});
    assert_eq!(pod_status(running), "1/2 | Running | 2 (2m ago) | 5m");
    let waiting = json!({"phase": "Pending", "containerStatuses": [
        {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
        {"name": "d", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    assert_eq!(pod_status(waiting), "0/2 | ImagePullBackOff | 0 | 5m");
    let ended = json!({"phase": "Failed", "containerStatuses": [
        {"name": "c", "state": {"terminated": {"exitCode": 3}}},
        {"name": "d", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    assert_eq!(pod_status(ended), "0/2 | ExitCode:3 | 0 | 5m");
    assert_eq!(pod_status(json!({"phase": "Pending"})), "0/2 | Pending | 0 | 5m");
}

#[test]
fn pods_that_initialize_or_end() {
    let pod = json!({
        "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}},
            {"name": "j", "state": {"running": {}}}]}});
    assert_eq!(cells(PODS, pod)[1..3].join(" "), "0/1 Init:1/2");
    let pod = json!({"metadata": {"deletionTimestamp": NOW}, "spec": {"containers": [{}]},
        "status": {"phase": "Running"}});
    assert_eq!(cells(PODS, pod)[2], "Terminating");
    let done = table(PODS, json!({"status": {"phase": "Succeeded"}}));
    assert_eq!(done["rows"][0]["conditions"][0]["type"], "Completed");
}

#[test]
fn nodes() {
    let node = json!({
        "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/manager": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian", "kernelVersion": "6", "containerRuntimeVersion": "pontoon://0.1"}}});
    let wanted = "x | NotReady,SchedulingDisabled | manager,worker | 5m | v1 | 10.0.0.1 | <none> | Debian | 6 | pontoon://0.1";
    check(resource::NODES, node, wanted);
}

#[test]
fn services_and_endpoints() {
    let service = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}});
    check(
        resource::SERVICES,
        service,
        "x | NodePort | 10.96.0.1 | <none> | 80:30080/TCP,53/UDP | 5m | a=b",
    );
    let addresses: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    let endpoints = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    let wanted = "x | 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more... | 5m";
    check(resource::ENDPOINTS, endpoints, wanted);
    check(resource::ENDPOINTS, json!({}), "x | <none> | 5m");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    check(resource::ENDPOINT_SLICES, slice, "x | IPv4 | 80 | 10.0.0.1 | 5m");
    check(resource::ENDPOINT_SLICES, json!({}), "x |  | <unset> | <unset> | 5m");
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}});
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["1", "2"]}]});
    let deployment = json!({"spec": {"replicas": 3, "template": template, "selector": selector},
        "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}});
    let wanted = "x | 1/3 | 2 | 1 | 5m | c,d | i:1,j | a=b,k in (1,2)";
    check(resource::DEPLOYMENTS, deployment, wanted);
    check(
        resource::REPLICA_SETS,
        json!({"spec": {"replicas": 0}}),
        "x | 0 | 0 | 0 | 5m |  |  | <none>",
    );
    check(resource::DAEMON_SETS, json!({}), "x | 0 | 0 | 0 | 0 | 0 | <none> | 5m |  |  | <none>");
}

#[test]
fn events() {
    let event = json!({"involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "f"}, "type": "Warning", "reason": "Failed",
        "message": " no \n", "firstTimestamp": "2026-11-23T10:00:00Z", "lastTimestamp": "2026-11-23T10:04:00Z", "count": 4,
        "source": {"component": "agent", "host": "n1"}});
    let wanted = "60s | Warning | Failed | pod/p | f | agent, n1 | no | 5m | 4 | x";
    check(resource::EVENTS, event, wanted);
}

#[test]
fn the_rest() {
    check(
        resource::CONFIG_MAPS,
        json!({"data": {"a": "1"}, "binaryData": {"b": "Mg=="}}),
        "x | 2 | 5m",
    );
    check(
        resource::SECRETS,
        json!({"type": "Opaque", "data": {"a": "MQ=="}}),
        "x | Opaque | 1 | 5m",
    );
    check(resource::NAMESPACES, json!({"status": {"phase": "Active"}}), "x | Active | 5m");
    check(resource::LEASES, json!({"spec": {"holderIdentity": "n1"}}), "x | n1 | 5m");
    check(resource::SERVICE_ACCOUNTS, json!({}), "x | 0 | 5m");
}
