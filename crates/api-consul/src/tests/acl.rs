//! Access control: tokens, policies and roles, and what a token may do.

mod asks;
mod command;
mod prefix;
mod walk;
mod words;

use std::sync::Arc;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use pontoon_store::{Put, Range, Read, Txn};
use serde_json::{Value, json};

use super::{Bed, Said, bed_with};
use crate::keyspace::{ACL_MARK, ACL_TOKENS, acl_expiration};
use crate::{AclSettings, DefaultPolicy, Secret};

const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000002";
const MANAGEMENT: &str = "00000000-0000-0000-0000-000000000001";
const NOBODY: &str = "11111111-0000-0000-0000-000000000009";

/// A server that asks for tokens, and the secret of a token for management.
struct Guarded {
    bed: Bed,
    management: String,
}

async fn guarded(default_policy: DefaultPolicy) -> Guarded {
    let bed = bed_with(Some(AclSettings { default_policy, initial_management: None })).await;
    let said = bed.ask("PUT", "/v1/acl/bootstrap", "").await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let management = said.json()["SecretID"].as_str().unwrap().to_owned();
    Guarded { bed, management }
}

async fn deny() -> Guarded {
    guarded(DefaultPolicy::Deny).await
}

impl Guarded {
    async fn ask(&self, token: &str, method: &str, uri: &str, body: impl Into<Bytes>) -> Said {
        let request = Request::builder().method(method).uri(uri).header("x-consul-token", token);
        self.bed.send(request.body(Full::new(body.into())).unwrap()).await
    }

    /// Asks with the token for management; it must be answered.
    async fn manage(&self, method: &str, uri: &str, body: impl Into<Bytes>) -> Value {
        let said = self.ask(&self.management, method, uri, body).await;
        assert_eq!(said.status, StatusCode::OK, "{method} {uri}: {}", said.text());
        if said.body.is_empty() { Value::Null } else { said.json() }
    }

    /// A new token with a policy of these rules; its accessor and its secret.
    async fn token(&self, name: &str, rules: &str) -> (String, String) {
        let policy = json!({ "Name": name, "Rules": rules }).to_string();
        self.manage("PUT", "/v1/acl/policy", policy).await;
        let token = json!({ "Policies": [{ "Name": name }] }).to_string();
        ids(&self.manage("PUT", "/v1/acl/token", token).await)
    }

    async fn status(&self, token: &str, method: &str, uri: &str) -> StatusCode {
        self.ask(token, method, uri, "").await.status
    }
}

fn ids(token: &Value) -> (String, String) {
    let text = |name: &str| token[name].as_str().unwrap().to_owned();
    (text("AccessorID"), text("SecretID"))
}

#[tokio::test]
async fn the_first_token_is_given_out_once() {
    let all = deny().await;
    let again = all.bed.ask("PUT", "/v1/acl/bootstrap", "").await;
    let own = all.manage("GET", "/v1/acl/token/self", "").await;
    let index = own["CreateIndex"].as_u64().unwrap();
    let words =
        format!("Permission denied: ACL bootstrap no longer allowed (reset index: {index})");
    assert_eq!((again.status, again.text()), (StatusCode::FORBIDDEN, words.as_str()));
    assert_eq!(own["Policies"], json!([{ "ID": MANAGEMENT, "Name": "global-management" }]));
    assert_eq!(own["SecretID"], json!(all.management));
    let anonymous = all.manage("GET", &format!("/v1/acl/token/{ANONYMOUS}"), "").await;
    assert_eq!(anonymous["SecretID"], "anonymous");
    let policy = all.manage("GET", "/v1/acl/policy/name/global-management", "").await;
    assert_eq!(policy["ID"], MANAGEMENT);
    let replication = all.bed.get("/v1/acl/replication").await;
    assert_eq!(replication.json()["Enabled"], false);
}

#[tokio::test]
async fn the_initial_token_takes_the_place_of_the_first() {
    let secret = "44444444-0000-0000-0000-000000000001".to_owned();
    let initial_management = Some(Secret::from(secret.clone()));
    let settings = AclSettings { default_policy: DefaultPolicy::Allow, initial_management };
    assert!(!format!("{settings:?}").contains(&secret), "a secret is not shown by chance");
    let bed = bed_with(Some(settings)).await;
    let all = Guarded { bed, management: secret.clone() };
    // It is made as soon as the server leads.
    let mut index = 0;
    while all.status(&secret, "GET", "/v1/acl/token/self").await != StatusCode::OK {
        index += 1;
        assert!(index < 10_000, "no initial token");
        tokio::task::yield_now().await;
    }
    assert_eq!(all.status("", "PUT", "/v1/acl/bootstrap").await, StatusCode::FORBIDDEN);
    assert_eq!(
        all.status("", "GET", "/v1/kv/a").await,
        StatusCode::NOT_FOUND,
        "allowed by default"
    );
    assert_eq!(all.status("", "GET", "/v1/acl/tokens").await, StatusCode::FORBIDDEN);
    assert_eq!(all.status("", "PUT", "/v1/acl/token").await, StatusCode::FORBIDDEN);
    assert_eq!(all.status(NOBODY, "GET", "/v1/kv/a").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_is_shown_in_three_ways() {
    let all = deny().await;
    let (_, secret) = all.token("k", r#"key_prefix "a/" { policy = "read" }"#).await;
    all.manage("PUT", "/v1/kv/a/1", "x").await;
    assert_eq!(all.status(&secret, "GET", "/v1/kv/a/1").await, StatusCode::OK);
    let uri = format!("/v1/kv/a/1?token={secret}");
    assert_eq!(all.bed.get(&uri).await.status, StatusCode::OK);
    let bearer = Request::get("/v1/kv/a/1").header("authorization", format!("Bearer {secret}"));
    let said = all.bed.send(bearer.body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!(said.status, StatusCode::OK);
    let said = all.ask("", "GET", "/v1/kv/a/1", "").await;
    assert_eq!((said.status, said.text()), (StatusCode::FORBIDDEN, "Permission denied"));
    let said = all.ask(NOBODY, "GET", "/v1/kv/a/1", "").await;
    assert_eq!((said.status, said.text()), (StatusCode::FORBIDDEN, "ACL not found"));
}

#[tokio::test]
async fn a_token_is_changed_cloned_and_deleted() {
    let all = deny().await;
    let (accessor, secret) = all.token("k", r#"key_prefix "a/" { policy = "read" }"#).await;
    let uri = format!("/v1/acl/token/{accessor}");
    let before = all.manage("GET", &uri, "").await;
    let clone = all.manage("PUT", &format!("{uri}/clone"), r#"{"Description":"again"}"#).await;
    assert_eq!(clone["Description"], "again");
    assert_eq!(clone["Policies"], before["Policies"]);
    let (_, other) = ids(&clone);
    // What the command sends: all that it read, with what is to change.
    let mut asked = before.clone();
    asked["Policies"] = json!([]);
    asked["ServiceIdentities"] = json!([{ "ServiceName": "web" }, { "ServiceName": "web" }]);
    let after = all.manage("PUT", &uri, asked.to_string()).await;
    assert_eq!(after["ServiceIdentities"], json!([{ "ServiceName": "web" }]));
    assert_eq!(after["CreateIndex"], before["CreateIndex"]);
    assert!(after["ModifyIndex"].as_u64() > before["ModifyIndex"].as_u64());
    assert_ne!(after["Hash"], before["Hash"]);
    assert_eq!(all.status(&secret, "GET", "/v1/kv/a/1").await, StatusCode::FORBIDDEN);
    assert_eq!(all.status(&other, "GET", "/v1/kv/a/1").await, StatusCode::NOT_FOUND);
    assert_eq!(all.manage("DELETE", &uri, "").await, true);
    assert_eq!(all.manage("DELETE", &uri, "").await, true);
    let gone = all.ask(&secret, "GET", "/v1/acl/token/self", "").await;
    assert_eq!((gone.status, gone.text()), (StatusCode::FORBIDDEN, "ACL not found"));
}

#[tokio::test]
async fn who_may_only_read_tokens_sees_no_secret_and_changes_nothing() {
    let all = deny().await;
    let (accessor, reader) = all.token("reader", r#"acl = "read""#).await;
    let said = all.ask(&reader, "GET", &format!("/v1/acl/token/{ANONYMOUS}"), "").await;
    assert_eq!(said.json()["SecretID"], "<hidden>");
    let list = all.ask(&reader, "GET", "/v1/acl/tokens", "").await;
    assert!(list.text().contains(&accessor) && !list.text().contains("SecretID"));
    let token = format!("/v1/acl/token/{accessor}");
    let policy = format!("/v1/acl/policy/{MANAGEMENT}");
    for (method, uri) in [
        ("PUT", "/v1/acl/token"),
        ("PUT", &token),
        ("PUT", &format!("{token}/clone")),
        ("DELETE", &token),
        ("PUT", "/v1/acl/policy"),
        ("PUT", &policy),
        ("DELETE", &policy),
        ("PUT", "/v1/acl/role"),
    ] {
        let said = all.ask(&reader, method, uri, "{}").await;
        assert_eq!(
            (said.status, said.text()),
            (StatusCode::FORBIDDEN, "Permission denied"),
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn roles_identities_and_datacenters_grant_what_they_say() {
    let all = deny().await;
    let here = json!({ "Name": "here", "Rules": r#"key "h" { policy = "read" }"#, "Datacenters": ["dc1"] });
    let there = json!({ "Name": "there", "Rules": r#"key "t" { policy = "read" }"#, "Datacenters": ["dc2"] });
    for policy in [&here, &there] {
        all.manage("PUT", "/v1/acl/policy", policy.to_string()).await;
    }
    let role = json!({ "Name": "both", "Policies": [{ "Name": "here" }, { "Name": "there" }],
        "NodeIdentities": [{ "NodeName": "n", "Datacenter": "dc1" }] });
    let role = all.manage("PUT", "/v1/acl/role", role.to_string()).await;
    let token =
        json!({ "Roles": [{ "Name": "both" }], "ServiceIdentities": [{ "ServiceName": "web" }] });
    let (_, secret) = ids(&all.manage("PUT", "/v1/acl/token", token.to_string()).await);
    let by_role = format!("/v1/acl/tokens?role={}", role["ID"].as_str().unwrap());
    assert_eq!(all.manage("GET", &by_role, "").await.as_array().unwrap().len(), 1);
    assert_eq!(all.status(&secret, "GET", "/v1/kv/h").await, StatusCode::NOT_FOUND);
    assert_eq!(all.status(&secret, "GET", "/v1/kv/t").await, StatusCode::FORBIDDEN);
    let register = |node: &str, service: &str| {
        json!({ "Node": node, "Address": "10.1.1.1", "Service": { "Service": service } })
            .to_string()
    };
    for (node, service, status) in [("n", "web", 200), ("n", "db", 403), ("m", "web", 403)] {
        let said = all.ask(&secret, "PUT", "/v1/catalog/register", register(node, service)).await;
        assert_eq!(said.status.as_u16(), status, "{node} {service}: {}", said.text());
    }
    // A policy that is taken away grants nothing any more, and is shown nowhere.
    let id = all.manage("GET", "/v1/acl/policy/name/here", "").await["ID"].clone();
    all.manage("DELETE", &format!("/v1/acl/policy/{}", id.as_str().unwrap()), "").await;
    assert_eq!(all.status(&secret, "GET", "/v1/kv/h").await, StatusCode::FORBIDDEN);
    let role = all.manage("GET", "/v1/acl/role/name/BOTH", "").await;
    assert_eq!(role["Policies"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_anonymous_token_counts_where_none_is_shown() {
    let all = deny().await;
    let (_, secret) = all.token("a", r#"key_prefix "" { policy = "read" }"#).await;
    let anonymous = format!("/v1/acl/token/{ANONYMOUS}");
    all.manage("PUT", &anonymous, r#"{"Policies":[{"Name":"a"}]}"#).await;
    assert_eq!(all.status("", "GET", "/v1/kv/a").await, StatusCode::NOT_FOUND);
    all.manage("PUT", &anonymous, "{}").await;
    assert_eq!(all.status("", "GET", "/v1/kv/a").await, StatusCode::FORBIDDEN);
    assert_eq!(all.status(&secret, "GET", "/v1/kv/a").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_token_whose_time_is_up_counts_no_more_and_goes() {
    let all = deny().await;
    let asked = json!({ "ExpirationTTL": "2m", "Policies": [{ "Name": "global-management" }] });
    let (accessor, secret) = ids(&all.manage("PUT", "/v1/acl/token", asked.to_string()).await);
    assert_eq!(all.status(&secret, "GET", "/v1/kv/a").await, StatusCode::NOT_FOUND);
    // As if two minutes had passed.
    let key = format!("{ACL_TOKENS}{accessor}");
    let store = &all.bed.store;
    let found = store.range(Range::key(key.clone()), Read::Local).await.unwrap();
    let mut record: Value = serde_json::from_slice(&found.kvs[0].value).unwrap();
    record["expires"] = json!("2020-01-01T00:00:00Z");
    let end = acl_expiration(1_577_836_800_000, accessor.parse().unwrap());
    let txn =
        Txn::new().then(Put::new(key.clone(), record.to_string())).then(Put::new(ACL_MARK, ""));
    store.txn(txn.then(Put::new(end, ""))).await.unwrap();
    let said = all.ask(&secret, "GET", "/v1/kv/a", "").await;
    assert_eq!((said.status, said.text()), (StatusCode::FORBIDDEN, "ACL not found"));
    let from = pontoon_store::WatchRequest::key(key.clone()).from(found.revision + 1);
    let mut watch = store.watch(from).unwrap();
    while !store.range(Range::key(key.clone()), Read::Local).await.unwrap().kvs.is_empty() {
        watch.next().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_was_waited_for_is_told_by_what_the_token_may_do_then() {
    let all = Arc::new(deny().await);
    let (accessor, secret) = all.token("w", r#"key_prefix "a" { policy = "read" }"#).await;
    all.manage("PUT", "/v1/kv/a", "1").await;
    let index = all.ask(&secret, "GET", "/v1/kv/a", "").await.index();
    let waiting = tokio::spawn({
        let (all, uri) = (Arc::clone(&all), format!("/v1/kv/a?index={index}"));
        async move { all.ask(&secret, "GET", &uri, "").await }
    });
    all.manage("DELETE", &format!("/v1/acl/token/{accessor}"), "").await;
    all.manage("PUT", "/v1/kv/a", "2").await;
    let said = waiting.await.unwrap();
    assert_eq!((said.status, said.text()), (StatusCode::FORBIDDEN, "ACL not found"));
}

#[tokio::test]
async fn what_a_token_may_do_is_kept_until_access_control_changes() {
    let all = deny().await;
    let (_, secret) = all.token("c", "").await;
    let permits = &all.bed.server.inner.permits;
    let is = |one: &Arc<dyn crate::permit::Permit>, other: &Arc<dyn crate::permit::Permit>| {
        std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
    };
    let first = permits.of(&secret).await.unwrap();
    all.manage("PUT", "/v1/kv/a", "1").await;
    assert!(is(&first, &permits.of(&secret).await.unwrap()), "a key is no access control");
    all.manage("PUT", "/v1/acl/policy", r#"{"Name":"other"}"#).await;
    assert!(!is(&first, &permits.of(&secret).await.unwrap()));
}

#[tokio::test]
async fn what_is_not_served_says_so_and_repeats_no_secret() {
    let all = deny().await;
    let info = format!("/v1/acl/info/{}", all.management);
    for (method, uri) in [
        ("POST", "/v1/acl/login"),
        ("POST", "/v1/acl/logout"),
        ("GET", "/v1/acl/auth-methods"),
        ("PUT", "/v1/acl/auth-method/x"),
        ("GET", "/v1/acl/binding-rules"),
        ("PUT", "/v1/acl/create"),
        ("GET", "/v1/acl/list"),
        ("GET", &info),
        ("POST", "/v1/acl/rules/translate"),
    ] {
        let said = all.ask("", method, uri, "").await;
        assert_eq!(said.status, StatusCode::NOT_IMPLEMENTED, "{method} {uri}");
        assert!(!said.text().contains(&all.management), "{uri}: {}", said.text());
    }
    assert_eq!(all.status("", "GET", "/v1/acl/nope").await, StatusCode::NOT_FOUND);
}
