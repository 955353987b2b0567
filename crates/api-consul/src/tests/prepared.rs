//! Prepared queries: made, changed, shown, run.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Bed, Said, bed};

async fn make(bed: &Bed, body: Value) -> Said {
    bed.ask("POST", "/v1/query", body.to_string()).await
}

async fn instance(bed: &Bed, node: &str, tags: Value, status: &str) {
    let body = json!({
        "Node": node, "Address": "10.1.1.1", "NodeMeta": {"zone": node},
        "Service": {"Service": "web", "Tags": tags, "Meta": {"color": "red"}},
        "Check": {"CheckID": "up", "Name": "up", "Status": status, "ServiceID": "web"},
    });
    assert!(bed.put("/v1/catalog/register", body.to_string()).await);
}

#[tokio::test]
async fn a_query_is_made_shown_changed_and_deleted() {
    let bed = bed().await;
    let body = json!({
        "Name": "q1", "DNS": {"TTL": "10s"},
        "Service": {"Service": "web", "Tags": ["v1", "!v2"], "OnlyPassing": true},
    });
    let id = make(&bed, body).await.json()["ID"].as_str().unwrap().to_owned();
    let said = bed.get("/v1/query").await;
    let index = said.json()[0]["ModifyIndex"].as_u64().unwrap();
    let wanted = format!(
        "[{{\"ID\":\"{id}\",\"Name\":\"q1\",\"Session\":\"\",\"Token\":\"\",\"Template\":{{\"Type\":\"\",\
         \"Regexp\":\"\",\"RemoveEmptyTags\":false}},\"Service\":{{\"Service\":\"web\",\"Failover\":\
         {{\"NearestN\":0,\"Datacenters\":null}},\"OnlyPassing\":true,\"IgnoreCheckIDs\":null,\"Near\":\"\",\
         \"Tags\":[\"v1\",\"!v2\"],\"NodeMeta\":null,\"ServiceMeta\":null,\"Connect\":false}},\
         \"DNS\":{{\"TTL\":\"10s\"}},\"CreateIndex\":{index},\"ModifyIndex\":{index}}}]"
    );
    assert_eq!(said.text(), wanted);
    assert_eq!(bed.get(&format!("/v1/query/{id}")).await.text(), wanted);
    let other = json!({"Name": "Q1", "Service": {"Service": "web"}});
    let said = make(&bed, other.clone()).await;
    assert_eq!(
        (said.status.as_u16(), said.text()),
        (500, "name 'Q1' aliases an existing query name")
    );
    let changed = bed.ask("PUT", &format!("/v1/query/{id}"), other.to_string()).await;
    assert_eq!((changed.status, changed.text()), (StatusCode::OK, ""));
    assert_eq!(bed.get(&format!("/v1/query/{id}")).await.json()[0]["Name"], "Q1");
    assert_eq!(bed.ask("DELETE", &format!("/v1/query/{id}"), "").await.status, StatusCode::OK);
    assert_eq!(bed.get("/v1/query").await.text(), "[]");
    for (method, words) in
        [("PUT", "Cannot modify non-existent prepared query: "), ("DELETE", "Cannot modify")]
    {
        let said = bed.ask(method, &format!("/v1/query/{id}"), other.to_string()).await;
        assert!(said.status == 500 && said.text().starts_with(words), "{}", said.text());
    }
    for uri in [
        format!("/v1/query/{id}"),
        "/v1/query/q1/execute".to_owned(),
        "/v1/query/q1/explain".to_owned(),
    ] {
        let said = bed.get(&uri).await;
        assert_eq!((said.status, said.text()), (StatusCode::NOT_FOUND, "Query not found"), "{uri}");
    }
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let bed = bed().await;
    for (body, status, words) in [
        (
            json!({"Service": {"Service": "web"}}),
            500,
            "Invalid prepared query: Must be bound to a session",
        ),
        (json!({"Name": "q"}), 500, "Invalid prepared query: Must provide a Service name to query"),
        (
            json!({"ID": "x", "Name": "q", "Service": {"Service": "web"}}),
            500,
            "ID must be empty when creating a new prepared query",
        ),
    ] {
        let said = make(&bed, body).await;
        assert_eq!((said.status.as_u16(), said.text()), (status, words));
    }
    let ttl =
        make(&bed, json!({"Name": "q", "Service": {"Service": "w"}, "DNS": {"TTL": "x"}})).await;
    assert!(ttl.text().starts_with("Invalid prepared query: Bad DNS TTL 'x': "), "{}", ttl.text());
    for more in ["Session", "Token"] {
        let said = make(&bed, json!({"Name": "q", more: "x", "Service": {"Service": "web"}})).await;
        assert_eq!(said.status, StatusCode::NOT_IMPLEMENTED, "{more}");
    }
    let said = bed.get("/v1/query/q1").await;
    let words = "failed prepared query lookup: index error: UUID must be 36 characters";
    assert_eq!((said.status.as_u16(), said.text()), (500, words));
}

#[tokio::test]
async fn a_query_finds_what_it_wants() {
    let bed = bed().await;
    instance(&bed, "a", json!(["v1"]), "passing").await;
    instance(&bed, "b", json!(["v1", "v2"]), "warning").await;
    instance(&bed, "c", json!(["v1"]), "critical").await;
    let found = async |wanted: Value, query: &str| {
        let mut service = json!({"Service": "web"});
        service.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
        let id = make(&bed, json!({"Name": "q", "Service": service})).await.json()["ID"].clone();
        let said = bed.get(&format!("/v1/query/q/execute{query}")).await.json();
        let uri = format!("/v1/query/{}", id.as_str().unwrap());
        assert_eq!(bed.ask("DELETE", &uri, "").await.status, StatusCode::OK);
        let name = |item: &Value| item["Node"]["Node"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = said["Nodes"].as_array().unwrap().iter().map(name).collect();
        if !query.contains("near") {
            names.sort();
        }
        names.join("")
    };
    assert_eq!(found(json!({}), "").await, "ab");
    assert_eq!(found(json!({"OnlyPassing": true}), "").await, "a");
    assert_eq!(found(json!({"IgnoreCheckIDs": ["up"]}), "").await, "abc");
    assert_eq!(found(json!({"Tags": ["v1", "!v2"]}), "").await, "a");
    assert_eq!(found(json!({"NodeMeta": {"zone": "b"}}), "").await, "b");
    assert_eq!(found(json!({"ServiceMeta": {"color": "blue"}}), "").await, "");
    assert_eq!(found(json!({}), "?near=b").await, "ba");
    assert_eq!(found(json!({"Near": "b"}), "?limit=1").await, "b");
    make(&bed, json!({"Name": "app", "Service": {"Service": "web"}})).await;
    assert_eq!(
        bed.get("/v1/query/app/execute?limit=x").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let seen = bed.get("/v1/query/app/execute?token=app").await.json();
    assert_eq!(seen["Nodes"], json!([]), "the token sees no such service");
    make(&bed, json!({"Name": "other", "Service": {"Service": "web"}})).await;
    let seen = bed.get("/v1/query/other/execute?token=app").await.json();
    assert_eq!(seen["Nodes"], json!([]), "who may run it sees no more for that");
    assert_eq!(bed.get("/v1/query/other/explain?token=app").await.status, StatusCode::FORBIDDEN);
    assert_eq!(bed.get("/v1/query?token=app").await.json().as_array().map(Vec::len), Some(1));
    let explained = bed.get("/v1/query/app/explain").await.json();
    assert_eq!(explained["Query"]["Name"], "app");
}
