//! Snapshots: what is saved comes back, all of it or nothing, and times to live begin again.

use http::StatusCode;
use serde_json::{Value, json};

use super::bed;

#[tokio::test]
async fn everything_comes_back() {
    let bed = bed().await;
    let session = bed.session(r#"{"TTL": "10s", "Behavior": "delete"}"#).await;
    assert!(bed.put("/v1/kv/a", "1").await);
    assert!(bed.put(&format!("/v1/kv/held?acquire={session}&flags=7"), "mine").await);
    let body = r#"{"Name": "web", "Check": {"TTL": "10s", "Status": "passing"}}"#;
    assert_eq!(bed.ask("PUT", "/v1/agent/service/register", body).await.status, StatusCode::OK);
    bed.store.put("/other", "stays").await.unwrap();

    let saved = bed.get("/v1/snapshot").await;
    assert_eq!(
        (saved.status, saved.header("content-type")),
        (StatusCode::OK, "application/x-gzip")
    );
    assert!(saved.index() > 1);
    assert!(bed.put("/v1/kv/new", "1").await);
    assert!(bed.delete("/v1/kv/a").await);
    assert!(bed.put(&format!("/v1/session/destroy/{session}"), "").await);
    bed.ask("PUT", "/v1/agent/service/deregister/web", "").await;

    let said = bed.ask("PUT", "/v1/snapshot", saved.body.clone()).await;
    assert_eq!((said.status, said.text()), (StatusCode::OK, ""));
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!(["a", "held"]));
    let held = bed.entry("held").await;
    assert_eq!((&held["Session"], &held["Flags"]), (&json!(session), &json!(7)));
    let found = bed.get("/v1/health/service/web?passing").await.json();
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    assert!(bed.store.leases().len() >= 2);

    // The new leases are those of the session and of the check.
    bed.time_passes().await;
    bed.gone(&session).await;
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!(["a"]));
    let mut index = 0;
    loop {
        let said = bed.get(&format!("/v1/health/checks/web?index={index}")).await;
        if said.json()[0]["Status"] == "critical" {
            break;
        }
        index = said.index();
    }
    let other = bed.store.range(pontoon_store::Range::key("/other"), pontoon_store::Read::Local);
    assert_eq!(other.await.unwrap().kvs.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_restored_changes_nothing() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    let mut saved = bed.get("/v1/snapshot").await.body.to_vec();
    let last = saved.len() / 2;
    saved[last] ^= 0x55;
    for bad in [b"xyz".to_vec(), Vec::new(), saved] {
        let said = bed.ask("PUT", "/v1/snapshot", bad).await;
        assert_eq!(said.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", said.text());
        assert!(said.text().starts_with("failed "), "{}", said.text());
    }
    assert_eq!(bed.entry("a").await["Value"], "MQ==");
    assert_eq!(bed.get("/v1/snapshot?token=app").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_too_large_is_not_saved() {
    let bed = bed().await;
    for key in 0..7 {
        assert!(bed.put(&format!("/v1/kv/{key}"), vec![b'x'; 512 << 10]).await);
    }
    let said = bed.get("/v1/snapshot").await;
    assert_eq!(said.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(said.text().contains("pontoon store snapshot save"), "{}", said.text());
    let _: Value = bed.entry("6").await;
}
