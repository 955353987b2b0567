//! The catalog: what is registered, shown, filtered, waited for and taken away.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Bed, Said, bed};
use crate::cluster::Status;

async fn register(bed: &Bed, body: serde_json::Value) {
    assert!(bed.put("/v1/catalog/register", body.to_string()).await, "{body}");
}

/// A node with an instance of a service and a check of that.
async fn redis(bed: &Bed, node: &str, status: &str) {
    register(
        bed,
        json!({
            "Node": node, "Address": "10.1.1.1", "NodeMeta": {"zone": "a"},
            "Service": {"Service": "redis", "Port": 6379, "Tags": ["x", "Y"]},
            "Check": {"CheckID": "service:redis", "Name": "c", "Status": status, "ServiceID": "redis"},
        }),
    )
    .await;
}

#[tokio::test]
async fn what_is_registered_is_shown_as_by_consul() {
    let bed = bed().await;
    redis(&bed, "ext", "passing").await;
    let said = bed.get("/v1/health/service/redis").await;
    let index = said.json()[0]["Service"]["ModifyIndex"].as_u64().unwrap();
    let wanted = format!(
        "[{{\"Node\":{{\"ID\":\"\",\"Node\":\"ext\",\"Address\":\"10.1.1.1\",\"Datacenter\":\"dc1\",\
         \"TaggedAddresses\":null,\"Meta\":{{\"zone\":\"a\"}},\"CreateIndex\":{index},\"ModifyIndex\":{index}}},\
         \"Service\":{{\"ID\":\"redis\",\"Service\":\"redis\",\"Tags\":[\"x\",\"Y\"],\"Address\":\"\",\"Meta\":null,\
         \"Port\":6379,\"Weights\":{{\"Passing\":1,\"Warning\":1}},\"EnableTagOverride\":false,\
         \"Proxy\":{{\"MeshGateway\":{{}},\"Expose\":{{}}}},\"Connect\":{{}},\"CreateIndex\":{index},\
         \"ModifyIndex\":{index}}},\"Checks\":[{{\"Node\":\"ext\",\"CheckID\":\"service:redis\",\"Name\":\"c\",\
         \"Status\":\"passing\",\"Notes\":\"\",\"Output\":\"\",\"ServiceID\":\"redis\",\"ServiceName\":\"redis\",\
         \"ServiceTags\":[\"x\",\"Y\"],\"Type\":\"\",\"Definition\":{{}},\"CreateIndex\":{index},\
         \"ModifyIndex\":{index}}}]}}]"
    );
    assert_eq!(said.text(), wanted);
    let flat = bed.get("/v1/catalog/service/REDIS").await.json();
    assert_eq!((&flat[0]["ServicePort"], &flat[0]["ServiceMeta"]), (&json!(6379), &json!({})));
    assert_eq!(bed.get("/v1/catalog/services").await.text(), r#"{"redis":["Y","x"]}"#);
    let nodes = bed.get("/v1/catalog/nodes").await.json();
    let names: Vec<_> = nodes.as_array().unwrap().iter().map(|node| &node["Node"]).collect();
    assert_eq!(names, ["ext", "one", "two"]);
    let node = bed.get("/v1/catalog/node/Ext").await.json();
    assert_eq!(node["Services"]["redis"]["Port"], 6379);
    let list = bed.get("/v1/catalog/node-services/ext").await.json();
    assert_eq!(list["Services"][0]["ID"], "redis");
    assert_eq!(bed.get("/v1/catalog/node/none").await.text(), "null");
    let none = bed.get("/v1/catalog/node-services/none").await;
    assert_eq!(none.text(), r#"{"Node":null,"Services":null}"#);
    assert_eq!(bed.get("/v1/catalog/datacenters").await.text(), r#"["dc1"]"#);
    for uri in
        ["health/service/none", "health/checks/none", "health/node/none", "catalog/service/none"]
    {
        assert_eq!(bed.get(&format!("/v1/{uri}")).await.text(), "[]", "{uri}");
    }
}

#[tokio::test]
async fn health_is_selected() {
    let bed = bed().await;
    redis(&bed, "a", "passing").await;
    redis(&bed, "b", "critical").await;
    let nodes = async |uri: &str| {
        let said = bed.get(uri).await;
        assert_eq!(said.status, StatusCode::OK, "{uri}: {}", said.text());
        let name = |item: &serde_json::Value| match &item["Node"] {
            serde_json::Value::Object(node) => node["Node"].as_str().unwrap().to_owned(),
            name => name.as_str().unwrap().to_owned(),
        };
        said.json().as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(nodes("/v1/health/service/redis").await, ["a", "b"]);
    assert_eq!(nodes("/v1/health/service/redis?passing").await, ["a"]);
    assert_eq!(nodes("/v1/health/service/redis?passing=false").await, ["a", "b"]);
    assert_eq!(nodes("/v1/health/service/redis?tag=y&tag=x").await, ["a", "b"]);
    assert!(nodes("/v1/health/service/redis?tag=y&tag=z").await.is_empty());
    assert_eq!(nodes("/v1/catalog/nodes?node-meta=zone:a").await, ["a", "b"]);
    assert_eq!(nodes("/v1/catalog/nodes?near=two").await, ["two", "a", "b", "one"]);
    assert_eq!(nodes("/v1/health/state/critical").await, ["b"]);
    assert_eq!(nodes("/v1/health/checks/redis?filter=Status==critical").await, ["b"]);
    assert_eq!(nodes("/v1/catalog/nodes?filter=Node==a").await, ["a"]);
    assert_eq!(nodes("/v1/health/state/any").await.len(), 4, "two of the cluster's own");
    let bad = bed.get("/v1/catalog/nodes?filter=Nope==a").await;
    let words = "Failed to create boolean expression evaluator: Selector \"Nope\" is not valid";
    assert_eq!((bad.status.as_u16(), bad.text()), (500, words));
    assert_eq!(bed.get("/v1/health/service/redis?passing=x").await.status, StatusCode::BAD_REQUEST);
    bed.cluster.set(Status::Critical, bed.store.revision());
    assert_eq!(nodes("/v1/health/state/critical").await, ["b", "two"]);
}

#[tokio::test]
async fn what_is_taken_away_is_gone() {
    let bed = bed().await;
    redis(&bed, "ext", "passing").await;
    let deregister = async |body: serde_json::Value| {
        assert!(bed.put("/v1/catalog/deregister", body.to_string()).await);
    };
    deregister(json!({"Node": "ext", "CheckID": "service:redis"})).await;
    assert_eq!(bed.get("/v1/health/checks/redis").await.text(), "[]");
    redis(&bed, "ext", "passing").await;
    deregister(json!({"Node": "ext", "ServiceID": "redis"})).await;
    assert_eq!(bed.get("/v1/catalog/services").await.text(), "{}");
    assert_eq!(bed.get("/v1/health/node/ext").await.text(), "[]", "a service's checks go with it");
    redis(&bed, "ext", "passing").await;
    deregister(json!({"Node": "EXT"})).await;
    assert_eq!(bed.get("/v1/catalog/node/ext").await.text(), "null");
    register(&bed, json!({"Node": "ext", "Address": "10.1.1.1"})).await;
    assert_eq!(bed.get("/v1/catalog/services").await.text(), "{}", "nothing of it comes back");
    deregister(json!({"Node": "none"})).await;
    deregister(json!({"Node": "one"})).await;
    let one = bed.get("/v1/catalog/node/one").await.json();
    assert_eq!(one["Node"]["Address"], "10.0.0.1", "what the cluster knows stays");
}

#[tokio::test]
async fn bad_registrations_are_refused() {
    let bed = bed().await;
    for (body, status, words) in [
        ("", 400, "Request decode failed: EOF"),
        (r#"{"Address":"1.1.1.1"}"#, 500, "Must provide node"),
        (r#"{"Node":"x"}"#, 500, "Must provide address if SkipNodeUpdate is not set"),
        (
            r#"{"Node":"x","Address":"1.1.1.1","Service":{"ID":"x"}}"#,
            500,
            "Must provide service name with ID",
        ),
        (
            r#"{"Node":"x","Address":"1.1.1.1","Check":{"Name":"a","ServiceID":"none"}}"#,
            500,
            "failed inserting check: Missing service registration on node \"x\"",
        ),
        (r#"{"Node":"x","Address":"1.1.1.1","Datacenter":"mars"}"#, 500, "No path to datacenter"),
        (
            r#"{"Node":"x\u0000y","Address":"1.1.1.1"}"#,
            400,
            "a name has at most 512 bytes, none of them NUL",
        ),
    ] {
        let said = bed.ask("PUT", "/v1/catalog/register", body).await;
        assert_eq!((said.status.as_u16(), said.text()), (status, words), "{body}");
    }
    assert_eq!(bed.get("/v1/catalog/node/x").await.text(), "null");
    let said = bed.ask("PUT", "/v1/catalog/deregister", "{}").await;
    assert_eq!((said.status.as_u16(), said.text()), (500, "Must provide node"));
}

#[tokio::test]
async fn a_token_sees_and_changes_its_service_alone() {
    let bed = bed().await;
    for name in ["app", "db"] {
        register(
            &bed,
            json!({"Node": "one", "SkipNodeUpdate": true, "Service": {"Service": name}}),
        )
        .await;
    }
    assert_eq!(bed.get("/v1/catalog/services?token=app").await.text(), r#"{"app":[]}"#);
    assert_eq!(bed.get("/v1/health/service/db?token=app").await.text(), "[]");
    assert_eq!(bed.get("/v1/catalog/node/two?token=app").await.text(), "null");
    let services = bed.get("/v1/catalog/node/one?token=app").await.json();
    assert_eq!(services["Services"].as_object().map(serde_json::Map::len), Some(1));
    for (uri, body) in [
        (
            "register",
            json!({"Node": "one", "SkipNodeUpdate": true, "Service": {"Service": "db", "Port": 1}}),
        ),
        (
            "register",
            json!({"Node": "one", "SkipNodeUpdate": true, "Service": {"ID": "db", "Service": "app"}}),
        ),
        ("register", json!({"Node": "new", "Address": "1.1.1.1", "Service": {"Service": "app"}})),
        ("deregister", json!({"Node": "one", "ServiceID": "db"})),
        ("deregister", json!({"Node": "one"})),
    ] {
        let said = bed.ask("PUT", &format!("/v1/catalog/{uri}?token=app"), body.to_string()).await;
        assert_eq!(said.status, StatusCode::FORBIDDEN, "{uri} {body}");
    }
    let own = json!({"Node": "one", "ServiceID": "app"}).to_string();
    assert!(bed.put("/v1/catalog/deregister?token=app", own).await);
}

/// A query for what is newer than what there is.
async fn waiting(bed: &Arc<Bed>, uri: &'static str) -> JoinHandle<Said> {
    let index = bed.get(uri).await.index();
    let bed = Arc::clone(bed);
    tokio::spawn(async move { bed.get(&format!("{uri}&index={index}")).await })
}

#[tokio::test]
async fn changes_wake_those_whose_answer_is_another_one() {
    let bed = Arc::new(bed().await);
    redis(&bed, "a", "passing").await;
    let query = waiting(&bed, "/v1/health/service/redis?passing").await;
    register(&bed, json!({"Node": "b", "Address": "10.1.1.2"})).await;
    redis(&bed, "a", "critical").await;
    assert_eq!(query.await.unwrap().text(), "[]");
    let query = waiting(&bed, "/v1/catalog/nodes?x").await;
    assert!(bed.put("/v1/catalog/deregister", json!({"Node": "b"}).to_string()).await);
    assert_eq!(query.await.unwrap().json().as_array().map(Vec::len), Some(3));
    let query = waiting(&bed, "/v1/health/node/two?x").await;
    assert!(bed.put("/v1/kv/x", "1").await);
    bed.cluster.set(Status::Critical, bed.store.revision());
    assert_eq!(query.await.unwrap().json()[0]["Status"], "critical");
}

#[tokio::test]
async fn a_wait_without_a_change_ends_with_the_same_index() {
    let bed = bed().await;
    redis(&bed, "a", "passing").await;
    let index = bed.get("/v1/catalog/nodes").await.index();
    let said = bed.get(&format!("/v1/catalog/nodes?wait=1ms&index={index}")).await;
    assert_eq!(said.index(), index);
    // What was deleted since the client looked is a change, though nothing shows it.
    assert!(bed.put("/v1/catalog/deregister", json!({"Node": "a"}).to_string()).await);
    let late = bed.get(&format!("/v1/catalog/nodes?index={index}")).await;
    assert!(late.index() > index);
}

#[tokio::test]
async fn coordinates_are_kept_and_sort() {
    let bed = bed().await;
    let update = async |node: &str, first: f64| {
        let coordinate = json!({
            "Vec": [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            "Error": 1.5, "Adjustment": 0.0, "Height": 0.00001,
        });
        let body = json!({"Node": node, "Segment": "", "Coord": coordinate}).to_string();
        let said = bed.ask("PUT", "/v1/coordinate/update", body).await;
        assert_eq!((said.status, said.text()), (StatusCode::OK, ""));
    };
    let none = bed.get("/v1/coordinate/node/one").await;
    assert_eq!((none.status, none.text()), (StatusCode::NOT_FOUND, ""));
    redis(&bed, "near", "passing").await;
    redis(&bed, "far", "passing").await;
    for (node, first) in [("ONE", 0.0), ("near", 0.001), ("far", 0.1), ("nobody", 0.0)] {
        update(node, first).await;
    }
    let shown = bed.get("/v1/coordinate/node/near").await.json();
    assert_eq!((&shown[0]["Node"], &shown[0]["Coord"]["Vec"][0]), (&json!("near"), &json!(0.001)));
    let all = bed.get("/v1/coordinate/nodes").await.json();
    assert_eq!(all.as_array().map(Vec::len), Some(3), "none of a node that is not there");
    let servers = bed.get("/v1/coordinate/datacenters").await.json();
    assert_eq!(servers[0]["Coordinates"][0]["Node"], "one");
    for (near, wanted) in [("_agent", ["near", "far"]), ("far", ["far", "near"])] {
        let found = bed.get(&format!("/v1/catalog/service/redis?near={near}")).await.json();
        assert_eq!([&found[0]["Node"], &found[1]["Node"]], wanted);
    }
    let short = json!({"Node": "one", "Coord": {"Vec": [0.1]}}).to_string();
    let said = bed.ask("PUT", "/v1/coordinate/update", short).await;
    assert_eq!((said.status.as_u16(), said.text()), (500, "incompatible coordinate"));
}

#[tokio::test]
async fn the_quorum_is_shown() {
    let bed = bed().await;
    let wanted = json!({"Index": 0, "Servers": [{
        "ID": "1", "Node": "one", "Address": "127.0.0.1:2377", "Leader": true, "ProtocolVersion": "3",
        "Voter": true,
    }]});
    assert_eq!(bed.get("/v1/operator/raft/configuration").await.json(), wanted);
    let denied = bed.get("/v1/operator/raft/configuration?token=app").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
}
