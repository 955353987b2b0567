//! Tokens, policies and roles, as they are kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use pontoon_store::KeyValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{GLOBAL_MANAGEMENT_ID, Secret};
use crate::keyspace::{ACL_POLICIES, ACL_ROLES, ACL_TOKENS};
use crate::refusal::Refusal;

/// The accessor of the token that counts where none is shown, and its secret.
pub(super) const ANONYMOUS: Uuid = Uuid::from_u128(2);
pub(super) const ANONYMOUS_SECRET: &str = "anonymous";
/// The policy for management.
pub(super) const MANAGEMENT: Uuid = Uuid::from_u128(1);

/// When something was made and when it changed last: revisions of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Indexes {
    pub(super) create: u64,
    pub(super) modify: u64,
}

/// Something that is kept under its id.
pub(super) trait Kept: Serialize + DeserializeOwned {
    /// The prefix of all of its kind.
    const PREFIX: &'static str;

    fn id(&self) -> Uuid;

    fn indexes(&mut self) -> &mut Indexes;

    /// Where one with this id is.
    fn key(id: Uuid) -> Bytes {
        Bytes::from(format!("{}{id}", Self::PREFIX))
    }

    fn decode(kv: &KeyValue) -> Result<Self, Refusal> {
        let damaged = "what is stored of access control is damaged, or of a newer version";
        let mut kept: Self =
            serde_json::from_slice(&kv.value).map_err(|_| Refusal::failed(damaged))?;
        *kept.indexes() = Indexes { create: kv.create_revision, modify: kv.mod_revision };
        Ok(kept)
    }

    fn encode(&self) -> Result<Bytes, Refusal> {
        let bytes = serde_json::to_vec(self);
        bytes.map(Bytes::from).map_err(|error| Refusal::Failed(format!("write a record: {error}")))
    }
}

/// Rules that tokens may have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) rules: String,
    /// Where it counts; everywhere if none is named.
    pub(super) datacenters: Vec<String>,
    #[serde(skip)]
    pub(super) indexes: Indexes,
}

/// What a token or a role grants by itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Grants {
    /// Those that are no more there grant nothing.
    pub(super) policies: Vec<Uuid>,
    pub(super) services: Vec<ServiceIdentity>,
    pub(super) nodes: Vec<NodeIdentity>,
}

/// Stands for what a service needs, in some datacenters or in all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceIdentity {
    pub(super) service_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) datacenters: Vec<String>,
}

/// Stands for what a node needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeIdentity {
    pub(super) node_name: String,
    pub(super) datacenter: String,
}

/// Grants under a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) grants: Grants,
    #[serde(skip)]
    pub(super) indexes: Indexes,
}

/// Who shows its secret has what it grants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Token {
    /// Its name: to know it is to know nothing that opens anything.
    pub(super) accessor: Uuid,
    pub(super) secret: Secret,
    pub(super) description: String,
    pub(super) grants: Grants,
    pub(super) roles: Vec<Uuid>,
    pub(super) is_local: bool,
    pub(super) created: Timestamp,
    pub(super) expires: Option<Timestamp>,
    #[serde(skip)]
    pub(super) indexes: Indexes,
}

impl Token {
    /// A token that is not kept yet and grants nothing.
    pub(super) fn new(description: &str) -> Token {
        Token {
            accessor: Uuid::new_v4(),
            secret: Secret::from(Uuid::new_v4().to_string()),
            description: description.to_owned(),
            grants: Grants::default(),
            roles: Vec::new(),
            is_local: false,
            created: Timestamp::now(),
            expires: None,
            indexes: Indexes::default(),
        }
    }

    /// A token that may do everything.
    pub(super) fn for_management(description: &str) -> Token {
        let grants = Grants { policies: vec![MANAGEMENT], ..Grants::default() };
        Token { grants, ..Token::new(description) }
    }

    /// The token that counts where none is shown, before anybody changes it.
    pub(super) fn anonymous() -> Token {
        Token {
            accessor: ANONYMOUS,
            secret: Secret::from(ANONYMOUS_SECRET.to_owned()),
            ..Token::new("Anonymous Token")
        }
    }

    /// True if its time is up.
    pub(super) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Timestamp::now())
    }

    /// Changes when what it grants or its description does.
    pub(super) fn hash(&self) -> String {
        hash(&(&self.description, &self.grants, &self.roles))
    }
}

impl Role {
    pub(super) fn hash(&self) -> String {
        hash(&(&self.name, &self.description, &self.grants))
    }
}

impl Policy {
    /// The policy for management.
    pub(super) fn for_management() -> Policy {
        debug_assert_eq!(MANAGEMENT.to_string(), GLOBAL_MANAGEMENT_ID);
        Policy {
            id: MANAGEMENT,
            name: super::GLOBAL_MANAGEMENT_NAME.to_owned(),
            description: super::GLOBAL_MANAGEMENT_DESCRIPTION.to_owned(),
            rules: super::GLOBAL_MANAGEMENT_RULES.to_owned(),
            datacenters: Vec::new(),
            indexes: Indexes::default(),
        }
    }

    pub(super) fn hash(&self) -> String {
        hash(&(&self.name, &self.description, &self.rules, &self.datacenters))
    }
}

fn hash(of: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(of).expect("texts and lists of texts are always JSON");
    STANDARD.encode(Sha256::digest(bytes))
}

impl Kept for Token {
    const PREFIX: &'static str = ACL_TOKENS;

    fn id(&self) -> Uuid {
        self.accessor
    }

    fn indexes(&mut self) -> &mut Indexes {
        &mut self.indexes
    }
}

impl Kept for Policy {
    const PREFIX: &'static str = ACL_POLICIES;

    fn id(&self) -> Uuid {
        self.id
    }

    fn indexes(&mut self) -> &mut Indexes {
        &mut self.indexes
    }
}

impl Kept for Role {
    const PREFIX: &'static str = ACL_ROLES;

    fn id(&self) -> Uuid {
        self.id
    }

    fn indexes(&mut self) -> &mut Indexes {
        &mut self.indexes
    }
}
