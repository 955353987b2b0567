//! A token as clients read it, and what it and roles have, by the names of now.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::record::{NodeIdentity, ServiceIdentity, Token};
use super::state::Names;

/// A token as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shown<'t> {
    /// The secret once more, as the first token has it.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<&'t str>,
    #[serde(rename = "AccessorID")]
    accessor: Uuid,
    #[serde(rename = "SecretID", skip_serializing_if = "Option::is_none")]
    secret: Option<&'t str>,
    description: &'t str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<ShownLink<'t>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<ShownLink<'t>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    service_identities: &'t [ServiceIdentity],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    node_identities: &'t [NodeIdentity],
    local: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_time: Option<Timestamp>,
    create_time: Timestamp,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

/// A policy or a role that something has.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShownLink<'t> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'t str,
}

/// Those that are still there, by the names that they have now.
pub(super) fn links<'t>(ids: &'t [Uuid], names: &'t HashMap<Uuid, String>) -> Vec<ShownLink<'t>> {
    let there = ids.iter().filter_map(|id| names.get(id).map(|name| (*id, name)));
    there.map(|(id, name)| ShownLink { id, name }).collect()
}

impl<'t> Shown<'t> {
    /// A token without its secret.
    pub(super) fn of(token: &'t Token, names: &'t Names) -> Shown<'t> {
        Shown {
            id: None,
            accessor: token.accessor,
            secret: None,
            description: &token.description,
            policies: links(&token.grants.policies, &names.policies),
            roles: links(&token.roles, &names.roles),
            service_identities: &token.grants.services,
            node_identities: &token.grants.nodes,
            local: token.is_local,
            expiration_time: token.expires,
            create_time: token.created,
            hash: token.hash(),
            create_index: token.indexes.create,
            modify_index: token.indexes.modify,
        }
    }

    /// A token with this in the place of its secret.
    pub(super) fn with(secret: &'t str, token: &'t Token, names: &'t Names) -> Shown<'t> {
        Shown { secret: Some(secret), ..Shown::of(token, names) }
    }

    /// The first token, with its secret under both names.
    pub(super) fn first(token: &'t Token, names: &'t Names) -> Shown<'t> {
        let secret = token.secret.reveal();
        Shown { id: Some(secret), ..Shown::with(secret, token, names) }
    }
}
