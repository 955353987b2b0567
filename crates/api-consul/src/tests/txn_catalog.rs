//! Transactions on nodes, services and checks, beside keys: all or nothing, indexes compared, each permitted.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Bed, Said, bed};

async fn txn(bed: &Bed, query: &str, ops: Value) -> Said {
    bed.ask("PUT", &format!("/v1/txn{query}"), ops.to_string()).await
}

fn node(verb: &str, index: u64, address: &str) -> Value {
    let node = json!({"Node": "ext", "Address": address, "ModifyIndex": index});
    json!({"Node": {"Verb": verb, "Node": node}})
}

fn service(verb: &str, name: &str, port: u16) -> Value {
    let service = json!({"Service": name, "ID": name, "Port": port});
    json!({"Service": {"Verb": verb, "Node": "ext", "Service": service}})
}

fn check(verb: &str, id: &str, service: &str) -> Value {
    let check = json!({"Node": "ext", "CheckID": id, "ServiceID": service, "Status": "passing"});
    json!({"Check": {"Verb": verb, "Check": check}})
}

fn key(verb: &str, key: &str) -> Value {
    json!({"KV": {"Verb": verb, "Key": key, "Value": "MQ=="}})
}

#[tokio::test]
async fn all_of_it_or_nothing() {
    let bed = bed().await;
    let ops = [
        node("set", 0, "1.1.1.1"),
        service("set", "web", 80),
        check("set", "c", "web"),
        key("set", "k"),
    ];
    let said = txn(&bed, "", ops.iter().cloned().collect()).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let found = bed.get("/v1/health/service/web?passing").await.json();
    assert_eq!(found[0]["Service"]["Port"], 80);
    let index = bed.entry("k").await["ModifyIndex"].clone();
    let results = said.json()["Results"].clone();
    for kind in ["Node", "Service", "Check", "KV"] {
        let lines = results.as_array().unwrap();
        let line = lines.iter().find_map(|line| line.get(kind)).unwrap();
        assert_eq!(line["ModifyIndex"], index, "{kind}: all have the revision of the transaction");
    }
    let undone = json!([node("delete", 0, ""), key("set", "other"), check("get", "c", "")]);
    let said = txn(&bed, "", undone).await;
    let words = json!([{"OpIndex": 2, "What": "check \"c\" on node \"ext\" doesn't exist"}]);
    assert_eq!((said.status, &said.json()["Errors"]), (StatusCode::CONFLICT, &words));
    assert_eq!(bed.get("/v1/kv/other").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bed.get("/v1/health/service/web").await.json(), found);

    let again =
        json!([node("delete", 0, ""), node("set", 0, "2.2.2.2"), service("set", "web", 81)]);
    assert_eq!(txn(&bed, "", again).await.status, StatusCode::OK);
    let found = bed.get("/v1/health/service/web").await.json();
    assert_eq!((&found[0]["Service"]["Port"], &found[0]["Checks"]), (&json!(81), &json!([])));
    assert_eq!(txn(&bed, "", json!([node("delete", 0, "")])).await.status, StatusCode::OK);
    assert_eq!(bed.get("/v1/catalog/node/ext").await.text(), "null");
}

#[tokio::test]
async fn only_one_of_many_compares_well() {
    let bed = Arc::new(bed().await);
    let said = txn(&bed, "", json!([node("cas", 0, "0.0.0.1")])).await;
    let index = said.json()["Results"][0]["Node"]["ModifyIndex"].as_u64().unwrap();
    let mut racing = Vec::new();
    for n in 0..8 {
        let bed = Arc::clone(&bed);
        let ops =
            json!([node("cas", index, &format!("0.0.1.{n}")), key("set", &format!("won/{n}"))]);
        racing.push(tokio::spawn(async move { txn(&bed, "", ops).await.status }));
    }
    let mut won = 0;
    for race in racing {
        won += usize::from(race.await.unwrap() == StatusCode::OK);
    }
    assert_eq!(won, 1);
    assert_eq!(bed.get("/v1/kv/won/?keys").await.json().as_array().map(Vec::len), Some(1));
    let stale = txn(&bed, "", json!([node("delete-cas", index, "")])).await;
    assert!(
        stale.text().contains("failed to delete node \\\"ext\\\", index is stale"),
        "{}",
        stale.text()
    );
}

#[tokio::test]
async fn each_is_permitted_or_none_is_done() {
    let bed = bed().await;
    let ops = json!([
        node("set", 0, "1.1.1.1"),
        service("set", "app", 1),
        service("set", "web", 2),
        check("set", "c", "web"),
        check("set", "n", "")
    ]);
    assert_eq!(txn(&bed, "", ops).await.status, StatusCode::OK);
    // The token may read and write the service `app`, and the keys below `app/`.
    let good = json!([service("set", "app", 3), service("get", "app", 0), key("set", "app/k")]);
    let said = txn(&bed, "?token=app", good).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    for denied in [
        node("get", 0, ""),
        node("set", 0, "2.2.2.2"),
        node("delete", 0, ""),
        service("get", "web", 0),
        service("set", "web", 0),
        service("delete", "web", 0),
        check("get", "c", ""),
        check("set", "c", "app"),
        check("set", "c", "web"),
        check("delete", "c", ""),
        check("get", "n", ""),
        check("set", "new", ""),
    ] {
        let said = txn(&bed, "?token=app", json!([key("set", "app/no"), denied])).await;
        let wanted = json!([{"OpIndex": 1, "What": "Permission denied"}]);
        assert_eq!(
            (said.status, &said.json()["Errors"]),
            (StatusCode::CONFLICT, &wanted),
            "{denied}"
        );
    }
    // Nor may a service take the place of another one.
    let other = json!({"ID": "web", "Service": "app"});
    let other = json!([{"Service": {"Verb": "set", "Node": "ext", "Service": other}}]);
    assert_eq!(txn(&bed, "?token=app", other).await.status, StatusCode::CONFLICT);
    assert_eq!(bed.get("/v1/kv/app/no").await.status, StatusCode::NOT_FOUND);
}
