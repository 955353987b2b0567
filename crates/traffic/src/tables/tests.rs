//! Cases for the service table: readiness, policies, headless Services, several ports.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let body = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    serde_json::from_value(body).unwrap()
}

fn slice(endpoints: Value) -> EndpointSlice {
    let body = json!({
        "metadata": {"name": "web-1", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"},
                  {"name": "dns", "port": 5353, "protocol": "UDP"}],
        "endpoints": endpoints,
    });
    serde_json::from_value(body).unwrap()
}

fn http_spec() -> Value {
    json!({"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]})
}

fn backends(table: &ServiceTable) -> Vec<String> {
    table.services.values().flat_map(|s| &s.backends).map(ToString::to_string).collect()
}

#[test]
fn only_ready_and_staying_endpoints_are_backends() {
    let slice = slice(json!([
        {"addresses": ["10.244.1.2"], "conditions": {"ready": true}},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": false}},
        {"addresses": ["10.244.1.4"], "conditions": {"ready": true, "terminating": true}},
        {"addresses": ["10.244.0.5"]},
    ]));
    let table = compute([&service(http_spec())], [&slice], "n1");
    assert_eq!(backends(&table), ["10.244.0.5:8080", "10.244.1.2:8080"]);
}

#[test]
fn an_address_listed_twice_is_one_backend() {
    let both = slice(json!([{"addresses": ["10.244.1.2"]}]));
    let table = compute([&service(http_spec())], [&both, &both], "n1");
    assert_eq!(backends(&table), ["10.244.1.2:8080"]);
}

#[test]
fn local_backends_are_those_of_this_node() {
    let mut spec = http_spec();
    spec["externalTrafficPolicy"] = json!("Local");
    let slice = slice(json!([
        {"addresses": ["10.244.1.2"], "nodeName": "n1"},
        {"addresses": ["10.244.2.2"], "nodeName": "n2"},
    ]));
    let table = compute([&service(spec)], [&slice], "n2");
    let found = table.services.values().next().unwrap();
    assert!(found.external_local && !found.internal_local);
    assert_eq!(found.local_backends, ["10.244.2.2:8080".parse().unwrap()]);
    assert_eq!(found.backends.len(), 2);
    assert_eq!(found.node_port, Some(30080));
}

#[test]
fn one_number_on_two_transports_is_two_services() {
    let spec = json!({"clusterIP": "10.96.0.10", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "http", "port": 53, "protocol": "TCP"}]});
    let table = compute([&service(spec)], [&slice(json!([{"addresses": ["10.244.1.2"]}]))], "n1");
    assert_eq!(backends(&table), ["10.244.1.2:5353", "10.244.1.2:8080"]);
}

#[test]
fn headless_external_and_unallocated_services_have_no_entry() {
    for spec in [
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"type": "ExternalName", "externalName": "example.org", "ports": [{"port": 80}]}),
        json!({"ports": [{"port": 80}]}),
        json!({"clusterIP": "10.96.0.10", "ports": [{"port": 70000}]}),
    ] {
        assert_eq!(compute([&service(spec)], [], "n1"), ServiceTable::default());
    }
}

#[test]
fn a_service_without_endpoints_stays_so_that_it_can_be_refused() {
    let table = compute([&service(http_spec())], [], "n1");
    assert_eq!(table.services.len(), 1);
    assert!(backends(&table).is_empty());
}

#[test]
fn affinity_has_kubernetes_default_of_three_hours() {
    let mut spec = http_spec();
    spec["sessionAffinity"] = json!("ClientIP");
    let table = compute([&service(spec.clone())], [], "n1");
    assert_eq!(table.services.values().next().unwrap().affinity_seconds, Some(10_800));
    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 5}});
    let table = compute([&service(spec)], [], "n1");
    assert_eq!(table.services.values().next().unwrap().affinity_seconds, Some(5));
}
