//! Nodes as Consul's catalog shows them: a record says that there is one, its object how it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node as NodeObject;
use pontoon_api_consul::cluster::{Check, NODE_CHECK, Node, Service, Status, VERSION};
use pontoon_controllers::is_unanswered;
use pontoon_store::KeyValue;

use super::names;
use crate::cluster::{NodeRecord, decode};
use crate::config::MANAGER_PORT;
use crate::identity::Role;

/// What Consul says of a node that lives, and of one that does not.
const ALIVE: &str = "Agent alive and reachable";
const DEAD: &str = "Agent not live or unreachable";

/// A node's record.
pub(super) struct Recorded {
    pub(super) record: NodeRecord,
    created: u64,
    changed: u64,
}

impl Recorded {
    pub(super) fn read(kv: &KeyValue) -> Option<Recorded> {
        let record = match decode(&kv.value) {
            Ok(record) => record,
            Err(refusal) => {
                tracing::warn!(error = refusal.message, "a node's record is left out");
                return None;
            }
        };
        Some(Recorded { record, created: kv.create_revision, changed: kv.mod_revision })
    }

    /// The node itself.
    pub(super) fn node(&self, cluster: &str) -> Node {
        let address = self.record.address.to_string();
        let family = match self.record.address {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        let tagged = ["lan", "wan"].into_iter().flat_map(|net| {
            [(net.to_owned(), address.clone()), (format!("{net}_{family}"), address.clone())]
        });
        Node {
            id: names::node_id(cluster, self.record.member),
            name: self.record.name.clone(),
            tagged_addresses: tagged.collect(),
            meta: BTreeMap::from([("consul-network-segment".to_owned(), String::new())]),
            create_index: self.created,
            modify_index: self.changed,
            address,
        }
    }

    /// The service `consul`, which is on every manager.
    pub(super) fn server(&self) -> Option<Service> {
        (self.record.role == Role::Manager).then(|| {
            let non_voter = self.record.learner.to_string();
            let meta = [
                ("non_voter", non_voter.as_str()),
                ("raft_version", "3"),
                ("serf_protocol_current", "2"),
                ("serf_protocol_max", "5"),
                ("serf_protocol_min", "1"),
                ("version", VERSION),
            ];
            Service {
                id: names::SERVERS.to_owned(),
                name: names::SERVERS.to_owned(),
                meta: meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                port: MANAGER_PORT,
                create_index: self.created,
                modify_index: self.changed,
                ..Service::default()
            }
        })
    }
}

/// How a node is.
pub(super) struct Health {
    pub(super) node: String,
    pub(super) check: Check,
}

impl Health {
    /// From a node's object. A heartbeat is no change of it.
    pub(super) fn read(kv: &KeyValue, before: Option<Health>) -> Option<Health> {
        let object: NodeObject = super::picture::object(kv)?;
        let status = if is_unanswered(&object) { Status::Critical } else { Status::Passing };
        let output = output(&object, status);
        let node = object.metadata.name?;
        if let Some(before) =
            before.filter(|b| b.check.status == status && b.check.output == output)
        {
            return Some(before);
        }
        let check = Check {
            id: NODE_CHECK.to_owned(),
            name: "Serf Health Status".to_owned(),
            status,
            output,
            create_index: kv.create_revision,
            modify_index: kv.mod_revision,
            ..Check::default()
        };
        Some(Health { node, check })
    }
}

/// Consul's words, and what the node complains of.
fn output(object: &NodeObject, status: Status) -> String {
    if status == Status::Critical {
        return DEAD.to_owned();
    }
    let conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut bad = conditions.filter(|c| (c.type_ == "Ready") != (c.status == "True"));
    match bad.next() {
        None => ALIVE.to_owned(),
        Some(first) => {
            let why = first.message.as_deref().or(first.reason.as_deref()).unwrap_or_default();
            format!("{ALIVE}; {}={}: {why}", first.type_, first.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use serde_json::json;

    fn health(status: &str, reason: &str, revision: u64, before: Option<Health>) -> Health {
        let ready = json!({ "type": "Ready", "status": status, "reason": reason, "message": "m" });
        let free = json!({ "type": "DiskPressure", "status": "False" });
        let body = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" },
            "status": { "conditions": [free, ready] },
        });
        Health::read(&record(body.to_string(), revision), before).unwrap()
    }

    #[test]
    fn a_node_is_critical_when_nobody_answers_for_it() {
        let told = |status, reason| {
            let check = health(status, reason, 1, None).check;
            (check.status, check.output)
        };
        assert_eq!(told("True", "KubeletReady"), (Status::Passing, ALIVE.to_owned()));
        assert_eq!(told("Unknown", "NodeStatusUnknown"), (Status::Critical, DEAD.to_owned()));
        assert_eq!(told("False", "NodeDaemonDown"), (Status::Critical, DEAD.to_owned()));
        let ill = told("False", "NetworkNotReady");
        assert_eq!(ill, (Status::Passing, format!("{ALIVE}; Ready=False: m")));
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let first = health("True", "KubeletReady", 5, None);
        let again = health("True", "KubeletReady", 6, Some(first));
        assert_eq!(again.check.modify_index, 5);
        assert_eq!(health("Unknown", "", 7, Some(again)).check.modify_index, 7);
    }
}
