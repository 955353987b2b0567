//! etcd's messages, written by hand from the field numbers that its API documents.
//!
//! What a message does not name is skipped when it is read, as protobuf asks.

mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

pub(crate) use cluster::{
    Member, MemberAddRequest, MemberAddResponse, MemberIdRequest, MemberListRequest,
    MemberUpdateRequest, MembersResponse,
};
pub(crate) use kv::{
    CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, Operand, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Request, RequestOp, Response, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
pub(crate) use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
pub(crate) use maintenance::{
    AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthStatusResponse,
    HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest, SnapshotResponse,
    StatusResponse,
};
pub(crate) use watch::{
    Event, EventType, Filter, WatchCreate, WatchKind, WatchRequest, WatchResponse,
};

#[cfg(test)]
pub(crate) use watch::{WatchCancel, WatchProgress};

/// What every answer begins with.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(crate) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(crate) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(crate) raft_term: u64,
}

/// A message without fields of interest.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Empty {}

/// An answer that is a header alone.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct HeaderResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
}

/// Defines messages with crate-visible fields: the tables below are then one line a field.
macro_rules! messages {
    ($($(#[$about:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $name {
            $($(#[$attribute])* pub(crate) $field: $type,)*
        }
    )*};
}
use messages;
