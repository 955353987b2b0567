//! The Maintenance service: how this member is doing, and what an operator may have it do.

mod snapshot;

use pontoon_store::{MemberStatus, Role};

use crate::grpc::{Answer, Call, refused, unary};
use crate::proto::{
    AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, Empty, HashKvRequest,
    HashKvResponse, HashResponse, HeaderResponse, MoveLeaderRequest, StatusResponse,
};
use crate::server::{Access, EtcdServer, method, revision, signed, unknown};
use crate::status::{BAD_TRANSFEREE, Code, NOT_LEADER, Status};

/// The version of etcd whose API this is; clients choose what they ask for by it.
pub(crate) const VERSION: &str = "3.5.21";

impl EtcdServer {
    pub(crate) async fn maintenance(self, call: Call, access: Access) -> Answer {
        match method(&call) {
            "Status" => unary(call, |_: Empty| self.status()).await,
            "Alarm" => unary(call, |q| self.alarm(q)).await,
            "Defragment" => unary(call, |_: Empty| self.defragment()).await,
            "MoveLeader" => unary(call, |q| self.move_leader(q)).await,
            "Hash" => unary(call, |_: Empty| self.hash()).await,
            "HashKV" => unary(call, |q| self.hash_kv(q)).await,
            "Snapshot" if access == Access::Admin => self.snapshot().await,
            // It would hold the key of the cluster's certificate authority.
            "Snapshot" => refused(&Status::new(
                Code::PermissionDenied,
                "etcdserver: permission denied: a snapshot holds the key of the cluster's CA, so it is served with TLS alone \
                 (--etcd-listen without --etcd-insecure); `pontoon store snapshot save` on a manager takes one as well",
            )),
            "Downgrade" => refused(&Status::new(
                Code::Unimplemented,
                "there are no versions of the cluster to go back to",
            )),
            _ => unknown(call.uri().path()),
        }
    }

    async fn status(&self) -> Result<StatusResponse, Status> {
        let status = self.inner.store.status();
        let disk = self.inner.store.disk_bytes().await;
        let disk = disk.map_err(|error| {
            Status::new(Code::Unavailable, format!("look at the store's files: {error}"))
        })?;
        let mut errors: Vec<String> = status.failed.into_iter().collect();
        if status.leadership.leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        if status.disk_full {
            errors.push(format!("memberID:{} alarm:NOSPACE ", self.inner.member));
        }
        Ok(StatusResponse {
            header: self.header(status.revision),
            version: VERSION.to_owned(),
            db_size: signed(disk),
            leader: status.leadership.leader.unwrap_or(0),
            raft_index: status.last_index,
            raft_term: status.leadership.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: signed(status.keys_bytes),
            is_learner: self.is_learner(),
        })
    }

    /// The only alarm is that of a full disk, and it is on exactly while the disk is full.
    async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Status> {
        let header = self.header_now();
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {}
            // Nothing was ever activated.
            Ok(AlarmAction::Deactivate) => {
                return Ok(AlarmResponse { header, alarms: Vec::new() });
            }
            Ok(AlarmAction::Activate) | Err(_) => {
                return Err(Status::new(
                    Code::Unimplemented,
                    "alarms go on and off by themselves; none can be activated",
                ));
            }
        }
        let full = AlarmMember { member_id: self.inner.member, alarm: AlarmType::NoSpace.into() };
        let wanted = [AlarmType::None, AlarmType::NoSpace]
            .iter()
            .any(|kind| i32::from(*kind) == request.alarm);
        let alarms =
            if wanted && self.inner.store.status().disk_full { vec![full] } else { vec![] };
        Ok(AlarmResponse { header, alarms })
    }

    /// Nothing here is ever fragmented.
    async fn defragment(&self) -> Result<HeaderResponse, Status> {
        Ok(HeaderResponse { header: self.header_now() })
    }

    async fn hash(&self) -> Result<HashResponse, Status> {
        let hash = self.inner.store.hash(0).await?;
        Ok(HashResponse { header: self.header(hash.revision), hash: hash.hash })
    }

    async fn hash_kv(&self, request: HashKvRequest) -> Result<HashKvResponse, Status> {
        let hash = self.inner.store.hash(revision(request.revision)).await?;
        Ok(HashKvResponse {
            header: self.header_now(),
            hash: hash.hash,
            compact_revision: signed(hash.compact_revision),
            hash_revision: signed(hash.revision),
        })
    }

    async fn move_leader(&self, request: MoveLeaderRequest) -> Result<HeaderResponse, Status> {
        let store = &self.inner.store;
        if !self.inner.leadership.borrow().is_me {
            return Err(NOT_LEADER);
        }
        let target = request.target_id;
        let votes = |m: &MemberStatus| m.member.id == target && m.role == Role::Voter;
        if !store.members().iter().any(votes) {
            return Err(BAD_TRANSFEREE);
        }
        store.transfer_leadership(Some(target)).await?;
        Ok(HeaderResponse { header: self.header_now() })
    }
}
