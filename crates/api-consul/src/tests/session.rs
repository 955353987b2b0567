//! Sessions and locks: what a session may say, what it holds, and what becomes of that.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Bed, bed};
use crate::cluster::Status;

/// Who holds a key, and how often it was acquired.
async fn lock(bed: &Bed, key: &str) -> (Value, u64) {
    let entry = bed.entry(key).await;
    (entry["Session"].clone(), entry["LockIndex"].as_u64().unwrap())
}

#[tokio::test]
async fn a_session_is_made_shown_and_ended() {
    let bed = bed().await;
    let plain = bed.session("").await;
    let body = r#"{"Name": "lock", "Node": "two", "LockDelay": "5s", "Behavior": "delete", "TTL": "30s",
                   "Checks": []}"#;
    let other = bed.session(body).await;
    let shown = bed.get(&format!("/v1/session/info/{plain}")).await.json();
    let index = &shown[0]["CreateIndex"];
    let wanted = json!([{
        "ID": plain, "Name": "", "Node": "one", "LockDelay": 15_000_000_000_u64, "Behavior": "release", "TTL": "",
        "NodeChecks": ["serfHealth"], "ServiceChecks": null, "CreateIndex": index, "ModifyIndex": index,
    }]);
    assert_eq!(shown, wanted);
    let shown = bed.get("/v1/session/node/two").await.json();
    assert_eq!(shown[0]["ID"], other.as_str());
    assert_eq!((&shown[0]["TTL"], &shown[0]["Behavior"]), (&json!("30s"), &json!("delete")));
    assert_eq!(
        (&shown[0]["LockDelay"], &shown[0]["NodeChecks"]),
        (&json!(5_000_000_000_u64), &json!([]))
    );
    assert_eq!(bed.get("/v1/session/list").await.json().as_array().map(Vec::len), Some(2));
    assert!(bed.put(&format!("/v1/session/destroy/{plain}"), "").await);
    assert!(bed.put(&format!("/v1/session/destroy/{plain}"), "").await, "again is fine");
    assert_eq!(bed.get(&format!("/v1/session/info/{plain}")).await.text(), "[]");
    assert_eq!(bed.get("/v1/session/list").await.json().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn bad_sessions_are_refused() {
    let bed = bed().await;
    for (body, status, words) in [
        (
            r#"{"TTL": "9s"}"#,
            500,
            "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]",
        ),
        (r#"{"Behavior": "keep"}"#, 500, "Invalid Behavior setting 'keep'"),
        (r#"{"Node": "three"}"#, 500, "Missing node registration"),
        (r#"{"Checks": ["nope"]}"#, 500, "Missing check 'nope' registration"),
        (r#"{"ServiceChecks": [{"ID": "x"}]}"#, 500, "Missing check 'x' registration"),
        ("[]", 400, "Request decode failed: it must be an object"),
        (r#"{"Name": 1}"#, 400, "Request decode failed: Name must be a string"),
    ] {
        let said = bed.ask("PUT", "/v1/session/create", body).await;
        assert_eq!((said.status.as_u16(), said.text()), (status, words));
    }
    for (method, uri) in [("GET", "info"), ("PUT", "destroy"), ("PUT", "renew")] {
        let said = bed.ask(method, &format!("/v1/session/{uri}/no-uuid"), "").await;
        let words = "failed session lookup: index error: UUID must be 36 characters";
        assert_eq!((said.status.as_u16(), said.text()), (500, words));
    }
    for uri in ["destroy", "renew"] {
        let said = bed.ask("PUT", &format!("/v1/session/{uri}/"), "").await;
        assert_eq!((said.status, said.text()), (StatusCode::BAD_REQUEST, "Missing session"));
    }
    let unknown = "/v1/session/renew/7b8a3d2c-0000-4000-8000-000000000000";
    let said = bed.ask("PUT", unknown, "").await;
    let words = "Session id '7b8a3d2c-0000-4000-8000-000000000000' not found";
    assert_eq!((said.status, said.text()), (StatusCode::NOT_FOUND, words));
}

#[tokio::test]
async fn one_session_at_a_time_holds_a_key() {
    let bed = bed().await;
    let (a, b) = (bed.session("").await, bed.session("").await);
    assert!(bed.put(&format!("/v1/kv/k?acquire={a}"), "a").await);
    assert_eq!(lock(&bed, "k").await, (json!(a), 1));
    assert!(!bed.put(&format!("/v1/kv/k?acquire={b}"), "b").await);
    assert!(bed.put(&format!("/v1/kv/k?acquire={a}"), "a2").await, "the holder may again");
    assert_eq!(lock(&bed, "k").await, (json!(a), 1), "which counts as no new lock");
    assert!(bed.put("/v1/kv/k", "anybody").await, "locks are advisory");
    assert_eq!(lock(&bed, "k").await, (json!(a), 1));
    assert!(!bed.put(&format!("/v1/kv/k?release={b}"), "b").await);
    assert!(bed.put(&format!("/v1/kv/k?release={a}"), "free").await);
    assert_eq!(lock(&bed, "k").await, (Value::Null, 1));
    assert_eq!(bed.get("/v1/kv/k?raw").await.text(), "free");
    assert!(!bed.put(&format!("/v1/kv/k?release={a}"), "").await, "it is free already");
    assert!(bed.put(&format!("/v1/kv/k?acquire={b}"), "b").await, "a release has no lock delay");
    assert_eq!(lock(&bed, "k").await, (json!(b), 2));
}

#[tokio::test]
async fn a_session_that_ends_releases_what_it_holds() {
    let bed = bed().await;
    let (a, b) = (bed.session("").await, bed.session("").await);
    for key in ["x", "y/z", "free"] {
        assert!(bed.put(&format!("/v1/kv/{key}?acquire={a}"), "v").await);
    }
    assert!(bed.put(&format!("/v1/kv/free?release={a}"), "v").await);
    let free = bed.entry("free").await;
    assert!(bed.put(&format!("/v1/session/destroy/{a}"), "").await);
    for key in ["x", "y/z"] {
        assert_eq!(lock(&bed, key).await, (Value::Null, 1));
        assert!(!bed.put(&format!("/v1/kv/{key}?acquire={b}"), "v").await, "the lock delay");
    }
    assert_eq!(bed.entry("free").await, free, "it did not hold this one");
    let entries = [bed.entry("x").await, bed.entry("y/z").await];
    assert_eq!(entries[0]["ModifyIndex"], entries[1]["ModifyIndex"], "in one transaction");
    bed.time_passes().await;
    assert!(bed.put(&format!("/v1/kv/x?acquire={b}"), "v").await);
    assert_eq!(lock(&bed, "x").await, (json!(b), 2));
}

#[tokio::test]
async fn a_session_that_ends_deletes_what_it_holds() {
    let bed = bed().await;
    let a = bed.session(r#"{"Behavior": "delete", "LockDelay": 0}"#).await;
    assert!(bed.put(&format!("/v1/kv/k?acquire={a}"), "v").await);
    assert!(bed.put(&format!("/v1/session/destroy/{a}"), "").await);
    assert_eq!(bed.get("/v1/kv/k").await.status, StatusCode::NOT_FOUND);
    let b = bed.session("").await;
    assert!(bed.put(&format!("/v1/kv/k?acquire={b}"), "v").await, "no lock delay was asked for");
}

#[tokio::test]
async fn a_deleted_key_is_nobodys() {
    let bed = bed().await;
    let a = bed.session(r#"{"Behavior": "delete"}"#).await;
    assert!(bed.put(&format!("/v1/kv/t/k?acquire={a}"), "v").await);
    assert!(bed.put(&format!("/v1/kv/l?acquire={a}"), "v").await);
    assert!(bed.delete("/v1/kv/t/?recurse").await);
    assert!(bed.delete("/v1/kv/l").await);
    for key in ["t/k", "l"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), "another's").await);
    }
    assert!(bed.put(&format!("/v1/session/destroy/{a}"), "").await);
    for key in ["t/k", "l"] {
        assert_eq!(bed.get(&format!("/v1/kv/{key}?raw")).await.text(), "another's");
    }
}

#[tokio::test]
async fn a_session_whose_time_is_up_ends() {
    let bed = bed().await;
    let a = bed.session(r#"{"TTL": "10s"}"#).await;
    assert_eq!(bed.store.leases().iter().map(|lease| lease.ttl).collect::<Vec<_>>(), [20]);
    assert!(bed.put(&format!("/v1/kv/k?acquire={a}"), "v").await);
    let renewed = bed.ask("PUT", &format!("/v1/session/renew/{a}"), "").await;
    assert_eq!(renewed.json()[0]["ID"], a.as_str());
    bed.time_passes().await;
    bed.gone(&a).await;
    assert_eq!(lock(&bed, "k").await, (Value::Null, 1));
    let renewed = bed.ask("PUT", &format!("/v1/session/renew/{a}"), "").await;
    assert_eq!(renewed.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_whose_time_was_up_while_nobody_looked_ends() {
    let bed = bed().await;
    bed.ending.abort();
    let (a, b) = (bed.session(r#"{"TTL": "10s"}"#).await, bed.session("").await);
    assert!(bed.put(&format!("/v1/kv/k?acquire={a}"), "v").await);
    bed.time_passes().await;
    let again = tokio::spawn(bed.server.clone().end_sessions());
    bed.gone(&a).await;
    assert_eq!(lock(&bed, "k").await, (Value::Null, 1));
    assert_eq!(bed.get(&format!("/v1/session/info/{b}")).await.json()[0]["ID"], b.as_str());
    again.abort();
}

#[tokio::test]
async fn more_than_one_transaction_can_hold_is_released() {
    let bed = bed().await;
    let a = bed.session("").await;
    let value = vec![b'x'; 500 << 10];
    for key in 0..12 {
        assert!(bed.put(&format!("/v1/kv/big/{key}?acquire={a}"), value.clone()).await);
    }
    assert!(bed.put(&format!("/v1/session/destroy/{a}"), "").await);
    let list = bed.get("/v1/kv/big/?recurse").await.json();
    assert!(list.as_array().unwrap().iter().all(|entry| entry["Session"].is_null()));
    assert_eq!(bed.get("/v1/session/list").await.text(), "[]");
}

#[tokio::test]
async fn a_token_reaches_only_its_nodes_sessions() {
    let bed = bed().await;
    let (one, two) = (bed.session("").await, bed.session(r#"{"Node": "two"}"#).await);
    let shown = bed.get("/v1/session/list?token=app").await.json();
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["ID"]), (Some(1), &json!(two)));
    assert_eq!(bed.get(&format!("/v1/session/info/{one}?token=app")).await.text(), "[]");
    for uri in [format!("destroy/{one}"), format!("renew/{one}"), "create".to_owned()] {
        let said = bed.ask("PUT", &format!("/v1/session/{uri}?token=app"), "").await;
        assert_eq!(said.status, StatusCode::FORBIDDEN, "{uri}");
    }
    assert!(bed.put(&format!("/v1/session/destroy/{two}?token=app"), "").await);
}

#[tokio::test]
async fn a_session_ends_with_its_node_and_its_checks() {
    let bed = bed().await;
    let of_two = bed.session(r#"{"Node": "two"}"#).await;
    let of_one = bed.session("").await;
    assert!(bed.put(&format!("/v1/kv/k?acquire={of_two}"), "v").await);
    bed.cluster.set(Status::Critical, bed.store.revision());
    bed.gone(&of_two).await;
    assert_eq!(lock(&bed, "k").await, (Value::Null, 1), "the dead hold no locks");
    assert_eq!(bed.get("/v1/session/list").await.json()[0]["ID"], of_one.as_str());
    let said = bed.ask("PUT", "/v1/session/create", r#"{"Node": "two"}"#).await;
    assert_eq!(said.text(), "Check 'serfHealth' is in critical state");
    let check = r#"{"Name": "mem", "TTL": "30s", "Status": "passing"}"#;
    assert_eq!(bed.ask("PUT", "/v1/agent/check/register", check).await.status, StatusCode::OK);
    let checked = bed.session(r#"{"Checks": ["serfHealth", "mem"]}"#).await;
    bed.ask("PUT", "/v1/agent/check/fail/mem", "").await;
    bed.gone(&checked).await;
}
