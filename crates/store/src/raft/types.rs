//! The engine's types, filled in.

use std::sync::Arc;

use openraft::impls::leader_id_std::LeaderId;
use openraft::type_config::alias::{
    LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::vote::leader_id_std::CommittedLeaderId;
use serde::{Deserialize, Serialize};

use super::machine::{Machine, SnapshotData};
use crate::command::{Entry, Outcome};
use crate::log::Position;
use crate::member::{Member, MemberId};
use crate::runtime::Runtime;

/// What applying an entry came to: one outcome for each proposal in it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Applied(pub(crate) Vec<Arc<Outcome>>);

openraft::declare_raft_types!(
    /// The engine's types.
    pub(crate) Types:
        D = Entry,
        R = Applied,
        NodeId = MemberId,
        Node = Member,
        Term = u64,
        LeaderId = LeaderId<u64, MemberId>,
        AsyncRuntime = Runtime,
);

pub(crate) type Engine = openraft::Raft<Types, Machine>;
pub(crate) type LogId = LogIdOf<Types>;
pub(crate) type Vote = VoteOf<Types>;
pub(crate) type Membership = StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<Types>;
pub(crate) type Snapshot = SnapshotOf<Types, SnapshotData>;
pub(crate) type LogEntry = openraft::type_config::alias::EntryOf<Types>;

/// The engine's name for a position.
pub(crate) fn log_id(position: Position) -> LogId {
    LogId::new(CommittedLeaderId::new(position.term), position.index)
}

/// The position of the engine's name.
pub(crate) fn position(id: &LogId) -> Position {
    Position { term: **id.committed_leader_id(), index: id.index() }
}
