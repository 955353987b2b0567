//! The replicated key-value state: etcd's data model on an embedded consensus engine.
//!
//! [`Store`] is the whole of it; see `ALGORITHM.md` beside the sources for how it works.

mod answer;
mod check;
mod command;
mod config;
mod core;
mod disk;
mod error;
mod handover;
mod hash;
mod housekeeping;
mod hub;
mod kv;
mod lease;
mod lessor;
mod linearize;
mod log;
mod member;
mod membership;
mod mvcc;
mod offline;
mod open;
mod propose;
mod raft;
mod range;
mod retry;
mod runtime;
mod snapshot;
mod snapshot_stream;
mod store;
mod transport;
mod txn;
mod watch;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod copies_tests;
#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod offline_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod watch_tests;

pub use check::{FileReport, MemberFiles, StoreReport, verify_store};
pub use config::{ReadPolicy, StoreConfig, Tuning};
pub use error::{MemberError, OpenError, ReadError, SnapshotError, WatchError, WriteError};
pub use hash::{MemberHash, StateHash};
pub use kv::{Event, EventKind, KeyValue, prefix_end};
pub use lease::{Lease, LeaseStatus};
pub use member::{Leadership, Member, MemberId, MemberStatus, Role};
pub use mvcc::ANSWER_MAX;
pub use offline::{DetachedState, store_member};
pub use raft::Shortage;
pub use range::{Order, OrderBy, Range, RangeResponse, Read, Revisions};
pub use snapshot::{SnapshotSummary, inspect_snapshot};
pub use snapshot_stream::SnapshotStream;
pub use store::{Store, StoreStatus};
pub use transport::{BoxedStream, ByteStream, Transport};
pub use txn::{Compare, CompareOp, DeleteRange, Op, OpResponse, Operand, Put, Txn, TxnResponse};
pub use watch::{Batch, Watch, WatchRequest};
