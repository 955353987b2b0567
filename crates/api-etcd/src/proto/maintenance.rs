//! Messages of the Maintenance service, and the one of Auth that is answered.

use bytes::Bytes;

use super::{ResponseHeader, messages};

messages! {
    /// A question or order about alarms.
    AlarmRequest {
        #[prost(enumeration = "AlarmAction", tag = "1")] action: i32,
        #[prost(uint64, tag = "2")] member_id: u64,
        #[prost(enumeration = "AlarmType", tag = "3")] alarm: i32,
    }

    /// An alarm that is on.
    AlarmMember {
        #[prost(uint64, tag = "1")] member_id: u64,
        #[prost(enumeration = "AlarmType", tag = "2")] alarm: i32,
    }

    /// The alarms.
    AlarmResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, repeated, tag = "2")] alarms: Vec<AlarmMember>,
    }

    /// How a member is doing.
    StatusResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(string, tag = "2")] version: String,
        #[prost(int64, tag = "3")] db_size: i64,
        #[prost(uint64, tag = "4")] leader: u64,
        #[prost(uint64, tag = "5")] raft_index: u64,
        #[prost(uint64, tag = "6")] raft_term: u64,
        #[prost(uint64, tag = "7")] raft_applied_index: u64,
        #[prost(string, repeated, tag = "8")] errors: Vec<String>,
        #[prost(int64, tag = "9")] db_size_in_use: i64,
        #[prost(bool, tag = "10")] is_learner: bool,
    }

    /// The hash of everything.
    HashResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(uint32, tag = "2")] hash: u32,
    }

    /// The hash of the keys at a revision?
    HashKvRequest {
        #[prost(int64, tag = "1")] revision: i64,
    }

    /// The hash of the keys.
    HashKvResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(uint32, tag = "2")] hash: u32,
        #[prost(int64, tag = "3")] compact_revision: i64,
        #[prost(int64, tag = "4")] hash_revision: i64,
    }

    /// A piece of a snapshot.
    SnapshotResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(uint64, tag = "2")] remaining_bytes: u64,
        #[prost(bytes = "bytes", tag = "3")] blob: Bytes,
    }

    /// Who is to lead.
    MoveLeaderRequest {
        #[prost(uint64, tag = "1")] target_id: u64,
    }

    /// Whether users and roles are in force.
    AuthStatusResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(bool, tag = "2")] enabled: bool,
        #[prost(uint64, tag = "3")] auth_revision: u64,
    }
}

/// What is to be done about alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum AlarmAction {
    Get = 0,
    Activate = 1,
    Deactivate = 2,
}

/// The kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum AlarmType {
    None = 0,
    NoSpace = 1,
    Corrupt = 2,
}
