//! Every endpoint of the table, asked without a token where everything is denied: it does nothing and tells nothing.

use ::http::StatusCode;
use serde_json::json;

use super::{Guarded, asks, deny};
use crate::route::{Needs, ROUTES};

/// The only endpoints that are for everybody. Whoever adds one here must say why.
const PUBLIC: [&str; 7] = [
    // As in Consul, who leads and where it is, which clients ask before they have a token.
    "/v1/status/leader",
    "/v1/status/peers",
    "/v1/catalog/datacenters",
    // Works once, before there is any token.
    "/v1/acl/bootstrap",
    // Always the same.
    "/v1/acl/replication",
    // Tells who shows a secret about that token alone.
    "/v1/acl/token/self",
    // What is not served.
    "/v1/acl/",
];

/// Answers with nothing in them.
const EMPTY: [&str; 6] = ["", "[]", "{}", "null", "{\"Node\":null,\"Services\":null}", NO_AREA];
const NO_AREA: &str = "[{\"Datacenter\":\"dc1\",\"AreaID\":\"wan\",\"Coordinates\":[]}]";

/// Makes what the endpoints can tell and change; the ids that stand for names in braces. The number keeps names apart
/// that no two may have.
async fn things(all: &Guarded, number: usize) -> Vec<(&'static str, String)> {
    let external = r#"{"Node":"ext","Address":"10.9.9.9","Service":{"Service":"web"}}"#;
    for (uri, body) in [
        ("/v1/kv/a/1", "x"),
        ("/v1/catalog/register", external),
        ("/v1/agent/service/register", r#"{"Name":"web","Check":{"TTL":"60s"}}"#),
        ("/v1/agent/check/register", r#"{"Name":"own","TTL":"60s"}"#),
        ("/v1/event/fire/e", "x"),
        ("/v1/coordinate/update", r#"{"Node":"ext","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1}}"#),
    ] {
        all.manage("PUT", uri, body).await;
    }
    let query = json!({ "Name": format!("q{number}"), "Service": { "Service": "web" } });
    let mut ids = Vec::new();
    for (name, method, uri, body, id) in [
        ("{session}", "PUT", "/v1/session/create", json!({}), "ID"),
        ("{query}", "POST", "/v1/query", query, "ID"),
        ("{role}", "PUT", "/v1/acl/role", json!({ "Name": format!("r{number}") }), "ID"),
        ("{policy}", "PUT", "/v1/acl/policy", json!({ "Name": format!("p{number}") }), "ID"),
        ("{token}", "PUT", "/v1/acl/token", json!({}), "AccessorID"),
    ] {
        let made = all.manage(method, uri, body.to_string()).await;
        ids.push((name, made[id].as_str().unwrap().to_owned()));
    }
    ids
}

/// An URI with ids instead of the names in braces.
fn filled(uri: &str, ids: &[(&'static str, String)]) -> String {
    ids.iter().fold(uri.to_owned(), |uri, (name, id)| uri.replace(name, id))
}

#[tokio::test]
async fn without_a_token_nothing_is_done_and_nothing_told() {
    let all = deny().await;
    let ids = things(&all, 0).await;
    let revision = all.bed.store.revision();
    for route in ROUTES {
        assert_eq!(route.needs == Needs::Nothing, PUBLIC.contains(&route.path), "{}", route.path);
        if route.needs == Needs::Nothing {
            continue;
        }
        for method in route.methods {
            for (uri, body) in asks::of(route, method.as_str()) {
                let uri = filled(&uri, &ids);
                let said = all.ask("", method.as_str(), &uri, body).await;
                let is_denied = match said.status {
                    StatusCode::FORBIDDEN => said.text().starts_with("Permission denied"),
                    // A transaction of which each operation is denied, or whose answer is left empty.
                    StatusCode::CONFLICT => said.text().contains("Permission denied"),
                    StatusCode::OK if route.path == "/v1/txn" => {
                        said.text().contains("\"Results\":[]")
                    }
                    StatusCode::OK | StatusCode::NOT_FOUND => EMPTY.contains(&said.text()),
                    _ => false,
                };
                assert!(is_denied, "{method} {uri} {body}: {} {}", said.status, said.text());
                let said = all.ask(super::NOBODY, method.as_str(), &uri, body).await;
                assert_eq!(said.text(), "ACL not found", "{method} {uri}");
            }
        }
    }
    assert_eq!(all.bed.store.revision(), revision, "something was written");
}

/// The requests of the walk are such that who may do everything is answered.
#[tokio::test]
async fn who_may_do_everything_is_denied_nothing() {
    let all = deny().await;
    let routes = ROUTES.iter().filter(|route| route.needs != Needs::Nothing);
    for (number, route) in routes.enumerate() {
        for (place, method) in route.methods.iter().enumerate() {
            // Some take away what others need.
            let ids = things(&all, number * 10 + place).await;
            for (uri, body) in asks::of(route, method.as_str()) {
                let uri = filled(&uri, &ids);
                let said = all.ask(&all.management, method.as_str(), &uri, body).await;
                let is_denied = said.status == StatusCode::FORBIDDEN;
                // A snapshot is no text.
                let text = String::from_utf8_lossy(&said.body);
                assert!(!is_denied, "{method} {uri} {body}: {}", text);
                assert!(!text.contains("Permission denied"), "{method} {uri}: {}", text);
            }
        }
    }
}
