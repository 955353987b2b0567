//! Messages of the Cluster service.

use super::{ResponseHeader, messages};

messages! {
    /// A member of the cluster.
    Member {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(string, tag = "2")] name: String,
        #[prost(string, repeated, tag = "3")] peer_urls: Vec<String>,
        #[prost(string, repeated, tag = "4")] client_urls: Vec<String>,
        #[prost(bool, tag = "5")] is_learner: bool,
    }

    /// The wish for another member.
    MemberAddRequest {
        #[prost(string, repeated, tag = "1")] peer_urls: Vec<String>,
        #[prost(bool, tag = "2")] is_learner: bool,
    }

    /// The new member, and all members.
    MemberAddResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, optional, tag = "2")] member: Option<Member>,
        #[prost(message, repeated, tag = "3")] members: Vec<Member>,
    }

    /// A member by its number: to be removed or promoted.
    MemberIdRequest {
        #[prost(uint64, tag = "1")] id: u64,
    }

    /// New addresses of a member.
    MemberUpdateRequest {
        #[prost(uint64, tag = "1")] id: u64,
        #[prost(string, repeated, tag = "2")] peer_urls: Vec<String>,
    }

    /// Who is a member?
    MemberListRequest {
        #[prost(bool, tag = "1")] linearizable: bool,
    }

    /// All members.
    MembersResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, repeated, tag = "2")] members: Vec<Member>,
    }
}
