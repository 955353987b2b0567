//! What Consul's API asks of the cluster: who leads, who the members are, and that one of them goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_api_consul::Cluster;
use pontoon_api_consul::cluster::{Member as Shown, MemberState, Own};
use pontoon_gossip::{Member as Gossiped, Status};
use pontoon_store::{Role as StoreRole, Store};
use tokio::sync::watch;

use super::names;
use super::picture::Picture;
use crate::cluster::NodeRecord;
use crate::config::{GOSSIP_PORT, MANAGER_PORT};
use crate::identity::Role;
use crate::member::Member;
use crate::member::manager::Manager;
use crate::node_removal;

/// The managers, as Consul's servers, and the workers, as its clients.
pub(super) struct Managers {
    member: Member,
    store: Store,
    records: watch::Receiver<Arc<Vec<NodeRecord>>>,
    picture: Arc<Picture>,
}

impl Managers {
    pub(super) fn new(member: Member, manager: &Manager, picture: Arc<Picture>) -> Managers {
        let records = manager.source.records.clone();
        Managers { store: manager.store.clone(), member, records, picture }
    }
}

#[async_trait]
impl Cluster for Managers {
    fn leader(&self) -> Option<String> {
        let leader = self.store.status().leadership.leader?;
        let members = self.store.members();
        let found = members.iter().find(|status| status.member.id == leader)?;
        Some(found.member.address.to_string())
    }

    fn peers(&self) -> Vec<String> {
        let voters = self.store.members().into_iter().filter(|m| m.role == StoreRole::Voter);
        voters.map(|status| status.member.address.to_string()).collect()
    }

    fn members(&self) -> Vec<Shown> {
        let cluster = self.member.membership().cluster;
        let gossip = self.member.gossip().members();
        members(&cluster, &self.records.borrow(), &gossip.borrow())
    }

    async fn own(&self, revision: u64) -> Arc<Own> {
        self.picture.own(revision).await
    }

    fn own_changes(&self) -> watch::Receiver<u64> {
        self.picture.changes()
    }

    async fn leave(&self) -> Result<(), String> {
        self.member.consul().keep_for_the_answer();
        self.member.depart().await.map_err(|refusal| refusal.message)
    }

    async fn remove(&self, node: &str) -> Result<(), String> {
        if !self.records.borrow().iter().any(|record| record.name == node) {
            // It has left, and is to be forgotten by gossip.
            let forgotten = self.member.gossip().force_leave(node).await;
            return forgotten.map_err(|error| format!("forget {node}: {error}"));
        }
        let removed = node_removal::take_out(&self.member, node, false).await;
        removed.map(drop).map_err(|refusal| refusal.message)
    }
}

/// All that have a record or are known to gossip, in order of their names.
fn members(cluster: &str, records: &[NodeRecord], gossip: &[Gossiped]) -> Vec<Shown> {
    let records: BTreeMap<&str, &NodeRecord> =
        records.iter().map(|record| (record.name.as_str(), record)).collect();
    let gossip: BTreeMap<&str, &Gossiped> =
        gossip.iter().map(|member| (member.name.as_str(), member)).collect();
    let all: BTreeSet<&str> = records.keys().chain(gossip.keys()).copied().collect();
    let show = |name: &str| match (records.get(name), gossip.get(name)) {
        (Some(record), heard) => Some(Shown {
            name: name.to_owned(),
            id: names::node_id(cluster, record.member),
            address: SocketAddr::new(record.address, GOSSIP_PORT),
            is_server: record.role == Role::Manager,
            server_port: MANAGER_PORT,
            state: match heard.map(|member| member.status) {
                Some(Status::Alive | Status::Suspect) => MemberState::Alive,
                // What its record says counts: who has not been removed has not left.
                Some(Status::Failed | Status::Left) | None => MemberState::Failed,
            },
        }),
        (None, heard) => heard.map(|heard| Shown {
            name: name.to_owned(),
            id: names::former_id(cluster, name),
            address: heard.address,
            is_server: heard.meta.role == Role::Manager.to_string(),
            server_port: MANAGER_PORT,
            state: MemberState::Left,
        }),
    };
    all.into_iter().filter_map(show).collect()
}

#[cfg(test)]
mod tests {
    use pontoon_gossip::Meta;

    use super::*;

    fn record(name: &str, role: Role) -> NodeRecord {
        NodeRecord {
            name: name.to_owned(),
            member: 1,
            store: 1,
            role,
            learner: false,
            address: [192, 0, 2, 1].into(),
            request: String::new(),
        }
    }

    fn heard(name: &str, status: Status, role: &str) -> Gossiped {
        Gossiped {
            name: name.to_owned(),
            address: ([192, 0, 2, 9], 7946).into(),
            status,
            meta: Meta { role: role.to_owned(), ..Meta::default() },
            incarnation: 1,
            since_ms: 0,
        }
    }

    #[test]
    fn members_are_those_of_the_records_and_those_that_left() {
        let records =
            [record("b", Role::Worker), record("a", Role::Manager), record("n", Role::Worker)];
        let gossip = [
            heard("a", Status::Suspect, "manager"),
            heard("b", Status::Left, "manager"),
            heard("x", Status::Failed, "manager"),
        ];
        let shown: Vec<_> = members("c", &records, &gossip)
            .into_iter()
            .map(|member| (member.name, member.is_server, member.state))
            .collect();
        let expected = [
            ("a", true, MemberState::Alive),
            ("b", false, MemberState::Failed),
            ("n", false, MemberState::Failed),
            ("x", true, MemberState::Left),
        ];
        assert_eq!(shown, expected.map(|(name, server, state)| (name.to_owned(), server, state)));
    }
}
