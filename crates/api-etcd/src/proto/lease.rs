//! Messages of the Lease service.

use bytes::Bytes;

use super::{ResponseHeader, messages};

messages! {
    /// The wish for a lease.
    LeaseGrantRequest {
        #[prost(int64, tag = "1")] ttl: i64,
        #[prost(int64, tag = "2")] id: i64,
    }

    /// The lease.
    LeaseGrantResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(int64, tag = "2")] id: i64,
        #[prost(int64, tag = "3")] ttl: i64,
    }

    /// A lease by its number: to be revoked, to be kept alive, or in a list.
    LeaseId {
        #[prost(int64, tag = "1")] id: i64,
    }

    /// How long the lease lives from now on; 0 if it does not live.
    LeaseKeepAliveResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(int64, tag = "2")] id: i64,
        #[prost(int64, tag = "3")] ttl: i64,
    }

    /// What is left of a lease?
    LeaseTimeToLiveRequest {
        #[prost(int64, tag = "1")] id: i64,
        #[prost(bool, tag = "2")] keys: bool,
    }

    /// What is left of it; a time to live of -1 if it does not live.
    LeaseTimeToLiveResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(int64, tag = "2")] id: i64,
        #[prost(int64, tag = "3")] ttl: i64,
        #[prost(int64, tag = "4")] granted_ttl: i64,
        #[prost(bytes = "bytes", repeated, tag = "5")] keys: Vec<Bytes>,
    }

    /// All leases.
    LeaseLeasesResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, repeated, tag = "2")] leases: Vec<LeaseId>,
    }
}
