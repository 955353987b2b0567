//! Consul's access control: the language of policies, and what a token with some of them may do.
//!
//! [`Rules::parse`] reads a policy; [`Authorizer::new`] joins a token's policies with what is the case
//! where they have no rule.

mod authorizer;
mod builtin;
mod hcl;
mod rules;
mod segments;

#[cfg(test)]
mod tests;

pub use self::authorizer::{Authorizer, EnforceError, Otherwise};
pub use self::builtin::{
    BadName, GLOBAL_MANAGEMENT_DESCRIPTION, GLOBAL_MANAGEMENT_ID, GLOBAL_MANAGEMENT_NAME,
    GLOBAL_MANAGEMENT_RULES, node_identity, service_identity,
};
pub use self::hcl::HclError;
pub use self::rules::{Access, Resource, Rule, Rules, RulesError, Scope};
