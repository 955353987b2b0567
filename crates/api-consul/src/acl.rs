//! Consul's access control: the language of policies, and what a token with some of them may do.
//!
//! [`Rules::parse`] reads a policy; [`Authorizer::new`] joins a token's policies with what is the case
//! where they have no rule. `/v1/acl/` serves them; `Resolver` finds what a request's token may do.

mod authorizer;
mod body;
mod bootstrap;
mod builtin;
mod hcl;
mod keeper;
pub(crate) mod policy;
mod record;
mod resolver;
pub(crate) mod role;
mod rules;
mod segments;
mod settings;
mod shown;
mod state;
pub(crate) mod token;

#[cfg(test)]
mod tests;

pub use self::authorizer::{Authorizer, EnforceError, Otherwise};
pub(crate) use self::bootstrap::{bootstrap, not_served, replication};
pub use self::builtin::{
    BadName, GLOBAL_MANAGEMENT_DESCRIPTION, GLOBAL_MANAGEMENT_ID, GLOBAL_MANAGEMENT_NAME,
    GLOBAL_MANAGEMENT_RULES, node_identity, service_identity,
};
pub use self::hcl::HclError;
pub(crate) use self::resolver::Resolver;
pub use self::rules::{Access, Resource, Rule, Rules, RulesError, Scope};
pub use self::settings::{AclSettings, DefaultPolicy, Secret};

use uuid::Uuid;

use crate::call::Call;
use crate::refusal::Refusal;

/// Refuses everything about tokens while nobody needs one.
fn must_be_on(call: &Call) -> Result<(), Refusal> {
    match call.server.inner.settings.acl {
        Some(_) => Ok(()),
        None => Err(Refusal::AclOff),
    }
}

/// The id of a token, a policy or a role, as Consul reads it; or what it says of another text.
fn id(what: &str, text: &str) -> Result<Uuid, String> {
    let bad = |why: &str| format!("failed acl {what} lookup: index error: {why}");
    if text.len() != 36 {
        return Err(bad("UUID must be 36 characters"));
    }
    Uuid::try_parse(text).map_err(|error| bad(&format!("Invalid UUID: {error}")))
}
