//! Transactions: every verb, all or nothing, and the answers' form.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Bed, Said, bed};

async fn txn(bed: &Bed, ops: Value) -> Said {
    bed.ask("PUT", "/v1/txn", ops.to_string()).await
}

fn op(verb: &str, key: &str, more: Value) -> Value {
    let mut kv = json!({"Verb": verb, "Key": key});
    if let (Some(kv), Some(more)) = (kv.as_object_mut(), more.as_object()) {
        kv.extend(more.clone());
    }
    json!({ "KV": kv })
}

/// The only error of a transaction that was not done.
async fn error(bed: &Bed, ops: Value) -> (u64, String) {
    let said = txn(bed, ops).await;
    assert_eq!(said.status, StatusCode::CONFLICT, "{}", said.text());
    let body = said.json();
    assert_eq!(body["Results"], Value::Null);
    let errors = body["Errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{body}");
    (errors[0]["OpIndex"].as_u64().unwrap(), errors[0]["What"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn operations_see_those_before() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/t/old", "old").await);
    let said = txn(
        &bed,
        json!([
            op("check-not-exists", "t/a", json!({})),
            op("set", "t/a", json!({"Value": "MQ==", "Flags": 3})),
            op("get", "t/a", json!({})),
            op("get-tree", "t/", json!({})),
            op("delete", "t/old", json!({})),
            op("get-or-empty", "t/old", json!({})),
            op("delete-tree", "u/", json!({})),
        ]),
    )
    .await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let body = said.json();
    assert_eq!(body["Errors"], Value::Null);
    let index = bed.entry("t/a").await["ModifyIndex"].clone();
    let results: Vec<_> =
        body["Results"].as_array().unwrap().iter().map(|line| &line["KV"]).collect();
    let keys: Vec<_> = results.iter().map(|kv| kv["Key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["t/a", "t/a", "t/a", "t/old", "t/old"]);
    let wanted = json!({"LockIndex": 0, "Key": "t/a", "Flags": 3, "Value": null,
                        "CreateIndex": index, "ModifyIndex": index});
    assert_eq!(*results[0], wanted, "what is written is answered without its value");
    assert_eq!(results[1]["Value"], "MQ==");
    assert_eq!(results[3]["Value"], "b2xk");
    assert_eq!((&results[4]["Value"], &results[4]["ModifyIndex"]), (&Value::Null, &json!(0)));
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!(["t/a"]));
}

#[tokio::test]
async fn one_failure_undoes_all() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    let index = bed.entry("a").await["ModifyIndex"].as_u64().unwrap();
    let set = op("set", "b", json!({"Value": "MQ=="}));
    for (failing, words) in [
        (op("cas", "a", json!({"Index": 1})), "failed to set key \"a\", index is stale".to_owned()),
        (
            op("delete-cas", "a", json!({"Index": 1})),
            "failed to delete key \"a\", index is stale".to_owned(),
        ),
        (op("get", "none", json!({})), "key \"none\" doesn't exist".to_owned()),
        (op("check-not-exists", "a", json!({})), "key \"a\" exists".to_owned()),
        (
            op("check-index", "a", json!({"Index": 1})),
            format!("failed index check for key \"a\", current modify index {index} != 1"),
        ),
        (
            op("check-session", "a", json!({"Session": "s"})),
            "failed session check for key \"a\", current session \"\" != \"s\"".to_owned(),
        ),
        (
            op("lock", "a", json!({"Session": "s"})),
            "failed session lookup: index error: UUID must be 36 characters".to_owned(),
        ),
        (op("fly", "a", json!({})), "unknown KV verb \"fly\"".to_owned()),
        (op("get-tree", "", json!({})), "Must provide key".to_owned()),
        (op("lock", "a", json!({})), "missing session".to_owned()),
        (
            op("unlock", "a", json!({"Session": "s"})),
            "failed to unlock key \"a\", lock isn't held, or is held by another session".to_owned(),
        ),
        (op("set", "", json!({})), "Must provide key".to_owned()),
    ] {
        assert_eq!(error(&bed, json!([set, failing])).await, (1, words));
        assert_eq!(bed.get("/v1/kv/b").await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn locks_in_transactions() {
    let bed = bed().await;
    let (a, b) = (bed.session("").await, bed.session("").await);
    let lock = |id: &str| op("lock", "k", json!({"Session": id, "Value": "MQ=="}));
    let said = txn(&bed, json!([lock(&a), op("check-session", "k", json!({"Session": a}))])).await;
    assert_eq!(said.json()["Results"][0]["KV"]["LockIndex"], 1, "{}", said.text());
    assert_eq!(said.json()["Results"][1]["KV"]["Session"], a.as_str());
    let held = (0, "failed to lock key \"k\", lock is already held".to_owned());
    assert_eq!(error(&bed, json!([lock(&b)])).await, held);
    let unlock = op("unlock", "k", json!({"Session": a, "Value": "Mg=="}));
    assert_eq!(txn(&bed, json!([unlock, lock(&b)])).await.status, StatusCode::OK);
    let entry = bed.entry("k").await;
    assert_eq!((&entry["Session"], &entry["LockIndex"]), (&json!(b), &json!(2)));
    assert!(bed.put(&format!("/v1/session/destroy/{b}"), "").await);
    let delayed = (0, "failed to lock key \"k\" due to lock delay".to_owned());
    assert_eq!(error(&bed, json!([lock(&a)])).await, delayed);
}

#[tokio::test]
async fn a_tree_is_deleted_and_written_again() {
    let bed = bed().await;
    for key in ["t/a", "t/b", "tt"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), "1").await);
    }
    let ops = json!([
        op("delete-tree", "t/", json!({})),
        op("check-not-exists", "t/a", json!({})),
        op("set", "t/b", json!({"Value": "Mg=="})),
        op("set", "t/c", json!({"Value": "Mw=="})),
    ]);
    assert_eq!(txn(&bed, ops).await.status, StatusCode::OK);
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!(["t/b", "t/c", "tt"]));
    let ops = json!([op("delete-tree", "t", json!({})), op("delete-tree", "t/", json!({}))]);
    assert_eq!(txn(&bed, ops).await.status, StatusCode::OK);
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!([]));
}

#[tokio::test]
async fn odd_keys_are_as_they_are() {
    let bed = bed().await;
    let keys = ["a//b", "../x", "nul\u{0}", "ü"];
    let ops: Vec<_> = keys.iter().map(|key| op("set", key, json!({"Value": "MQ=="}))).collect();
    assert_eq!(txn(&bed, Value::from(ops)).await.status, StatusCode::OK);
    assert_eq!(bed.get("/v1/kv/?keys").await.json(), json!(["../x", "a//b", "nul\u{0}", "ü"]));
}

#[tokio::test]
async fn reading_transactions_say_what_they_read() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    let get = json!([op("get", "a", json!({}))]).to_string();
    let said = bed.ask("PUT", "/v1/txn?stale", get).await;
    assert_eq!(said.header("x-consul-effective-consistency"), "stale");
    assert_eq!(said.header("x-consul-knownleader"), "true");
    assert_eq!(said.header("x-consul-index"), "");
    assert_eq!(said.json()["Results"][0]["KV"]["Value"], "MQ==");
    let nothing = json!({
        "Results": [], "Errors": null,
        "Index": 0, "LastContact": 0, "KnownLeader": true, "ConsistencyLevel": "",
    });
    assert_eq!(txn(&bed, json!([])).await.json(), nothing);
    let set = txn(&bed, json!([op("delete-tree", "", json!({}))])).await;
    assert_eq!(set.text(), "{\"Results\":[],\"Errors\":null}", "only reads have more");
}

#[tokio::test]
async fn limits() {
    let bed = bed().await;
    let many: Vec<_> = (0..129).map(|n| op("set", &n.to_string(), json!({}))).collect();
    let said = txn(&bed, Value::from(many)).await;
    let words = "Transaction contains too many operations (129 > 128)";
    assert_eq!((said.status, said.text()), (StatusCode::PAYLOAD_TOO_LARGE, words));
    let said = bed.ask("PUT", "/v1/txn", vec![b' '; (512 << 10) + 1]).await;
    assert_eq!(said.status, StatusCode::PAYLOAD_TOO_LARGE);
    let said = bed.ask("PUT", "/v1/txn", "").await;
    assert_eq!((said.status, said.text()), (StatusCode::BAD_REQUEST, "Failed to parse body: EOF"));
}

#[tokio::test]
async fn every_operation_is_asked_permission_for() {
    let bed = bed().await;
    for key in ["app/a", "other/b"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), "1").await);
    }
    let ask = async |ops: Value| bed.ask("PUT", "/v1/txn?token=app", ops.to_string()).await;
    for verb in [
        "set",
        "cas",
        "lock",
        "unlock",
        "check-index",
        "check-session",
        "check-not-exists",
        "delete",
        "delete-tree",
        "delete-cas",
    ] {
        let said =
            ask(json!([op("set", "app/c", json!({})), op(verb, "other/b", json!({}))])).await;
        let wanted = json!([{"OpIndex": 1, "What": "Permission denied"}]);
        assert_eq!(
            (said.status, &said.json()["Errors"]),
            (StatusCode::CONFLICT, &wanted),
            "{verb}"
        );
    }
    // What may not be read is left out, and it is not told whether it is there.
    for (verb, key) in [("get", "other/b"), ("get", "other/c"), ("get-or-empty", "other/b")] {
        let said = ask(json!([op(verb, key, json!({}))])).await;
        assert_eq!((said.status, &said.json()["Results"]), (StatusCode::OK, &json!([])), "{verb}");
    }
    assert!(bed.put("/v1/kv/apple", "1").await);
    let said = ask(json!([op("get-tree", "app", json!({}))])).await.json();
    let keys: Vec<_> =
        said["Results"].as_array().unwrap().iter().map(|line| &line["KV"]["Key"]).collect();
    assert_eq!(keys, ["app/a"]);
}
