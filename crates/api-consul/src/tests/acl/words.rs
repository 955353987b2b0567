//! What is wrong is refused with the status and the words of Consul 1.8.7, which was asked the same; but for the words
//! about bodies and rules that cannot be read.

use ::http::StatusCode;

use super::{ANONYMOUS, Guarded, MANAGEMENT, NOBODY, deny, ids};

/// Status, where it is put, the body, and what is said; `ACCESSOR` and `SECRET` are a token's, `POLICY` and `ROLE` are the
/// ids of those, `NOBODY` is nothing's.
const PUTS: &[(u16, &str, &str, &str)] = &[
    (500, "token", r#"{"Policies":[{"Name":"x"}]}"#, r#"No such ACL policy with name "x""#),
    (
        500,
        "token",
        r#"{"Policies":[{"ID":"x"}]}"#,
        "Error looking up policy for id \"x\": failed acl policy lookup: index error: UUID must be 36 characters",
    ),
    (500, "token", r#"{"Roles":[{"Name":"x"}]}"#, r#"No such ACL role with name "x""#),
    (
        500,
        "token",
        r#"{"ExpirationTTL":"30s"}"#,
        "ExpirationTime cannot be less than 1m0s in the future (was 30s)",
    ),
    (
        500,
        "token",
        r#"{"ExpirationTTL":"25h"}"#,
        "ExpirationTime cannot be more than 24h0m0s in the future (was 25h0m0s)",
    ),
    (500, "token", r#"{"ExpirationTTL":"-1s"}"#, "Token Expiration TTL '-1s' should be > 0"),
    (
        500,
        "token",
        r#"{"ExpirationTTL":"2m","ExpirationTime":"2020-01-01T00:00:00Z"}"#,
        "Token Expiration TTL and Expiration Time cannot both be set",
    ),
    (
        500,
        "token",
        r#"{"ExpirationTime":"2020-01-01T00:00:00Z"}"#,
        "ExpirationTime cannot be before CreateTime",
    ),
    (500, "token", r#"{"SecretID":"SECRET"}"#, "Invalid Token: SecretID is already in use"),
    (500, "token", r#"{"AccessorID":"ACCESSOR"}"#, "Invalid Token: AccessorID is already in use"),
    (500, "token", r#"{"SecretID":"short"}"#, "Invalid Token: SecretID is not a valid UUID"),
    (
        500,
        "token",
        r#"{"AccessorID":"00000000-0000-0000-0000-000000000003"}"#,
        r#"Invalid Token: UUIDs with the prefix "00000000-0000-0000-0000-0000000000" are reserved"#,
    ),
    (500, "token", r#"{"AuthMethod":"x"}"#, "AuthMethod field is disallowed outside of Login"),
    (500, "token", r#"{"Rules":"x"}"#, "Rules cannot be specified for this token"),
    (
        500,
        "token",
        r#"{"ServiceIdentities":[{}]}"#,
        "Service identity is missing the service name field on this token",
    ),
    (
        500,
        "token",
        r#"{"ServiceIdentities":[{"ServiceName":"W"}]}"#,
        r#"Service identity "W" has an invalid name. Only alphanumeric characters, '-' and '_' are allowed"#,
    ),
    (
        500,
        "token",
        r#"{"Local":true,"ServiceIdentities":[{"ServiceName":"w","Datacenters":["dc1"]}]}"#,
        r#"Service identity "w" cannot specify a list of datacenters on a local token"#,
    ),
    (
        500,
        "token",
        r#"{"NodeIdentities":[{"NodeName":"n"}]}"#,
        "Node identity is missing the datacenter field on this token",
    ),
    (
        400,
        "token/ACCESSOR",
        r#"{"AccessorID":"x"}"#,
        "Bad request: Token Accessor ID in URL and payload do not match",
    ),
    (
        500,
        "token/ACCESSOR",
        r#"{"SecretID":"NOBODY"}"#,
        "Changing a tokens SecretID is not permitted",
    ),
    (500, "token/ACCESSOR", r#"{"Local":true}"#, "cannot toggle local mode of ACCESSOR"),
    (
        500,
        "token/ACCESSOR",
        r#"{"ExpirationTTL":"2m"}"#,
        "Cannot change expiration time of ACCESSOR",
    ),
    (500, "token/ACCESSOR", r#"{"AuthMethod":"x"}"#, "Cannot change AuthMethod of ACCESSOR"),
    (500, "token/NOBODY", "{}", r#"Cannot find token "NOBODY""#),
    (403, "token/NOBODY/clone", "{}", "ACL not found"),
    (
        500,
        "token/self/clone",
        "{}",
        "failed acl token lookup: index error: UUID must be 36 characters",
    ),
    (
        400,
        "policy",
        r#"{"Name":"q","ID":"x"}"#,
        "Bad request: Cannot specify the ID when creating a new policy",
    ),
    (500, "policy", r#"{"Name":"P"}"#, r#"Invalid Policy: A Policy with Name "P" already exists"#),
    (500, "policy", "{}", "Invalid Policy: no Name is set"),
    (
        500,
        "policy",
        r#"{"Name":"a b"}"#,
        "Invalid Policy: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
    ),
    (
        500,
        "policy/POLICY",
        r#"{"Name":"global-management"}"#,
        r#"Invalid Policy: A policy with name "global-management" already exists"#,
    ),
    (
        400,
        "policy/POLICY",
        r#"{"Name":"p","ID":"x"}"#,
        "Bad request: Policy ID in URL and payload do not match",
    ),
    (500, "policy/NOBODY", r#"{"Name":"z"}"#, "cannot find policy NOBODY"),
    (500, "policy/x", r#"{"Name":"z"}"#, "Policy ID invalid UUID"),
    (
        500,
        "policy/MANAGEMENT",
        r#"{"Name":"z"}"#,
        "Changing the Rules for the builtin global-management policy is not permitted",
    ),
    (500, "role", r#"{"Name":"R"}"#, r#"Invalid Role: A Role with Name "R" already exists"#),
    (
        400,
        "role/ROLE",
        r#"{"Name":"r","ID":"x"}"#,
        "Bad request: Role ID in URL and payload do not match",
    ),
    (500, "role/ROLE", "{}", "Invalid Role: no Name is set"),
    (500, "role/NOBODY", r#"{"Name":"z"}"#, "cannot find role NOBODY"),
];

const DELETES: &[(u16, &str, &str)] = &[
    (500, "token/ANONYMOUS", "Delete operation not permitted on the anonymous token"),
    (500, "token/OWN", "Deletion of the request's authorization token is not permitted"),
    (500, "token/x", "Accessor ID is missing or an invalid UUID"),
    (200, "token/NOBODY", "true"),
    (
        500,
        "policy/MANAGEMENT",
        "Delete operation not permitted on the builtin global-management policy",
    ),
    (500, "policy/x", "failed acl policy lookup: index error: UUID must be 36 characters"),
    (200, "policy/NOBODY", "true"),
    (200, "role/NOBODY", "true"),
];

const GETS: &[(u16, &str, &str)] = &[
    (400, "token/", "Bad request: Missing token ID"),
    (400, "policy/name/", "Bad request: Missing policy Name"),
    (403, "token/NOBODY", "ACL not found"),
    (500, "token/x", "failed acl token lookup: index error: UUID must be 36 characters"),
    (403, "policy/name/x", "ACL not found"),
    (404, "role/name/x", ""),
    (404, "role/NOBODY", ""),
    (200, "tokens?policy=x", "[]"),
];

/// What the names in capitals stand for.
async fn names(all: &Guarded) -> Vec<(&'static str, String)> {
    let (accessor, secret) = all.token("p", "").await;
    let id = |made: serde_json::Value| made["ID"].as_str().unwrap().to_owned();
    let policy = id(all.manage("GET", "/v1/acl/policy/name/p", "").await);
    let role = id(all.manage("PUT", "/v1/acl/role", r#"{"Name":"r"}"#).await);
    let own = ids(&all.manage("GET", "/v1/acl/token/self", "").await).0;
    vec![
        ("ACCESSOR", accessor),
        ("SECRET", secret),
        ("POLICY", policy),
        ("ROLE", role),
        ("OWN", own),
        ("NOBODY", NOBODY.to_owned()),
        ("MANAGEMENT", MANAGEMENT.to_owned()),
        ("ANONYMOUS", ANONYMOUS.to_owned()),
    ]
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_consuls_words() {
    let all = deny().await;
    let names = names(&all).await;
    let filled =
        |text: &str| names.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id));
    let puts = PUTS.iter().map(|(status, at, body, words)| ("PUT", *status, *at, *body, *words));
    let deletes = DELETES.iter().map(|(status, at, words)| ("DELETE", *status, *at, "", *words));
    let gets = GETS.iter().map(|(status, at, words)| ("GET", *status, *at, "", *words));
    for (method, status, at, body, words) in puts.chain(deletes).chain(gets) {
        let (uri, body) = (format!("/v1/acl/{}", filled(at)), filled(body));
        let said = all.ask(&all.management, method, &uri, body.clone()).await;
        let wanted = (status, filled(words));
        assert_eq!((said.status.as_u16(), said.text().to_owned()), wanted, "{method} {uri} {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let all = deny().await;
    for body in [
        "",
        "x",
        "[]",
        "1",
        r#"{"Nope":1}"#,
        r#"{"Local":"x"}"#,
        r#"{"Policies":{}}"#,
        r#"{"ExpirationTime":"x"}"#,
    ] {
        let said = all.ask(&all.management, "PUT", "/v1/acl/token", body).await;
        assert_eq!(said.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let rules = r#"{"Name":"q","Rules":"key \"a\" {"}"#;
    let said = all.ask(&all.management, "PUT", "/v1/acl/policy", rules).await;
    assert_eq!(said.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(said.text().starts_with("Failed to parse ACL rules: "), "{}", said.text());
}

#[tokio::test]
async fn no_body_brings_the_server_down() {
    let all = deny().await;
    let huge = format!(r#"{{"ExpirationTTL":{}}}"#, i64::MIN);
    let far = r#"{"ExpirationTime":"9999-12-30T22:00:00Z"}"#.to_owned();
    let early = r#"{"ExpirationTime":"-009999-01-02T01:59:59Z"}"#.to_owned();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let nested = format!(r#"{{"Policies":{deep}}}"#);
    let max = format!(r#"{{"ExpirationTTL":{}}}"#, i64::MAX);
    for body in [huge, max, far, early, deep, nested] {
        let said = all.ask(&all.management, "PUT", "/v1/acl/token", body.clone()).await;
        assert!(said.status.is_client_error() || said.status.is_server_error(), "{body:.60}");
    }
    assert_eq!(all.status("", "GET", "/v1/status/leader").await, StatusCode::OK);
}
