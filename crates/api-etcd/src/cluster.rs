//! The Cluster service: the managers, as etcd's members.

use async_trait::async_trait;
use pontoon_store::{Range, Read, Role};

use crate::grpc::{Answer, Call, unary};
use crate::proto::{
    Member, MemberAddRequest, MemberAddResponse, MemberIdRequest, MemberListRequest,
    MemberUpdateRequest, MembersResponse,
};
use crate::server::{EtcdServer, method, unknown};
use crate::status::{
    Code, LEARNER_NOT_READY, MEMBER_EXISTS, MEMBER_NOT_FOUND, MEMBER_URLS, NO_LEADER, NOT_LEARNER,
    Status, TOO_FEW_STARTED,
};

/// A manager, as an etcd client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its number in the store.
    pub id: u64,
    /// Its node's name.
    pub name: String,
    /// Where other managers reach it.
    pub peer_urls: Vec<String>,
    /// Where etcd clients reach it; none if it does not serve them.
    pub client_urls: Vec<String>,
    /// True while its copy does not count.
    pub is_learner: bool,
}

/// Why members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// No member has this number.
    #[error("member not found")]
    NotFound,
    /// The address belongs to a member already.
    #[error("the address belongs to a member already")]
    Exists,
    /// An address cannot be read.
    #[error("the addresses cannot be read")]
    BadUrls,
    /// Those who would remain and answer are no majority.
    #[error("those who would remain and answer are no majority")]
    NoQuorum,
    /// The member's copy counts already.
    #[error("the member is no learner")]
    NotLearner,
    /// The member's copy is too far behind to count.
    #[error("the member is too far behind")]
    NotReady,
    /// The cluster has no leader.
    #[error("no leader")]
    NoLeader,
    /// What etcd has no word for.
    #[error("{0}")]
    Refused(String),
}

/// What the cluster does for etcd's `member` calls.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// All members, as this one knows them.
    async fn list(&self) -> Result<Vec<MemberInfo>, MembersError>;

    /// Makes the node at one of these URLs a member.
    async fn add(&self, peer_urls: &[String], learner: bool) -> Result<MemberInfo, MembersError>;

    /// Makes a learner's copy count.
    async fn promote(&self, id: u64) -> Result<(), MembersError>;

    /// Changes where a member is reached.
    async fn update(&self, id: u64, peer_urls: &[String]) -> Result<(), MembersError>;

    /// Ends a membership.
    async fn remove(&self, id: u64) -> Result<(), MembersError>;
}

impl From<MembersError> for Status {
    fn from(error: MembersError) -> Status {
        match error {
            MembersError::NotFound => MEMBER_NOT_FOUND,
            MembersError::Exists => MEMBER_EXISTS,
            MembersError::BadUrls => MEMBER_URLS,
            MembersError::NoQuorum => TOO_FEW_STARTED,
            MembersError::NotLearner => NOT_LEARNER,
            MembersError::NotReady => LEARNER_NOT_READY,
            MembersError::NoLeader => NO_LEADER,
            MembersError::Refused(message) => Status::new(Code::FailedPrecondition, message),
        }
    }
}

impl EtcdServer {
    pub(crate) async fn cluster(self, call: Call) -> Answer {
        match method(&call) {
            "MemberList" => unary(call, |q| self.list(q)).await,
            "MemberAdd" => unary(call, |q| self.add(q)).await,
            "MemberPromote" => unary(call, |q| self.promote(q)).await,
            "MemberUpdate" => unary(call, |q| self.update(q)).await,
            "MemberRemove" => unary(call, |q| self.remove(q)).await,
            _ => unknown(call.uri().path()),
        }
    }

    /// True while this member's copy does not count.
    pub(crate) fn is_learner(&self) -> bool {
        let members = self.inner.store.members();
        members.iter().any(|m| m.member.id == self.inner.member && m.role == Role::Learner)
    }

    async fn list(&self, request: MemberListRequest) -> Result<MembersResponse, Status> {
        if request.linearizable {
            // What was agreed on before such a read has been applied here after it.
            let nothing = Range { count_only: true, ..Range::key(&b"\0"[..]) };
            self.inner.store.range(nothing, Read::Linearizable).await?;
        }
        self.members().await
    }

    async fn add(&self, request: MemberAddRequest) -> Result<MemberAddResponse, Status> {
        let member = self.inner.members.add(&request.peer_urls, request.is_learner).await?;
        let MembersResponse { header, members } = self.members().await?;
        Ok(MemberAddResponse { header, member: Some(member.into()), members })
    }

    async fn promote(&self, request: MemberIdRequest) -> Result<MembersResponse, Status> {
        self.inner.members.promote(request.id).await?;
        self.members().await
    }

    async fn update(&self, request: MemberUpdateRequest) -> Result<MembersResponse, Status> {
        self.inner.members.update(request.id, &request.peer_urls).await?;
        self.members().await
    }

    async fn remove(&self, request: MemberIdRequest) -> Result<MembersResponse, Status> {
        self.inner.members.remove(request.id).await?;
        self.members().await
    }

    async fn members(&self) -> Result<MembersResponse, Status> {
        let members = self.inner.members.list().await?;
        let members = members.into_iter().map(Member::from).collect();
        Ok(MembersResponse { header: self.header_now(), members })
    }
}

impl From<MemberInfo> for Member {
    fn from(member: MemberInfo) -> Member {
        let MemberInfo { id, name, peer_urls, client_urls, is_learner } = member;
        Member { id, name, peer_urls, client_urls, is_learner }
    }
}
