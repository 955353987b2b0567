//! Policies that are there without being written: for management, and those that an identity stands for.

use super::rules::{Access, Resource, Rule, Rules, Scope};

pub const GLOBAL_MANAGEMENT_ID: &str = "00000000-0000-0000-0000-000000000001";
pub const GLOBAL_MANAGEMENT_NAME: &str = "global-management";
pub const GLOBAL_MANAGEMENT_DESCRIPTION: &str = "Builtin Policy that grants unlimited access";

/// The rules of the policy for management, as clients see them.
pub const GLOBAL_MANAGEMENT_RULES: &str = r#"
acl = "write"
keyring = "write"
mesh = "write"
operator = "write"
peering = "write"
agent_prefix "" {
  policy = "write"
}
event_prefix "" {
  policy = "write"
}
key_prefix "" {
  policy = "write"
}
node_prefix "" {
  policy = "write"
}
query_prefix "" {
  policy = "write"
}
service_prefix "" {
  policy = "write"
  intentions = "write"
}
session_prefix "" {
  policy = "write"
}
"#;

const MAX_NAME: usize = 256;

/// A name that an identity cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of an identity: it must be of lower-case letters, digits, - and _, begin and end \
     with a letter or a digit, and have {MAX_NAME} characters at most"
)]
pub struct BadName(pub String);

/// What a service needs: to register itself and its sidecar, and to find all others.
pub fn service_identity(name: &str) -> Result<Rules, BadName> {
    let name = checked(name)?;
    Ok(Rules(vec![
        rule(Resource::Service, Scope::Exact(name.to_owned()), Access::Write),
        rule(Resource::Service, Scope::Exact(format!("{name}-sidecar-proxy")), Access::Write),
        rule(Resource::Service, Scope::Prefix(String::new()), Access::Read),
        rule(Resource::Node, Scope::Prefix(String::new()), Access::Read),
    ]))
}

/// What a node needs: to register itself, and to see which services are on it.
pub fn node_identity(name: &str) -> Result<Rules, BadName> {
    let name = checked(name)?;
    Ok(Rules(vec![
        rule(Resource::Node, Scope::Exact(name.to_owned()), Access::Write),
        rule(Resource::Service, Scope::Prefix(String::new()), Access::Read),
    ]))
}

fn rule(resource: Resource, scope: Scope, access: Access) -> Rule {
    Rule { resource, scope, access, intentions: None }
}

fn checked(name: &str) -> Result<&str, BadName> {
    let outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = bytes.first().is_some_and(outer)
        && bytes.last().is_some_and(outer)
        && bytes.iter().all(|byte| outer(byte) || matches!(byte, b'-' | b'_'))
        && bytes.len() <= MAX_NAME;
    if good { Ok(name) } else { Err(BadName(name.to_owned())) }
}
