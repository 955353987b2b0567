//! The first token; what everybody may ask about access control; and what of it is not served.

use bytes::Bytes;
use pontoon_store::{Put, Read};
use serde_json::json;

use super::must_be_on;
use super::record::{Indexes, Policy, Token};
use super::shown::Shown;
use super::state::{Change, View, change};
use crate::answer::Answer;
use crate::call::Call;
use crate::keyspace::ACL_BOOTSTRAP;
use crate::refusal::Refusal;

/// Gives out a token for management, once.
pub(crate) async fn bootstrap(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let (mut token, revision) = change(call.store(), |view| async move {
        if let Some(kv) = view.at(ACL_BOOTSTRAP).await? {
            return Err(Refusal::DeniedBecause(format!(
                "ACL bootstrap no longer allowed (reset index: {})",
                kv.mod_revision
            )));
        }
        let mut change = Change::default();
        let token = Token::for_management("Bootstrap Token (Global Management)");
        builtin(&view, &mut change).await?;
        change.put_token(&token)?;
        change.op(Put::new(ACL_BOOTSTRAP, Bytes::new()));
        Ok((change, token))
    })
    .await?;
    token.indexes = Indexes { create: revision, modify: revision };
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    call.json(&Shown::first(&token, &names))
}

/// Keeps the policy and the token that are always there, if they are not yet.
pub(super) async fn builtin(view: &View, change: &mut Change) -> Result<(), Refusal> {
    let (policy, anonymous) = (Policy::for_management(), Token::anonymous());
    if view.get::<Policy>(policy.id).await?.is_none() {
        change.put(&policy)?;
    }
    if view.get::<Token>(anonymous.accessor).await?.is_none() {
        change.put_token(&anonymous)?;
    }
    Ok(())
}

/// There is one datacenter, so that nothing is copied from another.
pub(crate) async fn replication(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.json(&json!({
        "Enabled": false,
        "Running": false,
        "SourceDatacenter": "",
        "ReplicationType": "",
        "ReplicatedIndex": 0,
        "ReplicatedRoleIndex": 0,
        "ReplicatedTokenIndex": 0,
        "LastSuccess": "0001-01-01T00:00:00Z",
        "LastError": "0001-01-01T00:00:00Z",
    }))
}

/// Endpoints of Consul's, and why they are not served.
const NOT_SERVED: [(&[&str], &str); 3] = [
    (
        &["login", "logout", "auth-method", "binding-rule", "oidc"],
        "tokens are made with `consul acl token create`, and not by an authentication method",
    ),
    (
        &["create", "update", "destroy/", "info/", "clone/", "list"],
        "tokens with rules of their own, which Consul has left, are not kept; make a policy and a token with it",
    ),
    (&["rules/translate"], "there are no rules of tokens to translate; write a policy"),
];

/// What of access control is not served. No more of the path is said again: there may be a secret in it.
pub(crate) async fn not_served(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let named = |name: &&&str| call.rest.starts_with(name.as_bytes());
    for (names, why) in NOT_SERVED {
        if let Some(name) = names.iter().find(named) {
            return Err(Refusal::NotServed(format!("/v1/acl/{name} ({why})")));
        }
    }
    let words = "Invalid URL path: it is not an endpoint of Consul's HTTP API";
    Err(Refusal::NotFound(words.to_owned()))
}
