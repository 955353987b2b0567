//! Messages of the Lock and Election services.

use bytes::Bytes;

use super::{KeyValue, ResponseHeader, messages};

messages! {
    /// The wish for a lock, for as long as the lease lives.
    LockRequest {
        #[prost(bytes = "bytes", tag = "1")] name: Bytes,
        #[prost(int64, tag = "2")] lease: i64,
    }

    /// The key that holds the lock: as long as it exists, its owner has it.
    LockResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(bytes = "bytes", tag = "2")] key: Bytes,
    }

    /// Gives a lock back, by its key.
    UnlockRequest {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
    }

    /// The wish to be elected, with the value to proclaim.
    CampaignRequest {
        #[prost(bytes = "bytes", tag = "1")] name: Bytes,
        #[prost(int64, tag = "2")] lease: i64,
        #[prost(bytes = "bytes", tag = "3")] value: Bytes,
    }

    /// It is elected.
    CampaignResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, optional, tag = "2")] leader: Option<LeaderKey>,
    }

    /// Proof of an office: the key, and the revision that made it.
    LeaderKey {
        #[prost(bytes = "bytes", tag = "1")] name: Bytes,
        #[prost(bytes = "bytes", tag = "2")] key: Bytes,
        #[prost(int64, tag = "3")] rev: i64,
        #[prost(int64, tag = "4")] lease: i64,
    }

    /// Another value of who is elected.
    ProclaimRequest {
        #[prost(message, optional, tag = "1")] leader: Option<LeaderKey>,
        #[prost(bytes = "bytes", tag = "2")] value: Bytes,
    }

    /// Who is elected?
    LeaderRequest {
        #[prost(bytes = "bytes", tag = "1")] name: Bytes,
    }

    /// The key of who is elected, with the value.
    LeaderResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, optional, tag = "2")] kv: Option<KeyValue>,
    }

    /// Gives an office back.
    ResignRequest {
        #[prost(message, optional, tag = "1")] leader: Option<LeaderKey>,
    }
}
