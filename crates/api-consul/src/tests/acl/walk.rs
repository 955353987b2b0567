//! Every endpoint of the table, asked without a token where everything is denied: it does nothing and tells nothing.

use ::http::StatusCode;
use serde_json::json;

use super::{Guarded, deny};
use crate::route::{Needs, ROUTES, Route};

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

/// What the store has for the endpoints to tell and change.
struct Things {
    session: String,
    query: String,
    role: String,
    token: String,
}

/// Makes them; the number keeps names apart that others may not have as well.
async fn things(all: &Guarded, number: usize) -> Things {
    let coordinate =
        json!({ "Node": "ext", "Coord": { "Vec": [0, 0, 0, 0, 0, 0, 0, 0], "Error": 1 } });
    for (uri, body) in [
        ("/v1/kv/a/1", "x".to_owned()),
        (
            "/v1/catalog/register",
            r#"{"Node":"ext","Address":"10.9.9.9","Service":{"Service":"web"}}"#.to_owned(),
        ),
        ("/v1/agent/service/register", r#"{"Name":"web","Check":{"TTL":"60s"}}"#.to_owned()),
        ("/v1/agent/check/register", r#"{"Name":"own","TTL":"60s"}"#.to_owned()),
        ("/v1/event/fire/e", "x".to_owned()),
        ("/v1/coordinate/update", coordinate.to_string()),
    ] {
        all.manage("PUT", uri, body).await;
    }
    let text = |value: serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
    let query =
        json!({ "Name": format!("q{number}"), "Service": { "Service": "web" } }).to_string();
    let role = json!({ "Name": format!("r{number}") }).to_string();
    Things {
        session: text(all.manage("PUT", "/v1/session/create", "{}").await, "ID"),
        query: text(all.manage("POST", "/v1/query", query).await, "ID"),
        role: text(all.manage("PUT", "/v1/acl/role", role).await, "ID"),
        token: text(all.manage("PUT", "/v1/acl/token", "{}").await, "AccessorID"),
    }
}

/// How an endpoint is asked for something that is there: all the ways that do something of their own.
fn asks(things: &Things, route: &Route, method: &str) -> Vec<(String, String)> {
    let rest = |rest: &str| vec![(format!("{}{rest}", route.path), String::new())];
    let body = |body: &str| vec![(route.path.to_owned(), body.to_owned())];
    match (route.path, method) {
        ("/v1/kv/", "PUT") => rest("a/1"),
        ("/v1/kv/", "DELETE") => ["a/1", "a/?recurse"].iter().flat_map(|r| rest(r)).collect(),
        ("/v1/kv/", _) => {
            ["a/1", "a/1?raw", "?recurse", "?keys"].iter().flat_map(|r| rest(r)).collect()
        }
        ("/v1/txn", _) => ["set", "get", "get-tree", "delete-tree", "check-not-exists"]
            .iter()
            .flat_map(|verb| body(&format!(r#"[{{"KV":{{"Verb":"{verb}","Key":"a/1"}}}}]"#)))
            .collect(),
        ("/v1/session/create", _) => body("{}"),
        (
            "/v1/session/node/"
            | "/v1/health/node/"
            | "/v1/catalog/node/"
            | "/v1/catalog/node-services/",
            _,
        )
        | ("/v1/coordinate/node/", _) => rest("ext"),
        (path, _) if path.starts_with("/v1/session/") && path.ends_with('/') => {
            rest(&things.session)
        }
        ("/v1/event/fire/", _) => rest("e"),
        ("/v1/catalog/register", _) => [
            "{\"Node\":\"new\",\"Address\":\"10.1.1.1\"}",
            r#"{"Node":"ext","Address":"10.1.1.1","Service":{"Service":"web"}}"#,
        ]
        .iter()
        .flat_map(|b| body(b))
        .collect(),
        ("/v1/catalog/deregister", _) => [
            r#"{"Node":"ext"}"#,
            r#"{"Node":"ext","ServiceID":"web"}"#,
            r#"{"Node":"ext","ServiceID":"no"}"#,
            r#"{"Node":"ext","CheckID":"no"}"#,
            r#"{"Node":"no"}"#,
        ]
        .iter()
        .flat_map(|b| body(b))
        .collect(),
        ("/v1/catalog/service/" | "/v1/health/checks/" | "/v1/health/service/", _) => rest("web"),
        ("/v1/health/state/", _) => rest("any"),
        ("/v1/coordinate/update", _) => {
            body(r#"{"Node":"ext","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":2}}"#)
        }
        ("/v1/query", "POST") => body(r#"{"Name":"p","Service":{"Service":"web"}}"#),
        ("/v1/query/", "GET") => [things.query.clone(), format!("{}/explain", things.query)]
            .iter()
            .flat_map(|r| rest(r))
            .collect(),
        ("/v1/query/", "PUT") => vec![(
            format!("/v1/query/{}", things.query),
            r#"{"Name":"p","Service":{"Service":"web"}}"#.to_owned(),
        )],
        ("/v1/query/", _) => rest(&things.query),
        ("/v1/acl/token/", "PUT") => [things.token.clone(), format!("{}/clone", things.token)]
            .iter()
            .map(|id| (format!("/v1/acl/token/{id}"), "{}".to_owned()))
            .collect(),
        ("/v1/acl/token/", _) => rest(&things.token),
        ("/v1/acl/policy/", _) => rest("00000000-0000-0000-0000-000000000001"),
        ("/v1/acl/policy/name/", _) => rest("global-management"),
        ("/v1/acl/role/", "PUT") => {
            vec![(format!("/v1/acl/role/{}", things.role), r#"{"Name":"s"}"#.to_owned())]
        }
        ("/v1/acl/role/", _) => rest(&things.role),
        ("/v1/acl/role/name/", _) => rest("r0"),
        ("/v1/acl/token" | "/v1/acl/policy" | "/v1/acl/role", _) => {
            body(r#"{"Name":"new"}"#).into_iter().chain(body("{}")).collect()
        }
        ("/v1/agent/service/register" | "/v1/agent/check/register", _) => {
            body(r#"{"Name":"new","TTL":"60s"}"#)
                .into_iter()
                .chain(body(r#"{"Name":"new"}"#))
                .collect()
        }
        ("/v1/agent/service/maintenance/", _) => rest("web?enable=true"),
        ("/v1/agent/maintenance", _) => rest("?enable=true"),
        ("/v1/agent/check/update/", _) => {
            vec![(format!("{}own", route.path), r#"{"Status":"passing"}"#.to_owned())]
        }
        (path, _) if path.starts_with("/v1/agent/check/") && path.ends_with('/') => rest("own"),
        ("/v1/agent/service/" | "/v1/agent/service/deregister/", _) => rest("web"),
        ("/v1/agent/health/service/id/" | "/v1/agent/health/service/name/", _) => rest("web"),
        ("/v1/agent/join/", _) => rest("10.0.0.1"),
        ("/v1/agent/force-leave/", _) => rest("two"),
        (path, _) if !path.ends_with('/') => rest(""),
        (path, method) => panic!("say here how {method} {path} is asked"),
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_done_and_nothing_told() {
    let all = deny().await;
    let things = things(&all, 0).await;
    let revision = all.bed.store.revision();
    for route in ROUTES {
        assert_eq!(route.needs == Needs::Nothing, PUBLIC.contains(&route.path), "{}", route.path);
        if route.needs == Needs::Nothing {
            continue;
        }
        for method in route.methods {
            for (uri, body) in asks(&things, route, method.as_str()) {
                let said = all.ask("", method.as_str(), &uri, body.clone()).await;
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
            let things = things(&all, number * 10 + place).await;
            for (uri, body) in asks(&things, route, method.as_str()) {
                let said = all.ask(&all.management, method.as_str(), &uri, body.clone()).await;
                let is_denied = said.status == StatusCode::FORBIDDEN;
                assert!(!is_denied, "{method} {uri} {body}: {}", said.text());
                assert!(
                    !said.text().contains("Permission denied"),
                    "{method} {uri}: {}",
                    said.text()
                );
            }
        }
    }
}
