//! A session as it is kept and as clients read it.

use std::time::Duration;

use bytes::Bytes;
use pontoon_store::KeyValue;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keyspace;
use crate::refusal::Refusal;

/// The longest that a key can be kept from being acquired, as in Consul, whatever the session says.
const LOCK_DELAY_MAX: Duration = Duration::from_secs(60);

/// What becomes of the keys that a session holds when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Behavior {
    /// They stay, and nobody holds them.
    Release,
    /// They are deleted.
    Delete,
}

/// A check of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServiceCheck {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Namespace", default)]
    pub(super) namespace: String,
}

/// A session. Its id and indexes are not in the stored value but beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(skip)]
    pub(crate) id: Uuid,
    pub(super) name: String,
    pub(crate) node: String,
    pub(super) lock_delay_ns: i64,
    pub(super) behavior: Behavior,
    /// The time to live as the client wrote it.
    pub(super) ttl: String,
    /// The lease that ends it.
    pub(super) lease: Option<i64>,
    /// The checks that are to end it when they fail.
    pub(super) node_checks: Option<Vec<String>>,
    pub(super) service_checks: Option<Vec<ServiceCheck>>,
    #[serde(skip)]
    pub(super) create_index: u64,
    #[serde(skip)]
    pub(super) modify_index: u64,
}

impl Record {
    pub(crate) fn decode(kv: &KeyValue) -> Result<Record, Refusal> {
        let damaged =
            || Refusal::failed("what is stored of a session is damaged, or of a newer version");
        let record: Record = serde_json::from_slice(&kv.value).map_err(|_| damaged())?;
        let id = keyspace::session_id(&kv.key).ok_or_else(damaged)?;
        let (create_index, modify_index) = (kv.create_revision, kv.mod_revision);
        Ok(Record { id, create_index, modify_index, ..record })
    }

    /// The ids of the checks that end it.
    pub(crate) fn checks(&self) -> impl Iterator<Item = &str> {
        let of_node = self.node_checks.iter().flatten().map(String::as_str);
        of_node.chain(self.service_checks.iter().flatten().map(|check| check.id.as_str()))
    }

    pub(super) fn encode(&self) -> Result<Bytes, Refusal> {
        let bytes = serde_json::to_vec(self);
        bytes.map(Bytes::from).map_err(|error| Refusal::Failed(format!("write a session: {error}")))
    }

    /// How long keys cannot be acquired after it ended while it held them.
    pub(super) fn lock_delay(&self) -> Duration {
        let nanos = u64::try_from(self.lock_delay_ns).unwrap_or(0);
        Duration::from_nanos(nanos).min(LOCK_DELAY_MAX)
    }
}

/// A session as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shown<'r> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'r str,
    node: &'r str,
    lock_delay: i64,
    behavior: Behavior,
    #[serde(rename = "TTL")]
    ttl: &'r str,
    node_checks: &'r Option<Vec<String>>,
    service_checks: &'r Option<Vec<ServiceCheck>>,
    create_index: u64,
    modify_index: u64,
}

impl Shown<'_> {
    pub(super) fn of(record: &Record) -> Shown<'_> {
        Shown {
            id: record.id,
            name: &record.name,
            node: &record.node,
            lock_delay: record.lock_delay_ns,
            behavior: record.behavior,
            ttl: &record.ttl,
            node_checks: &record.node_checks,
            service_checks: &record.service_checks,
            create_index: record.create_index,
            modify_index: record.modify_index,
        }
    }
}
