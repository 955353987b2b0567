//! `/v1/acl/token`: tokens, made, shown, changed, cloned and deleted.

use http::Method;
use pontoon_store::{Range, Read};
use uuid::Uuid;

use super::body::{self, NewToken};
use super::record::{ANONYMOUS, Indexes, Kept, Token};
use super::shown::Shown;
use super::state::{Change, View, change};
use super::{Secret, id, must_be_on};
use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::keyspace::ACL_TOKENS;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// Ids and secrets that begin so are for what Consul makes by itself.
const RESERVED: &str = "00000000-0000-0000-0000-0000000000";
/// Shown in the place of a secret to who may only read.
const HIDDEN: &str = "<hidden>";

pub(crate) async fn list(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclRead)?;
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, Range::prefix(ACL_TOKENS)).await?;
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    let [policy, role, method] =
        ["policy", "role", "authmethod"].map(|name| call.query.text(name).into_owned());
    // None comes of an authentication method.
    let kvs = found.response.kvs.iter().filter(|_| method.is_empty());
    let tokens = kvs.map(|kv| Token::decode(kv)).collect::<Result<Vec<_>, _>>()?;
    let has = |ids: &[Uuid], wanted: &str| {
        wanted.is_empty() || ids.iter().any(|id| id.to_string() == wanted)
    };
    let wanted = tokens.iter().filter(|token| {
        !token.has_expired() && has(&token.grants.policies, &policy) && has(&token.roles, &role)
    });
    let shown: Vec<_> = wanted.map(|token| Shown::of(token, &names)).collect();
    Ok(call.json(&shown)?.with_meta(call.meta(&options, Some(found.index))))
}

/// The token that the request shows. Who has its secret may see all of it.
pub(crate) async fn own(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let options = call.options()?;
    let view = View::read(call.store(), options.consistency.read()).await?;
    let token = view.by_secret(call.token.reveal()).await?.ok_or(Refusal::UnknownToken)?;
    let names = view.names().await?;
    let shown = call.json(&Shown::with(token.secret.reveal(), &token, &names))?;
    Ok(shown.with_meta(call.meta(&options, Some(token.indexes.modify))))
}

/// `/v1/acl/token/`: one token, by its accessor.
pub(crate) async fn one(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let name = call.name("Bad request: Missing token ID")?;
    match (&call.method, name.strip_suffix("/clone")) {
        (&Method::GET, _) => show(&call, &name).await,
        (&Method::PUT, Some(name)) => clone(&call, name).await,
        (&Method::PUT, None) => update(&call, &name).await,
        _ => delete(&call, &name).await,
    }
}

async fn show(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclRead)?;
    let accessor = id("token", name).map_err(Refusal::Failed)?;
    let options = call.options()?;
    let range = Range::key(Token::key(accessor));
    let found = blocking::query(call.store(), &options, range).await?;
    let token = found.response.kvs.first().map(|kv| Token::decode(kv)).transpose()?;
    let token = token.filter(|token| !token.has_expired()).ok_or(Refusal::UnknownToken)?;
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    let secret = if call.permit.allows(Wish::AclWrite) { token.secret.reveal() } else { HIDDEN };
    let shown = Shown::with(secret, &token, &names);
    Ok(call.json(&shown)?.with_meta(call.meta(&options, Some(found.index))))
}

/// A token that was just written, as its writer reads it.
async fn written(call: &Call, mut token: Token, revision: u64) -> Result<Answer, Refusal> {
    let create = if token.indexes.create == 0 { revision } else { token.indexes.create };
    token.indexes = Indexes { create, modify: revision };
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    call.json(&Shown::with(token.secret.reveal(), &token, &names))
}

pub(crate) async fn create(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclWrite)?;
    let asked: NewToken = body::read("Token", &call.body)?;
    let asked = &asked;
    if !asked.accessor.is_empty() {
        // An update, to those who ask for it so.
        let accessor = accessor(asked)?;
        if View::read(call.store(), Read::Linearizable).await?.token(accessor).await?.is_some() {
            return Err(Refusal::failed("Invalid Token: AccessorID is already in use"));
        }
    }
    let (token, revision) = change(call.store(), |view| async move {
        let mut change = Change::default();
        let token = made(&view, asked).await?;
        change.put_token(&token)?;
        Ok((change, token))
    })
    .await?;
    written(&call, token, revision).await
}

fn accessor(asked: &NewToken) -> Result<Uuid, Refusal> {
    let parsed = id("token", &asked.accessor);
    parsed.map_err(|why| Refusal::Failed(format!("Failed acl token lookup by accessor: {why}")))
}

/// The new token that is asked for.
async fn made(view: &View, asked: &NewToken) -> Result<Token, Refusal> {
    let failed = |words: &str| Err(Refusal::failed(words));
    let mut token = Token::new(&asked.description);
    if !asked.accessor.is_empty() {
        token.accessor = accessor(asked)?;
    }
    if !asked.secret.is_empty() {
        if asked.secret.len() != 36 || Uuid::try_parse(&asked.secret).is_err() {
            return failed("Invalid Token: SecretID is not a valid UUID");
        }
        token.secret = Secret::from(asked.secret.clone());
    }
    if [&token.accessor.to_string(), token.secret.reveal()]
        .iter()
        .any(|id| id.starts_with(RESERVED))
    {
        let words = format!("Invalid Token: UUIDs with the prefix {RESERVED:?} are reserved");
        return Err(Refusal::Failed(words));
    }
    if view.get::<Token>(token.accessor).await?.is_some() {
        return failed("Invalid Token: AccessorID is already in use");
    }
    if view.at(crate::keyspace::acl_secret(token.secret.reveal())).await?.is_some() {
        return failed("Invalid Token: SecretID is already in use");
    }
    if !asked.auth_method.is_empty() {
        return failed("AuthMethod field is disallowed outside of Login");
    }
    if !asked.rules.is_empty() {
        return failed("Rules cannot be specified for this token");
    }
    token.is_local = asked.local;
    token.expires = asked.end(token.created)?;
    token.grants = asked.grants(view).await?;
    token.roles = asked.roles(view).await?;
    Ok(token)
}

async fn update(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let asked: NewToken = body::read("Token", &call.body)?;
    let asked = &asked;
    if !asked.accessor.is_empty() && asked.accessor != name {
        let words = "Bad request: Token Accessor ID in URL and payload do not match";
        return Err(Refusal::bad_request(words));
    }
    let id = id("token", name)
        .map_err(|why| Refusal::Failed(format!("Failed acl token lookup by accessor: {why}")))?;
    let (token, revision) = change(call.store(), |view| async move {
        let missing = || Refusal::Failed(format!("Cannot find token {name:?}"));
        let mut token = view.token(id).await?.ok_or_else(missing)?;
        may_become(&token, asked)?;
        token.description.clone_from(&asked.description);
        token.grants = asked.grants(&view).await?;
        token.roles = asked.roles(&view).await?;
        let mut change = Change::default();
        change.put(&token)?;
        Ok((change, token))
    })
    .await?;
    written(call, token, revision).await
}

/// Refuses to change what stays as it is for as long as there is a token.
fn may_become(token: &Token, asked: &NewToken) -> Result<(), Refusal> {
    let accessor = token.accessor;
    let failed = |words: String| Err(Refusal::Failed(words));
    if !asked.secret.is_empty() && asked.secret != token.secret.reveal() {
        return failed("Changing a tokens SecretID is not permitted".to_owned());
    }
    if !asked.rules.is_empty() {
        return failed("Rules cannot be specified for this token".to_owned());
    }
    if asked.local != token.is_local {
        return failed(format!("cannot toggle local mode of {accessor}"));
    }
    if !asked.auth_method.is_empty() {
        return failed(format!("Cannot change AuthMethod of {accessor}"));
    }
    if asked.ttl.nanos != 0 || asked.expires.is_some_and(|expires| Some(expires) != token.expires) {
        return failed(format!("Cannot change expiration time of {accessor}"));
    }
    Ok(())
}

/// A new token that grants what another does.
async fn clone(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let asked: NewToken = body::read("Token", &call.body)?;
    let asked = &asked;
    let id = id("token", name).map_err(Refusal::Failed)?;
    let (token, revision) = change(call.store(), |view| async move {
        let there = view.token(id).await?.ok_or(Refusal::UnknownToken)?;
        let description =
            if asked.description.is_empty() { &there.description } else { &asked.description };
        let new = Token::new(description);
        let (accessor, secret, created) = (new.accessor, new.secret, new.created);
        let (description, indexes) = (new.description, Indexes::default());
        let token = Token { accessor, secret, created, description, indexes, ..there };
        let mut change = Change::default();
        change.put_token(&token)?;
        Ok((change, token))
    })
    .await?;
    written(call, token, revision).await
}

async fn delete(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let failed = |words: &str| Refusal::failed(words);
    let id = id("token", name).map_err(|_| failed("Accessor ID is missing or an invalid UUID"))?;
    if id == ANONYMOUS {
        return Err(failed("Delete operation not permitted on the anonymous token"));
    }
    let shown = call.token.reveal();
    change(call.store(), |view| async move {
        let mut change = Change::default();
        if let Some(token) = view.get::<Token>(id).await? {
            if token.secret.reveal() == shown {
                let words = "Deletion of the request's authorization token is not permitted";
                return Err(Refusal::failed(words));
            }
            change.delete_token(&token);
        }
        Ok((change, ()))
    })
    .await?;
    call.json(&true)
}
