//! `/v1/acl/role`: roles, made, shown, changed and deleted.

use http::Method;
use pontoon_store::{Range, Read};
use serde::Serialize;
use uuid::Uuid;

use super::body::{self, NewRole, free_role_name, named};
use super::record::{Indexes, Kept, NodeIdentity, Role, ServiceIdentity};
use super::shown::{ShownLink, links};
use super::state::{Change, Names, View, change};
use super::{id, must_be_on};
use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::keyspace::ACL_ROLES;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// A role as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'r> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'r str,
    description: &'r str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<ShownLink<'r>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    service_identities: &'r [ServiceIdentity],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    node_identities: &'r [NodeIdentity],
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl<'r> Shown<'r> {
    fn of(role: &'r Role, names: &'r Names) -> Shown<'r> {
        Shown {
            id: role.id,
            name: &role.name,
            description: &role.description,
            policies: links(&role.grants.policies, &names.policies),
            service_identities: &role.grants.services,
            node_identities: &role.grants.nodes,
            hash: role.hash(),
            create_index: role.indexes.create,
            modify_index: role.indexes.modify,
        }
    }
}

pub(crate) async fn list(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclRead)?;
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, Range::prefix(ACL_ROLES)).await?;
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    let policy = call.query.text("policy");
    let kvs = found.response.kvs.iter();
    let roles = kvs.map(|kv| Role::decode(kv)).collect::<Result<Vec<_>, _>>()?;
    let wanted = roles.iter().filter(|role| {
        policy.is_empty() || role.grants.policies.iter().any(|id| id.to_string() == policy)
    });
    let shown: Vec<_> = wanted.map(|role| Shown::of(role, &names)).collect();
    Ok(call.json(&shown)?.with_meta(call.meta(&options, Some(found.index))))
}

pub(crate) async fn by_name(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclRead)?;
    let name = call.name("Bad request: Missing role Name")?;
    show(&call, Range::prefix(ACL_ROLES), |role| role.name.eq_ignore_ascii_case(&name)).await
}

/// Shows the role of a range that is meant.
async fn show(
    call: &Call,
    range: Range,
    is_meant: impl Fn(&Role) -> bool,
) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, range).await?;
    let meta = call.meta(&options, Some(found.index));
    for kv in &found.response.kvs {
        let role = Role::decode(kv)?;
        if is_meant(&role) {
            let names = View::read(call.store(), Read::Local).await?.names().await?;
            return Ok(call.json(&Shown::of(&role, &names))?.with_meta(meta));
        }
    }
    Ok(Answer::nothing().with_meta(meta))
}

/// `/v1/acl/role/`: one role, by its id.
pub(crate) async fn one(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let name = call.name("Bad request: Missing role ID")?;
    match call.method {
        Method::GET => {
            call.require(Wish::AclRead)?;
            let id = id("role", &name).map_err(Refusal::Failed)?;
            show(&call, Range::key(Role::key(id)), |_| true).await
        }
        Method::PUT => update(&call, &name).await,
        _ => delete(&call, &name).await,
    }
}

async fn written(call: &Call, mut role: Role, revision: u64) -> Result<Answer, Refusal> {
    let create = if role.indexes.create == 0 { revision } else { role.indexes.create };
    role.indexes = Indexes { create, modify: revision };
    let names = View::read(call.store(), Read::Local).await?.names().await?;
    call.json(&Shown::of(&role, &names))
}

pub(crate) async fn create(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclWrite)?;
    let asked: NewRole = body::read("Role", &call.body)?;
    if !asked.id.is_empty() {
        return Err(mismatch());
    }
    let (asked, id) = (&asked, Uuid::new_v4());
    let (role, revision) = change(call.store(), |view| async move {
        let role = made(id, &view, asked).await?;
        free_role_name(&view.all().await?, None, &role.name)?;
        let mut change = Change::default();
        change.put(&role)?;
        Ok((change, role))
    })
    .await?;
    written(&call, role, revision).await
}

fn mismatch() -> Refusal {
    Refusal::bad_request("Bad request: Role ID in URL and payload do not match")
}

/// The role that a body describes, if it can be one.
async fn made(id: Uuid, view: &View, asked: &NewRole) -> Result<Role, Refusal> {
    Ok(Role {
        id,
        name: named("Role", &asked.name)?.to_owned(),
        description: asked.description.clone(),
        grants: asked.grants(view).await?,
        indexes: Indexes::default(),
    })
}

async fn update(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let asked: NewRole = body::read("Role", &call.body)?;
    if !asked.id.is_empty() && asked.id != name {
        return Err(mismatch());
    }
    let asked = &asked;
    let id = id("role", name).map_err(|_| Refusal::failed("Role ID invalid UUID"))?;
    let (role, revision) = change(call.store(), |view| async move {
        named("Role", &asked.name)?;
        let there = view.get::<Role>(id).await?;
        let there = there.ok_or_else(|| Refusal::Failed(format!("cannot find role {id}")))?;
        let role = made(id, &view, asked).await?;
        free_role_name(&view.all().await?, Some(id), &role.name)?;
        let mut change = Change::default();
        change.put(&role)?;
        Ok((change, Role { indexes: there.indexes, ..role }))
    })
    .await?;
    written(call, role, revision).await
}

async fn delete(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let id = id("role", name).map_err(Refusal::Failed)?;
    change(call.store(), |view| async move {
        let mut change = Change::default();
        if view.get::<Role>(id).await?.is_some() {
            change.delete::<Role>(id);
        }
        Ok((change, ()))
    })
    .await?;
    call.json(&true)
}
