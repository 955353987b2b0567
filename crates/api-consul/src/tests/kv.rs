//! Keys: what Consul's documentation says of reads, writes, compares, lists and deletes.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::bed;

#[tokio::test]
async fn a_key_is_written_and_read() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/group1/key1", "value1").await);
    let said = bed.get("/v1/kv/group1/key1").await;
    let index = said.index();
    let wanted = format!(
        "[{{\"LockIndex\":0,\"Key\":\"group1/key1\",\"Flags\":0,\"Value\":\"dmFsdWUx\",\
         \"CreateIndex\":{index},\"ModifyIndex\":{index}}}]"
    );
    assert_eq!(said.text(), wanted);
    assert_eq!(said.header("content-type"), "application/json");
    assert_eq!(said.header("vary"), "Accept-Encoding");
    assert_eq!(said.header("x-consul-knownleader"), "true");
    assert_eq!(said.header("x-consul-lastcontact"), "0");
    assert_eq!(said.header("x-consul-effective-consistency"), "leader");
    let stale = bed.get("/v1/kv/group1/key1?stale").await;
    assert_eq!(stale.header("x-consul-effective-consistency"), "stale");
    let pretty = bed.get("/v1/kv/group1/key1?pretty").await;
    assert!(pretty.text().starts_with("[\n    {\n        \"LockIndex\": 0,\n"), "{pretty:?}");
    assert!(pretty.text().ends_with("}\n]\n"));
}

#[tokio::test]
async fn what_is_not_there_is_a_bare_404() {
    let bed = bed().await;
    for uri in [
        "/v1/kv/none",
        "/v1/kv/none?raw",
        "/v1/kv/none?recurse",
        "/v1/kv/none?keys",
        "/v1/kv/?recurse",
    ] {
        let said = bed.get(uri).await;
        assert_eq!((said.status, said.text()), (StatusCode::NOT_FOUND, ""), "{uri}");
        assert!(said.index() > 0, "{uri}");
    }
    let root = bed.get("/v1/kv/?keys").await;
    assert_eq!((root.status, root.text()), (StatusCode::OK, "[]"));
}

#[tokio::test]
async fn raw_values_are_never_pages() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/page", "<script>alert(1)</script>").await);
    let said = bed.get("/v1/kv/page?raw").await;
    assert_eq!(said.text(), "<script>alert(1)</script>");
    assert_eq!(said.header("content-type"), "text/plain");
    assert_eq!(said.header("x-content-type-options"), "nosniff");
    assert_eq!(said.header("content-security-policy"), "sandbox");
    assert!(bed.put("/v1/kv/empty", "").await);
    assert_eq!(bed.entry("empty").await["Value"], json!(null));
}

#[tokio::test]
async fn the_same_value_again_changes_nothing() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a?flags=7", "1").await);
    let first = bed.entry("a").await;
    assert_eq!(first["Flags"], 7);
    assert!(bed.put("/v1/kv/a?flags=7", "1").await);
    assert_eq!(bed.entry("a").await, first);
    assert!(bed.put("/v1/kv/a?flags=18446744073709551615", "1").await);
    let second = bed.entry("a").await;
    assert_eq!(second["Flags"], json!(u64::MAX));
    assert_eq!(second["CreateIndex"], first["CreateIndex"]);
    assert!(second["ModifyIndex"].as_u64() > first["ModifyIndex"].as_u64());
}

#[tokio::test]
async fn compare_and_set() {
    let bed = bed().await;
    assert!(!bed.put("/v1/kv/a?cas=5", "x").await, "there is nothing to compare with");
    assert!(bed.put("/v1/kv/a?cas=0", "1").await);
    assert!(!bed.put("/v1/kv/a?cas=0", "2").await);
    let index = bed.entry("a").await["ModifyIndex"].as_u64().unwrap();
    assert!(!bed.put(&format!("/v1/kv/a?cas={}", index + 1), "2").await);
    assert!(bed.put(&format!("/v1/kv/a?cas={index}"), "2").await);
    assert!(!bed.delete(&format!("/v1/kv/a?cas={index}")).await);
    let index = bed.entry("a").await["ModifyIndex"].as_u64().unwrap();
    assert!(bed.delete(&format!("/v1/kv/a?cas={index}")).await);
    assert!(bed.delete(&format!("/v1/kv/a?cas={index}")).await, "it is gone, as was asked");
}

#[tokio::test]
async fn lists_and_trees() {
    let bed = bed().await;
    for key in ["web/a", "web/b/1", "web/b/2", "webs", "x"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), key).await);
    }
    let keys = async |uri: &str| bed.get(uri).await.json();
    assert_eq!(keys("/v1/kv/web/?keys").await, json!(["web/a", "web/b/1", "web/b/2"]));
    assert_eq!(keys("/v1/kv/web/?keys&separator=%2F").await, json!(["web/a", "web/b/"]));
    assert_eq!(keys("/v1/kv/web/?keys&seperator=/").await, json!(["web/a", "web/b/"]));
    assert_eq!(keys("/v1/kv/?keys&separator=/").await, json!(["web/", "webs", "x"]));
    assert_eq!(keys("/v1/kv/web?keys").await, json!(["web/a", "web/b/1", "web/b/2", "webs"]));
    let list = bed.get("/v1/kv/web/?recurse").await.json();
    let listed: Vec<_> = list.as_array().unwrap().iter().map(|entry| &entry["Key"]).collect();
    assert_eq!(listed, ["web/a", "web/b/1", "web/b/2"]);
    assert!(bed.delete("/v1/kv/web/?recurse").await);
    assert_eq!(keys("/v1/kv/?keys").await, json!(["webs", "x"]));
    assert!(bed.delete("/v1/kv/?recurse").await);
    assert_eq!(keys("/v1/kv/?keys").await, json!([]));
    assert!(bed.delete("/v1/kv/web/?recurse").await);
}

#[tokio::test]
async fn keys_are_bytes_and_never_paths() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a%2fb%20%25c+d", "1").await);
    assert_eq!(bed.entry("a/b%20%25c%2bd").await["Key"], "a/b %c+d");
    for (uri, to) in [
        ("/v1/kv/a//b", "/v1/kv/a/b"),
        ("/v1/kv/../../etc/passwd", "/etc/passwd"),
        ("/v1/kv/a/%2e%2e/b", "/v1/kv/b"),
        ("/v1/kv/a%2f..%2f..%2f..%2fv1%2fsession%2flist", "/v1/session/list"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let said = bed.ask(method, uri, "x").await;
            assert_eq!(said.status, StatusCode::MOVED_PERMANENTLY, "{method} {uri}");
            assert_eq!(said.header("location"), to);
        }
    }
    for uri in ["/v1/kv/a%00b", "/v1/kv/a%0d%0ab", "/v1/kv/a%zz"] {
        assert_eq!(bed.ask("PUT", uri, "x").await.status, StatusCode::BAD_REQUEST, "{uri}");
    }
    assert!(bed.put("/v1/kv/%ff%fe", "2").await);
    assert_eq!(bed.get("/v1/kv/%ff%fe?raw").await.text(), "2");
    assert_eq!(bed.get("/v1/kv/%ff%fd").await.status, StatusCode::NOT_FOUND, "not the same key");
    assert_eq!(bed.entry("%ff%fe").await["Key"], "\u{fffd}\u{fffd}");
}

#[tokio::test]
async fn large_values() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/big", vec![b'x'; 512 << 10]).await);
    assert_eq!(bed.get("/v1/kv/big?raw").await.body.len(), 512 << 10);
    let said = bed.ask("PUT", "/v1/kv/big", vec![b'x'; (512 << 10) + 1]).await;
    assert_eq!(said.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(said.text().starts_with("Request body(524289 bytes) too large"), "{}", said.text());
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let bed = bed().await;
    let bad = StatusCode::BAD_REQUEST;
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    for (method, uri, status, words) in [
        ("GET", "/v1/kv/", bad, "Missing key name"),
        ("PUT", "/v1/kv/", bad, "Missing key name"),
        ("DELETE", "/v1/kv/", bad, "Missing key name"),
        ("PUT", "/v1/kv/a?cas=1&acquire=s", bad, "Conflicting flags: acquire=s&cas=1"),
        ("DELETE", "/v1/kv/a?recurse&cas=1", bad, "Conflicting flags: cas=1&recurse="),
        ("PUT", "/v1/kv/a?cas=x", failed, "strconv.ParseUint: parsing \"x\": invalid syntax"),
        (
            "PUT",
            "/v1/kv/a?flags=99999999999999999999",
            failed,
            "strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
        ),
        ("PUT", "/v1/kv/a?acquire=", failed, "missing session"),
        (
            "PUT",
            "/v1/kv/a?acquire=nobody",
            failed,
            "failed session lookup: index error: UUID must be 36 characters",
        ),
        ("PUT", "/v1/kv/a?release=", failed, "missing session"),
        (
            "GET",
            "/v1/kv/a?ns=x",
            bad,
            "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
        ),
        ("GET", "/v1/kv/a?index=x", bad, "Invalid index"),
        ("GET", "/v1/kv/a?wait=5", bad, "Invalid wait time"),
        ("GET", "/v1/kv/a?dc=mars", failed, "No path to datacenter"),
        ("POST", "/v1/kv/a", StatusCode::METHOD_NOT_ALLOWED, "method POST not allowed"),
    ] {
        let said = bed.ask(method, uri, "").await;
        assert_eq!((said.status, said.text()), (status, words), "{method} {uri}");
    }
    let allowed = bed.ask("POST", "/v1/kv/a", "").await;
    assert_eq!(allowed.header("allow"), "OPTIONS,GET,PUT,DELETE");
    let options = bed.ask("OPTIONS", "/v1/kv/a", "").await;
    assert_eq!(
        (options.status, options.header("allow")),
        (StatusCode::OK, "OPTIONS,GET,PUT,DELETE")
    );
    assert_eq!(bed.get("/v1/connect/ca/roots").await.status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(bed.get("/v1/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_token_reaches_only_what_it_may() {
    let bed = bed().await;
    for key in ["app/a", "other/b"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), "1").await);
    }
    let ask = async |method: &str, uri: &str| {
        let request = Request::builder().method(method).uri(uri).header("X-Consul-Token", "app");
        bed.send(request.body(Full::from("2")).unwrap()).await
    };
    for (method, uri) in [
        ("GET", "/v1/kv/other/b"),
        ("PUT", "/v1/kv/other/b"),
        ("DELETE", "/v1/kv/other/b"),
        ("DELETE", "/v1/kv/?recurse"),
        ("PUT", "/v1/kv/app"),
    ] {
        let said = ask(method, uri).await;
        assert_eq!(
            (said.status, said.text()),
            (StatusCode::FORBIDDEN, "Permission denied"),
            "{method} {uri}"
        );
    }
    assert_eq!(ask("PUT", "/v1/kv/app/a").await.text(), "true");
    assert_eq!(ask("GET", "/v1/kv/?keys").await.json(), json!(["app/a"]));
    assert_eq!(ask("GET", "/v1/kv/?recurse").await.json().as_array().map(Vec::len), Some(1));
    assert_eq!(ask("GET", "/v1/kv/other/?recurse").await.status, StatusCode::NOT_FOUND);
    let unknown = bed.get("/v1/kv/app/a?token=stranger").await;
    assert_eq!((unknown.status, unknown.text()), (StatusCode::FORBIDDEN, "ACL not found"));
}
