//! etcd's messages, written by hand from the field numbers that its API documents.
//!
//! What a message does not name is skipped when it is read, as protobuf asks.

mod cluster;
mod concurrency;
mod kv;
mod lease;
mod maintenance;
mod watch;

pub use cluster::{
    Member, MemberAddRequest, MemberAddResponse, MemberIdRequest, MemberListRequest,
    MemberUpdateRequest, MembersResponse,
};
pub use concurrency::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, LockRequest,
    LockResponse, ProclaimRequest, ResignRequest, UnlockRequest,
};
pub use kv::{
    CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, Operand, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Request, RequestOp, Response, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
pub use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
pub use maintenance::{
    AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthStatusResponse,
    HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest, SnapshotResponse,
    StatusResponse,
};
pub use watch::{
    Event, EventType, Filter, WatchCancel, WatchCreate, WatchKind, WatchProgress, WatchRequest,
    WatchResponse,
};

/// What every answer begins with.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// A message without fields of interest.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// An answer that is a header alone.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HeaderResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// Defines messages with public fields: the tables below are then one line a field.
macro_rules! messages {
    ($($(#[$about:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name {
            $($(#[$attribute])* pub $field: $type,)*
        }
    )*};
}
use messages;
