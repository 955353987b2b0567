//! What clients send about tokens, policies and roles, and what is made of it if it is right.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use uuid::Uuid;

use super::record::{Grants, NodeIdentity, Policy, Role, ServiceIdentity};
use super::state::View;
use super::{id, node_identity, service_identity};
use crate::duration::GoDuration;
use crate::json;
use crate::refusal::Refusal;

/// How long a token with an end may live, as in Consul.
const EXPIRES_MIN: SignedDuration = SignedDuration::from_secs(60);
const EXPIRES_MAX: SignedDuration = SignedDuration::from_secs(24 * 60 * 60);

/// Fields that clients send back as they read them: they say nothing that is not known.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase", deny_unknown_fields)]
pub(super) struct NewToken {
    #[serde(rename = "accessorid")]
    pub(super) accessor: String,
    #[serde(rename = "secretid")]
    pub(super) secret: String,
    pub(super) description: String,
    pub(super) policies: Vec<Link>,
    pub(super) roles: Vec<Link>,
    #[serde(rename = "serviceidentities")]
    services: Vec<NewServiceIdentity>,
    #[serde(rename = "nodeidentities")]
    nodes: Vec<NewNodeIdentity>,
    pub(super) local: bool,
    #[serde(rename = "authmethod")]
    pub(super) auth_method: String,
    #[serde(rename = "expirationtime")]
    pub(super) expires: Option<Timestamp>,
    #[serde(rename = "expirationttl")]
    pub(super) ttl: GoDuration,
    pub(super) rules: String,
    #[serde(rename = "id")]
    _id: IgnoredAny,
    #[serde(rename = "createtime")]
    _created: IgnoredAny,
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "createindex")]
    _create_index: IgnoredAny,
    #[serde(rename = "modifyindex")]
    _modify_index: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase", deny_unknown_fields)]
pub(super) struct NewPolicy {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) rules: String,
    pub(super) datacenters: Vec<String>,
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "createindex")]
    _create_index: IgnoredAny,
    #[serde(rename = "modifyindex")]
    _modify_index: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase", deny_unknown_fields)]
pub(super) struct NewRole {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) policies: Vec<Link>,
    #[serde(rename = "serviceidentities")]
    services: Vec<NewServiceIdentity>,
    #[serde(rename = "nodeidentities")]
    nodes: Vec<NewNodeIdentity>,
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "createindex")]
    _create_index: IgnoredAny,
    #[serde(rename = "modifyindex")]
    _modify_index: IgnoredAny,
}

/// A policy or a role, by its id or else its name.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase", deny_unknown_fields)]
pub(super) struct Link {
    id: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NewServiceIdentity {
    #[serde(rename = "servicename")]
    name: String,
    datacenters: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NewNodeIdentity {
    #[serde(rename = "nodename")]
    name: String,
    datacenter: String,
}

/// Reads a body; a field that nobody knows is refused, since it may be one that takes rights away.
pub(super) fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Refusal> {
    let bad = |words: String| {
        Refusal::BadRequest(format!("Bad request: {what} decoding failed: {words}"))
    };
    let value = json::plain(json::decode(body).map_err(bad)?, false);
    if !value.is_object() {
        return Err(bad("it must be an object".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| bad(error.to_string()))
}

/// The name of a policy or a role, if it can be one.
pub(super) fn named<'n>(what: &str, name: &'n str) -> Result<&'n str, Refusal> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let wrong = match name {
        "" => "no Name is set",
        name if name.len() <= 128 && name.bytes().all(is_good) => return Ok(name),
        _ => "invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
    };
    Err(Refusal::Failed(format!("Invalid {what}: {wrong}")))
}

impl NewToken {
    pub(super) async fn grants(&self, view: &View) -> Result<Grants, Refusal> {
        let policies = policies(view, &self.policies).await?;
        let mut services = services(&self.services, "token")?;
        for identity in &mut services {
            if self.local && !identity.datacenters.is_empty() {
                return Err(Refusal::Failed(format!(
                    "Service identity {:?} cannot specify a list of datacenters on a local token",
                    identity.service_name
                )));
            }
        }
        Ok(Grants { policies, services, nodes: nodes(&self.nodes, "token")? })
    }

    /// The ids of its roles.
    pub(super) async fn roles(&self, view: &View) -> Result<Vec<Uuid>, Refusal> {
        let mut found = BTreeSet::new();
        if self.roles.is_empty() {
            return Ok(Vec::new());
        }
        let names = view.names().await?.roles;
        for link in &self.roles {
            found.insert(link.find("role", names.iter().map(|(id, name)| (*id, name.as_str())))?);
        }
        Ok(found.into_iter().collect())
    }

    /// When it ends, if it is made now.
    pub(super) fn end(&self, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let failed = |words: String| Err(Refusal::Failed(words));
        if self.ttl.nanos < 0 {
            return failed(format!("Token Expiration TTL '{}' should be > 0", self.ttl));
        }
        let expires = match (self.ttl.nanos, self.expires) {
            (0, None) => return Ok(None),
            (0, Some(expires)) => expires,
            (_, Some(_)) => {
                let words = "Token Expiration TTL and Expiration Time cannot both be set";
                return failed(words.to_owned());
            }
            (nanos, None) => now.saturating_add(SignedDuration::from_nanos(nanos)).unwrap_or(now),
        };
        let left = expires.duration_since(now);
        let shown = || GoDuration { nanos: i64::try_from(left.as_nanos()).unwrap_or(i64::MAX) };
        if left < SignedDuration::ZERO {
            return failed("ExpirationTime cannot be before CreateTime".to_owned());
        }
        if left < EXPIRES_MIN {
            return failed(format!(
                "ExpirationTime cannot be less than 1m0s in the future (was {})",
                shown()
            ));
        }
        if left > EXPIRES_MAX {
            return failed(format!(
                "ExpirationTime cannot be more than 24h0m0s in the future (was {})",
                shown()
            ));
        }
        Ok(Some(expires))
    }
}

impl NewRole {
    pub(super) async fn grants(&self, view: &View) -> Result<Grants, Refusal> {
        Ok(Grants {
            policies: policies(view, &self.policies).await?,
            services: services(&self.services, "role")?,
            nodes: nodes(&self.nodes, "role")?,
        })
    }
}

impl Link {
    /// The id of what is meant, of all that are there.
    fn find<'n>(
        &self,
        what: &str,
        mut there: impl Iterator<Item = (Uuid, &'n str)>,
    ) -> Result<Uuid, Refusal> {
        if self.id.is_empty() {
            let found = there.find(|(_, name)| name.eq_ignore_ascii_case(&self.name));
            let missing = || format!("No such ACL {what} with name {:?}", self.name);
            return found.map(|(id, _)| id).ok_or_else(|| Refusal::Failed(missing()));
        }
        let wanted = id(what, &self.id).map_err(|why| {
            Refusal::Failed(format!("Error looking up {what} for id {:?}: {why}", self.id))
        })?;
        let missing = || Refusal::Failed(format!("No such ACL {what} with ID {:?}", self.id));
        there.find(|(id, _)| *id == wanted).map(|(id, _)| id).ok_or_else(missing)
    }
}

async fn policies(view: &View, links: &[Link]) -> Result<Vec<Uuid>, Refusal> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let names = view.names().await?.policies;
    let mut found = BTreeSet::new();
    for link in links {
        found.insert(link.find("policy", names.iter().map(|(id, name)| (*id, name.as_str())))?);
    }
    Ok(found.into_iter().collect())
}

/// Identities, each service once: in all datacenters if one of them says so, else in all that are named.
fn services(asked: &[NewServiceIdentity], what: &str) -> Result<Vec<ServiceIdentity>, Refusal> {
    let mut services: Vec<ServiceIdentity> = Vec::new();
    for NewServiceIdentity { name, datacenters } in asked {
        if name.is_empty() {
            let words =
                format!("Service identity is missing the service name field on this {what}");
            return Err(Refusal::Failed(words));
        }
        if service_identity(name).is_err() {
            return Err(Refusal::Failed(format!(
                "Service identity {name:?} has an invalid name. Only alphanumeric characters, '-' and '_' are allowed"
            )));
        }
        let datacenters = datacenters.clone();
        match services.iter_mut().find(|service| service.service_name == *name) {
            None => services.push(ServiceIdentity { service_name: name.clone(), datacenters }),
            Some(there) if there.datacenters.is_empty() || datacenters.is_empty() => {
                there.datacenters.clear();
            }
            Some(there) => {
                there.datacenters.extend(datacenters);
                there.datacenters.sort();
                there.datacenters.dedup();
            }
        }
    }
    Ok(services)
}

fn nodes(asked: &[NewNodeIdentity], what: &str) -> Result<Vec<NodeIdentity>, Refusal> {
    let mut nodes: Vec<NodeIdentity> = Vec::new();
    for NewNodeIdentity { name, datacenter } in asked {
        let missing = |field: &str| {
            Refusal::Failed(format!("Node identity is missing the {field} field on this {what}"))
        };
        if name.is_empty() {
            return Err(missing("node name"));
        }
        if datacenter.is_empty() {
            return Err(missing("datacenter"));
        }
        if node_identity(name).is_err() {
            return Err(Refusal::failed(
                "Node identity has an invalid name. Only alphanumeric characters, '-' and '_' are allowed",
            ));
        }
        if !nodes.iter().any(|node| node.node_name == *name && node.datacenter == *datacenter) {
            nodes.push(NodeIdentity { node_name: name.clone(), datacenter: datacenter.clone() });
        }
    }
    Ok(nodes)
}

/// Refuses a name that another policy has.
pub(super) fn free_policy_name(
    there: &[Policy],
    id: Option<Uuid>,
    name: &str,
) -> Result<(), Refusal> {
    let names = there.iter().map(|policy| (policy.id, policy.name.as_str()));
    free_name(["Policy", "policy"], names, id, name)
}

/// Refuses a name that another role has.
pub(super) fn free_role_name(there: &[Role], id: Option<Uuid>, name: &str) -> Result<(), Refusal> {
    let names = there.iter().map(|role| (role.id, role.name.as_str()));
    free_name(["Role", "role"], names, id, name)
}

fn free_name<'n>(
    [what, again]: [&str; 2],
    mut there: impl Iterator<Item = (Uuid, &'n str)>,
    id: Option<Uuid>,
    name: &str,
) -> Result<(), Refusal> {
    if !there.any(|(other, taken)| Some(other) != id && taken.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    // Consul's words differ by a capital and a letter between what is new and what is renamed.
    Err(Refusal::Failed(match id {
        None => format!("Invalid {what}: A {what} with Name {name:?} already exists"),
        Some(_) => format!("Invalid {what}: A {again} with name {name:?} already exists"),
    }))
}
