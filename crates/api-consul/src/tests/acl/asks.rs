//! How each endpoint is asked for something that is there, as data.

use crate::route::Route;

/// Route, method, what comes behind the path, and the body; names in braces stand for ids.
const ASKS: &[(&str, &str, &str, &str)] = &[
    ("/v1/kv/", "GET", "a/1", ""),
    ("/v1/kv/", "GET", "a/1?raw", ""),
    ("/v1/kv/", "GET", "?recurse", ""),
    ("/v1/kv/", "GET", "?keys", ""),
    ("/v1/kv/", "PUT", "a/1", "y"),
    ("/v1/kv/", "PUT", "a/1?acquire={session}", "y"),
    ("/v1/kv/", "DELETE", "a/1", ""),
    ("/v1/kv/", "DELETE", "?recurse", ""),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"set","Key":"a/1"}}]"#),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"get","Key":"a/1"}}]"#),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"get-tree","Key":"a"}}]"#),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"check-not-exists","Key":"a/2"}}]"#),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"delete-tree","Key":""}}]"#),
    ("/v1/session/create", "PUT", "", "{}"),
    ("/v1/session/renew/", "PUT", "{session}", ""),
    ("/v1/session/info/", "GET", "{session}", ""),
    ("/v1/session/node/", "GET", "one", ""),
    ("/v1/session/destroy/", "PUT", "{session}", ""),
    ("/v1/event/fire/", "PUT", "e", "x"),
    ("/v1/catalog/register", "PUT", "", r#"{"Node":"new","Address":"10.1.1.1"}"#),
    (
        "/v1/catalog/register",
        "PUT",
        "",
        r#"{"Node":"ext","Address":"10.1.1.1","Service":{"Service":"web"}}"#,
    ),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"ext","ServiceID":"web"}"#),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"ext","ServiceID":"no"}"#),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"ext","CheckID":"no"}"#),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"no"}"#),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"ext"}"#),
    ("/v1/catalog/service/", "GET", "web", ""),
    ("/v1/catalog/node/", "GET", "ext", ""),
    ("/v1/catalog/node-services/", "GET", "ext", ""),
    ("/v1/health/node/", "GET", "ext", ""),
    ("/v1/health/checks/", "GET", "web", ""),
    ("/v1/health/service/", "GET", "web", ""),
    ("/v1/health/state/", "GET", "any", ""),
    ("/v1/coordinate/node/", "GET", "ext", ""),
    (
        "/v1/coordinate/update",
        "PUT",
        "",
        r#"{"Node":"ext","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":2}}"#,
    ),
    ("/v1/query", "GET", "", ""),
    ("/v1/query", "POST", "", r#"{"Name":"p","Service":{"Service":"web"}}"#),
    ("/v1/query/", "GET", "{query}", ""),
    ("/v1/query/", "GET", "{query}/explain", ""),
    ("/v1/query/", "PUT", "{query}", r#"{"Name":"p2","Service":{"Service":"web"}}"#),
    ("/v1/query/", "DELETE", "{query}", ""),
    ("/v1/acl/token", "PUT", "", "{}"),
    ("/v1/acl/token/", "GET", "{token}", ""),
    ("/v1/acl/token/", "PUT", "{token}", "{}"),
    ("/v1/acl/token/", "PUT", "{token}/clone", "{}"),
    ("/v1/acl/token/", "DELETE", "{token}", ""),
    ("/v1/acl/policy", "PUT", "", r#"{"Name":"new"}"#),
    ("/v1/acl/policy/", "GET", "{policy}", ""),
    ("/v1/acl/policy/", "PUT", "{policy}", r#"{"Name":"new2"}"#),
    ("/v1/acl/policy/", "DELETE", "{policy}", ""),
    ("/v1/acl/policy/name/", "GET", "global-management", ""),
    ("/v1/acl/role", "PUT", "", r#"{"Name":"new"}"#),
    ("/v1/acl/role/", "GET", "{role}", ""),
    ("/v1/acl/role/", "PUT", "{role}", r#"{"Name":"new2"}"#),
    ("/v1/acl/role/", "DELETE", "{role}", ""),
    ("/v1/acl/role/name/", "GET", "r0", ""),
    ("/v1/agent/service/", "GET", "web", ""),
    ("/v1/agent/service/register", "PUT", "", r#"{"Name":"new"}"#),
    ("/v1/agent/service/register", "PUT", "", r#"{"Name":"new","ID":"web"}"#),
    ("/v1/agent/service/deregister/", "PUT", "web", ""),
    ("/v1/agent/service/maintenance/", "PUT", "web?enable=true", ""),
    ("/v1/agent/check/register", "PUT", "", r#"{"Name":"new","TTL":"60s"}"#),
    ("/v1/agent/check/register", "PUT", "", r#"{"Name":"own","TTL":"60s","ServiceID":"web"}"#),
    ("/v1/agent/check/deregister/", "PUT", "own", ""),
    ("/v1/agent/check/pass/", "PUT", "own", ""),
    ("/v1/agent/check/warn/", "PUT", "service:web", ""),
    ("/v1/agent/check/fail/", "PUT", "own", ""),
    ("/v1/agent/check/update/", "PUT", "own", r#"{"Status":"passing"}"#),
    ("/v1/agent/health/service/id/", "GET", "web", ""),
    ("/v1/agent/health/service/name/", "GET", "web", ""),
    ("/v1/agent/maintenance", "PUT", "?enable=true", ""),
    ("/v1/agent/join/", "PUT", "10.0.0.1", ""),
    ("/v1/agent/leave", "PUT", "", ""),
    ("/v1/agent/force-leave/", "PUT", "two", ""),
];

/// The URIs and bodies with which an endpoint is asked; a path that is whole is read as it is.
pub(super) fn of(route: &Route, method: &str) -> Vec<(String, &'static str)> {
    let of_it = |ask: &&(&str, &str, &str, &str)| ask.0 == route.path && ask.1 == method;
    let asks = ASKS.iter().filter(of_it);
    let mut asks: Vec<_> = asks.map(|ask| (format!("{}{}", route.path, ask.2), ask.3)).collect();
    if asks.is_empty() && method == "GET" && !route.path.ends_with('/') {
        asks.push((route.path.to_owned(), ""));
    }
    assert!(!asks.is_empty(), "say in this file how {method} {} is asked", route.path);
    asks
}
