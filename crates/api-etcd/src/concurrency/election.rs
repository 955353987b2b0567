//! The Election service.

mod observer;

use std::borrow::Cow;

use pontoon_store::{Put, Range, Read, Txn};

use super::place::{Place, leave, made_at};
use super::{Candidates, passed_on};
use crate::grpc::{Answer, Call, Messages, REQUEST_MAX, decode, refused, streaming, unary};
use crate::keyspace::is_hidden;
use crate::kv::{key_value, own};
use crate::proto::{
    CampaignRequest, CampaignResponse, HeaderResponse, LeaderKey, LeaderRequest, LeaderResponse,
    ProclaimRequest, ResignRequest,
};
use crate::server::{EtcdServer, method, revision, signed, unknown};
use crate::status::{Code, PERMISSION_DENIED, Status, TOO_LARGE};
use observer::Observer;

impl EtcdServer {
    pub(crate) async fn elections(self, call: Call) -> Answer {
        match method(&call) {
            "Campaign" => {
                unary(call, |q| async { self.campaign(q).await.map_err(passed_on) }).await
            }
            "Proclaim" => {
                unary(call, |q| async { self.proclaim(q).await.map_err(passed_on) }).await
            }
            "Leader" => unary(call, |q| self.leader(q)).await,
            "Observe" => self.observe(call).await,
            "Resign" => unary(call, |q| self.resign(q)).await,
            _ => unknown(call.uri().path()),
        }
    }

    async fn campaign(&self, request: CampaignRequest) -> Result<CampaignResponse, Status> {
        let candidates = Candidates::of(self, &request.name)?;
        let place = Place::take(candidates, request.lease, Some(own(&request.value))).await?;
        let header = self.header(place.be_first().await?);
        let (name, key, lease) = (request.name, place.key.clone(), place.lease);
        let leader = Some(LeaderKey { name, key, rev: signed(place.since), lease });
        place.keep();
        Ok(CampaignResponse { header, leader })
    }

    async fn proclaim(&self, request: ProclaimRequest) -> Result<HeaderResponse, Status> {
        let LeaderKey { key, rev, lease, .. } = office(request.leader)?;
        if key.len() + request.value.len() > REQUEST_MAX {
            return Err(TOO_LARGE);
        }
        if rev <= 0 {
            return Err(NOT_ELECTED);
        }
        let put = Put::new(own(&key), own(&request.value)).lease(lease);
        let txn = Txn::new().when(made_at(own(&key), revision(rev))).then(put);
        let done = self.inner.store.txn(txn).await?;
        if !done.succeeded {
            return Err(NOT_ELECTED);
        }
        Ok(HeaderResponse { header: self.header(done.revision) })
    }

    async fn resign(&self, request: ResignRequest) -> Result<HeaderResponse, Status> {
        let LeaderKey { key, rev, .. } = office(request.leader)?;
        let done = self.inner.store.txn(leave(own(&key), revision(rev))).await?;
        Ok(HeaderResponse { header: self.header(done.revision) })
    }

    async fn leader(&self, request: LeaderRequest) -> Result<LeaderResponse, Status> {
        let candidates = Candidates::of(self, &request.name)?;
        match self.elected(&candidates).await?.1 {
            Some(leader) => Ok(leader),
            None => Err(Status::new(Code::Unknown, "election: no leader")),
        }
    }

    /// Who is elected, if anybody, with the revision at which that is so.
    async fn elected(
        &self,
        candidates: &Candidates,
    ) -> Result<(u64, Option<LeaderResponse>), Status> {
        loop {
            let found = candidates.find().await?;
            let Some(oldest) = found.oldest() else { return Ok((found.revision, None)) };
            // The value is that of a later revision, if the office has not changed hands since.
            let read = Range::key(oldest.key.clone());
            let read = candidates.store.range(read, Read::Local).await?;
            let kv = read.kvs.first();
            let same = kv.filter(|kv| kv.create_revision == oldest.create_revision);
            if let Some(kv) = same {
                let (header, kv) = (self.header(read.revision), Some(key_value(kv, false)));
                return Ok((read.revision, Some(LeaderResponse { header, kv })));
            }
        }
    }

    async fn observe(self, call: Call) -> Answer {
        let mut messages = Messages::of(call);
        let request = match messages.next().await {
            Ok(message) => decode::<LeaderRequest>(message.unwrap_or_default()),
            Err(status) => Err(status),
        };
        let candidates = request.and_then(|request| Candidates::of(&self, &request.name));
        match candidates {
            Ok(candidates) => streaming(Observer::new(self, candidates).stream()),
            Err(status) => refused(&status),
        }
    }
}

const NOT_ELECTED: Status =
    Status { code: Code::Unknown, message: Cow::Borrowed("election: not leader") };

/// The office that a client says it has.
fn office(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    let leader = leader.filter(|leader| !leader.key.is_empty());
    let leader = leader.ok_or(Status::new(
        Code::InvalidArgument,
        "the leader's key is missing: name what the answer to Campaign said",
    ))?;
    if is_hidden(&leader.key) { Err(PERMISSION_DENIED) } else { Ok(leader) }
}
