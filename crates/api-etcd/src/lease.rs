//! The Lease service.

use futures::StreamExt;
use futures::stream::unfold;
use pontoon_store::WriteError;

use crate::grpc::{Answer, Call, Messages, decode, frame, streaming, unary};
use crate::keyspace::is_hidden;
use crate::proto::{
    Empty, HeaderResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::server::{EtcdServer, method, unknown};
use crate::status::{PERMISSION_DENIED, Status};

/// The shortest life of a lease in seconds, as in etcd: it must outlive an election.
const TTL_MIN: i64 = 2;

impl EtcdServer {
    pub(crate) async fn lease(self, call: Call) -> Answer {
        match method(&call) {
            "LeaseGrant" => unary(call, |q| self.grant(q)).await,
            "LeaseRevoke" => unary(call, |q| self.revoke(q)).await,
            "LeaseKeepAlive" => self.keep_alive(call),
            "LeaseTimeToLive" => unary(call, |q| self.time_to_live(q)).await,
            "LeaseLeases" => unary(call, |_: Empty| self.leases()).await,
            _ => unknown(call.uri().path()),
        }
    }

    async fn grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
        let id = (request.id != 0).then_some(request.id);
        let lease = self.inner.store.lease_grant(request.ttl.max(TTL_MIN), id).await?;
        Ok(LeaseGrantResponse { header: self.header_now(), id: lease.id, ttl: lease.ttl })
    }

    async fn revoke(&self, request: LeaseId) -> Result<HeaderResponse, Status> {
        let store = &self.inner.store;
        let keys = store.lease_status(request.id).await?.keys;
        if keys.iter().any(|key| is_hidden(key)) {
            return Err(PERMISSION_DENIED);
        }
        store.lease_revoke(request.id).await?;
        Ok(HeaderResponse { header: self.header_now() })
    }

    /// Keeps leases alive one after the other, in the order in which the client names them.
    fn keep_alive(self, call: Call) -> Answer {
        let messages = Messages::of(call);
        let answers = unfold(Some((self, messages)), |state| async {
            let (server, mut messages) = state?;
            let answer = async {
                let Some(message) = messages.next().await? else { return Ok(None) };
                Ok(Some(frame(&server.keep_one_alive(decode(message)?).await?)))
            };
            match answer.await {
                Ok(None) => None,
                Ok(Some(answer)) => Some((Ok(answer), Some((server, messages)))),
                Err(status) => Some((Err(status), None)),
            }
        });
        streaming(answers.boxed())
    }

    async fn keep_one_alive(&self, request: LeaseId) -> Result<LeaseKeepAliveResponse, Status> {
        let ttl = match self.inner.store.lease_keepalive(request.id).await {
            Ok(ttl) => ttl,
            Err(WriteError::LeaseNotFound { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(LeaseKeepAliveResponse { header: self.header_now(), id: request.id, ttl })
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Status> {
        let header = self.header_now();
        let id = request.id;
        match self.inner.store.lease_status(id).await {
            Ok(status) => {
                let mut keys = if request.keys { status.keys } else { Vec::new() };
                keys.retain(|key| !is_hidden(key));
                let (ttl, granted_ttl) = (status.remaining, status.lease.ttl);
                Ok(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys })
            }
            Err(WriteError::LeaseNotFound { .. }) => Ok(LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse, Status> {
        let leases = self.inner.store.leases();
        let leases = leases.into_iter().map(|lease| LeaseId { id: lease.id }).collect();
        Ok(LeaseLeasesResponse { header: self.header_now(), leases })
    }
}
