//! The quorum, autopilot, metrics, what belongs to the cluster, and what is left of nodes that have gone.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Bed, Two, bed, bed_of};
use crate::catalog::reaper::Gone;
use crate::cluster::Own;

#[tokio::test]
async fn how_the_quorum_is() {
    let bed = bed().await;
    let health = bed.get("/v1/operator/autopilot/health").await;
    assert_eq!(health.status, StatusCode::OK, "{}", health.text());
    let health = health.json();
    assert_eq!((&health["Healthy"], &health["FailureTolerance"]), (&json!(true), &json!(0)));
    assert_eq!(
        (&health["Servers"][0]["Name"], &health["Servers"][0]["Leader"]),
        (&json!("one"), &json!(true))
    );
    let uri = "/v1/operator/autopilot/configuration";
    let there = bed.get(uri).await;
    assert!(bed.put(uri, there.body.clone()).await, "what is so already may be said");
    let other = bed.ask("PUT", uri, r#"{"CleanupDeadServers": true}"#).await;
    assert_eq!(other.status, StatusCode::NOT_IMPLEMENTED, "{}", other.text());
    let me = bed.ask("DELETE", "/v1/operator/raft/peer?id=1", "").await;
    assert_eq!(me.status, StatusCode::NOT_IMPLEMENTED);
    assert!(me.text().contains("pontoon node rm one"), "{}", me.text());
}

#[tokio::test]
async fn metrics_are_shown_twice() {
    let bed = bed().await;
    let shown = bed.get("/v1/agent/metrics").await.json();
    let gauges = shown["Gauges"].as_array().unwrap();
    assert!(gauges.iter().any(|gauge| gauge["Name"] == "consul.raft.applied_index"));
    let text = bed.get("/v1/agent/metrics?format=prometheus").await;
    assert!(text.text().contains("\nconsul_autopilot_healthy 1\n"), "{}", text.text());
}

#[tokio::test]
async fn what_is_the_clusters_own_is_not_for_clients() {
    let bed = bed_of(Two::alone(8300), None).await;
    for (uri, body) in [
        ("agent/service/register", r#"{"Name": "other", "ID": "consul"}"#),
        ("agent/service/deregister/consul", ""),
        ("agent/check/register", r#"{"Name": "serfHealth", "TTL": "10s"}"#),
        (
            "catalog/register",
            r#"{"Node": "ONE", "Address": "1.1.1.1", "Service": {"Service": "Consul"}}"#,
        ),
        ("catalog/deregister", r#"{"Node": "one", "ServiceID": "consul"}"#),
    ] {
        let said = bed.ask("PUT", &format!("/v1/{uri}"), body).await;
        assert_eq!(said.status, StatusCode::INTERNAL_SERVER_ERROR, "{uri}");
        assert!(said.text().contains("is the cluster's own"), "{uri}: {}", said.text());
    }
    let ops = json!([{"Node": {"Verb": "delete", "Node": {"Node": "one"}}}]).to_string();
    let said = bed.ask("PUT", "/v1/txn", ops).await;
    assert_eq!(said.status, StatusCode::CONFLICT);
    assert!(said.text().contains("is the cluster's own"), "{}", said.text());
}

async fn records(bed: &Bed) -> usize {
    let all = pontoon_store::Range::prefix(crate::keyspace::CATALOG);
    bed.store.range(all, pontoon_store::Read::Local).await.unwrap().kvs.len()
}

#[tokio::test]
async fn what_was_on_a_node_that_has_gone_goes() {
    let bed = bed().await;
    for node in ["one", "two"] {
        let body = json!({"Node": node, "SkipNodeUpdate": true, "Service": {"Service": "web"}});
        assert!(bed.put("/v1/catalog/register", body.to_string()).await);
    }
    assert!(bed.put("/v1/catalog/register", r#"{"Node": "ext", "Address": "1.1.1.1"}"#).await);
    let mut gone = Gone::new();
    bed.server.forget_gone(&mut gone, Duration::ZERO).await.unwrap();
    assert_eq!((records(&bed).await, gone.len()), (3, 0));
    {
        let mut own = bed.cluster.own.lock().unwrap();
        *own = std::sync::Arc::new(Own { index: 9, nodes: own.nodes[..1].to_vec() });
    }
    bed.server.forget_gone(&mut gone, Duration::from_secs(3600)).await.unwrap();
    assert_eq!((records(&bed).await, gone.len()), (3, 1), "it may come back");
    bed.server.forget_gone(&mut gone, Duration::ZERO).await.unwrap();
    assert_eq!((records(&bed).await, gone.len()), (2, 0));
    assert_eq!(bed.get("/v1/catalog/service/web").await.json().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn events_are_for_whom_they_are() {
    let bed = bed().await;
    let web = r#"{"Name": "web", "Tags": ["v1"]}"#;
    assert_eq!(bed.ask("PUT", "/v1/agent/service/register", web).await.status, StatusCode::OK);
    for query in
        ["node=^one$", "node=^two$", "service=web&tag=1", "service=web&tag=2", "service=db"]
    {
        bed.ask("PUT", &format!("/v1/event/fire/x?{query}"), "").await;
    }
    let listed = bed.get("/v1/event/list").await.json();
    let seen: Vec<_> = listed.as_array().unwrap().iter().map(|event| &event["LTime"]).collect();
    assert_eq!(seen, [&json!(1), &json!(3)]);
}
