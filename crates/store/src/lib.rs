//! The replicated key-value state: etcd's data model on an embedded consensus engine.
//!
//! [`Store`] is the whole of it; see `ALGORITHM.md` beside the sources for how it works.

mod config;
mod error;
mod kv;
mod lease;
mod member;
mod range;
mod store;
mod transport;
mod txn;
mod watch;

pub use config::{ReadPolicy, StoreConfig, Tuning};
pub use error::{MemberError, OpenError, ReadError, WatchError, WriteError};
pub use kv::{Event, EventKind, KeyValue, prefix_end};
pub use lease::{Lease, LeaseStatus};
pub use member::{Leadership, Member, MemberId, MemberStatus, Role};
pub use range::{Range, RangeResponse, Read};
pub use store::{Store, StoreStatus};
pub use transport::{BoxedStream, ByteStream, Transport};
pub use txn::{Compare, CompareOp, DeleteRange, Op, OpResponse, Operand, Put, Txn, TxnResponse};
pub use watch::{Batch, Watch, WatchRequest};
