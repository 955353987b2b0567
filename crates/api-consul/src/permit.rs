//! What a token may do: every endpoint asks here before it does or tells anything.

use std::sync::Arc;

use async_trait::async_trait;

use crate::acl::{Access, Authorizer, Resource};

/// One thing that somebody wants to do. Keys are the bytes that are stored, after all decoding: a permission is never
/// asked for another form of a key than the one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish<'a> {
    /// Read one key. Of a list, those that may not be read are left out.
    KeyRead(&'a [u8]),
    /// List the keys with a prefix.
    KeyList(&'a [u8]),
    /// Write, lock or delete one key.
    KeyWrite(&'a [u8]),
    /// Delete all keys with a prefix.
    KeyWriteTree(&'a [u8]),
    /// Read the sessions of a node.
    SessionRead(&'a str),
    /// Make, renew or end sessions of a node.
    SessionWrite(&'a str),
    /// See events of a name.
    EventRead(&'a str),
    /// Fire events of a name.
    EventWrite(&'a str),
    /// See a node and its checks.
    NodeRead(&'a str),
    /// Register a node, and checks of it.
    NodeWrite(&'a str),
    /// See a service.
    ServiceRead(&'a str),
    /// Register a service, and checks of it.
    ServiceWrite(&'a str),
    /// See and run a prepared query.
    QueryRead(&'a str),
    /// Make, change or delete a prepared query.
    QueryWrite(&'a str),
    /// See how a server is.
    AgentRead(&'a str),
    /// Have a server do something.
    AgentWrite(&'a str),
    /// See who the servers are.
    OperatorRead,
    /// Change the cluster.
    OperatorWrite,
    /// See tokens (but for their secrets), policies and roles.
    AclRead,
    /// Change them; take and restore snapshots, which have them in them.
    AclWrite,
}

/// What a wish is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    Session,
    Event,
    Node,
    Service,
    Query,
    Agent,
    Operator,
    Acl,
}

impl Wish<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Wish::KeyRead(_) | Wish::KeyList(_) | Wish::KeyWrite(_) | Wish::KeyWriteTree(_) => {
                Kind::Key
            }
            Wish::SessionRead(_) | Wish::SessionWrite(_) => Kind::Session,
            Wish::EventRead(_) | Wish::EventWrite(_) => Kind::Event,
            Wish::NodeRead(_) | Wish::NodeWrite(_) => Kind::Node,
            Wish::ServiceRead(_) | Wish::ServiceWrite(_) => Kind::Service,
            Wish::QueryRead(_) | Wish::QueryWrite(_) => Kind::Query,
            Wish::AgentRead(_) | Wish::AgentWrite(_) => Kind::Agent,
            Wish::OperatorRead | Wish::OperatorWrite => Kind::Operator,
            Wish::AclRead | Wish::AclWrite => Kind::Acl,
        }
    }
}

/// What one token may do.
pub(crate) trait Permit: Send + Sync {
    /// True if it may do this.
    fn allows(&self, wish: Wish<'_>) -> bool;
}

/// Why nothing is known about what a token may do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PermitError {
    /// There is no such token.
    #[error("ACL not found")]
    UnknownToken,
    /// The tokens could not be read.
    #[error("read the token's policies: {0}")]
    Unreadable(String),
}

/// Knows all tokens.
#[async_trait]
pub(crate) trait Permits: Send + Sync + 'static {
    /// What a token may do; the empty token is that of everybody.
    async fn of(&self, token: &str) -> Result<Arc<dyn Permit>, PermitError>;
}

impl Permit for Authorizer {
    fn allows(&self, wish: Wish<'_>) -> bool {
        let (resource, name, access) = match wish {
            Wish::KeyRead(key) => (Resource::Key, key, Access::Read),
            Wish::KeyWrite(key) => (Resource::Key, key, Access::Write),
            Wish::KeyWriteTree(prefix) => return self.allows_key_prefix(prefix),
            // As in Consul by default: a list shows what may be read of it.
            Wish::KeyList(_) => return true,
            Wish::SessionRead(node) => (Resource::Session, node.as_bytes(), Access::Read),
            Wish::SessionWrite(node) => (Resource::Session, node.as_bytes(), Access::Write),
            Wish::EventRead(event) => (Resource::Event, event.as_bytes(), Access::Read),
            Wish::EventWrite(event) => (Resource::Event, event.as_bytes(), Access::Write),
            Wish::NodeRead(node) => (Resource::Node, node.as_bytes(), Access::Read),
            Wish::NodeWrite(node) => (Resource::Node, node.as_bytes(), Access::Write),
            Wish::ServiceRead(service) => (Resource::Service, service.as_bytes(), Access::Read),
            Wish::ServiceWrite(service) => (Resource::Service, service.as_bytes(), Access::Write),
            Wish::QueryRead(query) => (Resource::Query, query.as_bytes(), Access::Read),
            Wish::QueryWrite(query) => (Resource::Query, query.as_bytes(), Access::Write),
            Wish::AgentRead(node) => (Resource::Agent, node.as_bytes(), Access::Read),
            Wish::AgentWrite(node) => (Resource::Agent, node.as_bytes(), Access::Write),
            Wish::OperatorRead => (Resource::Operator, b"".as_slice(), Access::Read),
            Wish::OperatorWrite => (Resource::Operator, b"".as_slice(), Access::Write),
            Wish::AclRead => (Resource::Acl, b"".as_slice(), Access::Read),
            Wish::AclWrite => (Resource::Acl, b"".as_slice(), Access::Write),
        };
        Authorizer::allows(self, resource, name, access)
    }
}

/// Without access control everybody may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AllowAll;

impl Permit for AllowAll {
    fn allows(&self, _: Wish<'_>) -> bool {
        true
    }
}

#[async_trait]
impl Permits for AllowAll {
    async fn of(&self, _: &str) -> Result<Arc<dyn Permit>, PermitError> {
        Ok(Arc::new(AllowAll))
    }
}
