//! The addresses and ports that services are given.

use std::collections::BTreeSet;

use pontoon_model::resource::SERVICES;
use serde_json::{Value, json};

use super::{Bed, bed, refused, service};
use crate::options::{DeleteOptions, Patch, Sub, WriteOptions};

fn with(name: &str, spec: Value) -> Value {
    let mut body = service(name);
    json_patch::merge(&mut body, &json!({ "spec": spec }));
    body
}

async fn address(bed: &Bed, name: &str) -> String {
    bed.value(SERVICES, name).await["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned()
}

async fn merge(
    bed: &Bed,
    name: &str,
    patch: Value,
) -> Result<Value, pontoon_model::status::Status> {
    let options = WriteOptions::default();
    let patch = Patch::Merge(patch);
    let object = bed.patch(SERVICES, Some("default"), name, &patch, Sub::None, &options).await?;
    Ok(object.value().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_has_an_address_of_its_own() {
    let bed = bed().await;
    let names: Vec<String> = (0..20).map(|i| format!("s{i}")).collect();
    let made = names.iter().map(|name| bed.make(SERVICES, service(name)));
    for made in futures::future::join_all(made).await {
        made.unwrap();
    }
    let mut addresses = BTreeSet::new();
    for name in &names {
        let value = bed.value(SERVICES, name).await;
        assert_eq!(value["spec"]["clusterIPs"], json!([value["spec"]["clusterIP"]]));
        addresses.insert(value["spec"]["clusterIP"].as_str().unwrap().to_owned());
    }
    assert_eq!(addresses.len(), 20);
    assert!(addresses.iter().all(|a| a.starts_with("10.96.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_be_asked_for_and_is_given_back() {
    let bed = bed().await;
    let asked = with("a", json!({"clusterIP": "10.96.0.77"}));
    bed.make(SERVICES, asked.clone()).await.unwrap();
    let mut same = asked.clone();
    same["metadata"]["name"] = json!("b");
    refused(
        bed.make(SERVICES, same.clone()).await,
        422,
        "spec.clusterIPs: Invalid value: [\"10.96.0.77\"]: failed to allocate IP 10.96.0.77: provided IP is already allocated",
    );
    bed.remove(SERVICES, "a", &DeleteOptions::default()).await.unwrap();
    bed.make(SERVICES, same).await.unwrap();
    let outside = with("c", json!({"clusterIP": "10.97.0.1"}));
    refused(
        bed.make(SERVICES, outside).await,
        422,
        "is not in the valid range. The range of valid IPs is 10.96.0.0/16",
    );
    bed.make(SERVICES, with("h", json!({"clusterIP": "None"}))).await.unwrap();
    assert_eq!(address(&bed, "h").await, "None");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_address_is_the_api_s() {
    let bed = bed().await;
    let asked = with("a", json!({"clusterIP": "10.96.0.1"}));
    let words = "10.96.0.1: it is kept for the service kubernetes in the namespace default";
    refused(bed.make(SERVICES, asked).await, 422, words);
    let own = with("kubernetes", json!({"clusterIP": "10.96.0.1"}));
    bed.make(SERVICES, own).await.unwrap();
    merge(&bed, "kubernetes", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_keep_what_was_given() {
    let bed = bed().await;
    bed.make(SERVICES, with("a", json!({"type": "NodePort"}))).await.unwrap();
    let before = bed.value(SERVICES, "a").await["spec"].clone();
    let port = before["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    let mut body = with("a", json!({"type": "NodePort", "selector": {"x": "y"}}));
    body["spec"]["ports"] = json!([{"port": 80, "name": "p"}, {"port": 81, "name": "q"}]);
    bed.put(SERVICES, "a", body, Sub::None).await.unwrap();
    let after = bed.value(SERVICES, "a").await["spec"].clone();
    assert_eq!(after["clusterIP"], before["clusterIP"]);
    assert_eq!(after["ports"][0]["nodePort"], port);
    assert_ne!(after["ports"][1]["nodePort"], port);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_are_unique_and_come_back() {
    let bed = bed().await;
    let asked = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    bed.make(SERVICES, with("a", asked.clone())).await.unwrap();
    refused(
        bed.make(SERVICES, with("b", asked.clone())).await,
        422,
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    );
    let low = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    refused(
        bed.make(SERVICES, with("b", low)).await,
        422,
        "The range of valid ports is 30000-32767",
    );
    // Another type gives it back, and so does another number.
    let plain = merge(&bed, "a", json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    bed.make(SERVICES, with("b", asked)).await.unwrap();
    let wanted = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
    assert_eq!(merge(&bed, "a", wanted.clone()).await.unwrap_err().code, 422);
    let moved = json!({"spec": {"ports": [{"port": 80, "nodePort": 30081}]}});
    merge(&bed, "b", moved).await.unwrap();
    merge(&bed, "a", wanted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_for_the_outside_gives_its_address_back() {
    let bed = bed().await;
    bed.make(SERVICES, with("a", json!({"clusterIP": "10.96.0.5"}))).await.unwrap();
    let outside = json!({"spec": {"type": "ExternalName", "externalName": "x.example", "clusterIP": null, "clusterIPs": null}});
    let value = merge(&bed, "a", outside).await.unwrap();
    assert!(value["spec"].get("clusterIP").is_none());
    bed.make(SERVICES, with("b", json!({"clusterIP": "10.96.0.5"}))).await.unwrap();
}
