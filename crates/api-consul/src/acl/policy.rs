//! `/v1/acl/policy`: policies, made, shown, changed and deleted.

use http::Method;
use pontoon_store::Range;
use serde::Serialize;
use uuid::Uuid;

use super::body::{self, NewPolicy, free_policy_name, named};
use super::record::{Indexes, Kept, MANAGEMENT, Policy};
use super::state::{Change, change};
use super::{Rules, id, must_be_on};
use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::keyspace::ACL_POLICIES;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// A policy as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'p> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'p str,
    description: &'p str,
    rules: &'p str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    datacenters: &'p [String],
    hash: String,
    create_index: u64,
    modify_index: u64,
}

/// A policy in a list, which is without the rules.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'p> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'p str,
    description: &'p str,
    datacenters: Option<&'p [String]>,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl Shown<'_> {
    fn of(policy: &Policy) -> Shown<'_> {
        Shown {
            id: policy.id,
            name: &policy.name,
            description: &policy.description,
            rules: &policy.rules,
            datacenters: &policy.datacenters,
            hash: policy.hash(),
            create_index: policy.indexes.create,
            modify_index: policy.indexes.modify,
        }
    }
}

impl Listed<'_> {
    fn of(policy: &Policy) -> Listed<'_> {
        Listed {
            id: policy.id,
            name: &policy.name,
            description: &policy.description,
            datacenters: Some(&policy.datacenters[..]).filter(|all| !all.is_empty()),
            hash: policy.hash(),
            create_index: policy.indexes.create,
            modify_index: policy.indexes.modify,
        }
    }
}

pub(crate) async fn list(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclRead)?;
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, Range::prefix(ACL_POLICIES)).await?;
    let kvs = found.response.kvs.iter();
    let policies = kvs.map(|kv| Policy::decode(kv)).collect::<Result<Vec<_>, _>>()?;
    let shown: Vec<_> = policies.iter().map(Listed::of).collect();
    Ok(call.json(&shown)?.with_meta(call.meta(&options, Some(found.index))))
}

pub(crate) async fn by_name(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclRead)?;
    let name = call.name("Bad request: Missing policy Name")?;
    show(&call, Range::prefix(ACL_POLICIES), |policy| policy.name.eq_ignore_ascii_case(&name)).await
}

/// Shows the policy of a range that is meant.
async fn show(
    call: &Call,
    range: Range,
    is_meant: impl Fn(&Policy) -> bool,
) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let found = blocking::query(call.store(), &options, range).await?;
    for kv in &found.response.kvs {
        let policy = Policy::decode(kv)?;
        if is_meant(&policy) {
            let meta = call.meta(&options, Some(found.index));
            return Ok(call.json(&Shown::of(&policy))?.with_meta(meta));
        }
    }
    Err(Refusal::UnknownToken)
}

/// `/v1/acl/policy/`: one policy, by its id.
pub(crate) async fn one(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    let name = call.name("Bad request: Missing policy ID")?;
    match call.method {
        Method::GET => {
            call.require(Wish::AclRead)?;
            let id = id("policy", &name).map_err(Refusal::Failed)?;
            show(&call, Range::key(Policy::key(id)), |_| true).await
        }
        Method::PUT => update(&call, &name).await,
        _ => delete(&call, &name).await,
    }
}

fn written(call: &Call, mut policy: Policy, revision: u64) -> Result<Answer, Refusal> {
    let create = if policy.indexes.create == 0 { revision } else { policy.indexes.create };
    policy.indexes = Indexes { create, modify: revision };
    call.json(&Shown::of(&policy))
}

pub(crate) async fn create(call: Call) -> Result<Answer, Refusal> {
    must_be_on(&call)?;
    call.require(Wish::AclWrite)?;
    let asked: NewPolicy = body::read("Policy", &call.body)?;
    if !asked.id.is_empty() {
        let words = "Bad request: Cannot specify the ID when creating a new policy";
        return Err(Refusal::bad_request(words));
    }
    let policy = made(Uuid::new_v4(), asked)?;
    let policy = &policy;
    let ((), revision) = change(call.store(), |view| async move {
        free_policy_name(&view.all().await?, None, &policy.name)?;
        let mut change = Change::default();
        change.put(policy)?;
        Ok((change, ()))
    })
    .await?;
    written(&call, policy.clone(), revision)
}

/// The policy that a body describes, if its name and its rules are good.
fn made(id: Uuid, asked: NewPolicy) -> Result<Policy, Refusal> {
    named("Policy", &asked.name)?;
    Rules::parse(&asked.rules).map_err(|error| Refusal::Failed(error.to_string()))?;
    let NewPolicy { name, description, rules, datacenters, .. } = asked;
    Ok(Policy { id, name, description, rules, datacenters, indexes: Indexes::default() })
}

async fn update(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let asked: NewPolicy = body::read("Policy", &call.body)?;
    if !asked.id.is_empty() && asked.id != name {
        let words = "Bad request: Policy ID in URL and payload do not match";
        return Err(Refusal::bad_request(words));
    }
    let id = id("policy", name).map_err(|_| Refusal::failed("Policy ID invalid UUID"))?;
    let new = made(id, asked)?;
    let new = &new;
    let (indexes, revision) = change(call.store(), |view| async move {
        let there = view.get::<Policy>(id).await?;
        let there = there.ok_or_else(|| Refusal::Failed(format!("cannot find policy {id}")))?;
        if id == MANAGEMENT {
            stays_for_management(&there, new)?;
        }
        free_policy_name(&view.all().await?, Some(id), &new.name)?;
        let mut change = Change::default();
        change.put(new)?;
        Ok((change, there.indexes))
    })
    .await?;
    written(call, Policy { indexes, ..new.clone() }, revision)
}

/// The policy for management may have another name and description, and nothing else.
fn stays_for_management(there: &Policy, new: &Policy) -> Result<(), Refusal> {
    let what = match new {
        new if new.rules != there.rules => "Rules",
        new if !new.datacenters.is_empty() => "Datacenters",
        _ => return Ok(()),
    };
    Err(Refusal::Failed(format!(
        "Changing the {what} for the builtin global-management policy is not permitted"
    )))
}

async fn delete(call: &Call, name: &str) -> Result<Answer, Refusal> {
    call.require(Wish::AclWrite)?;
    let id = id("policy", name).map_err(Refusal::Failed)?;
    if id == MANAGEMENT {
        let words = "Delete operation not permitted on the builtin global-management policy";
        return Err(Refusal::failed(words));
    }
    change(call.store(), |view| async move {
        let mut change = Change::default();
        if view.get::<Policy>(id).await?.is_some() {
            change.delete::<Policy>(id);
        }
        Ok((change, ()))
    })
    .await?;
    call.json(&true)
}
