//! The Lock service.

use pontoon_store::DeleteRange;

use super::place::Place;
use super::{Candidates, passed_on};
use crate::grpc::{Answer, Call, unary};
use crate::keyspace::is_hidden;
use crate::kv::own;
use crate::proto::{HeaderResponse, LockRequest, LockResponse, UnlockRequest};
use crate::server::{EtcdServer, method, unknown};
use crate::status::{EMPTY_KEY, PERMISSION_DENIED, Status};

impl EtcdServer {
    pub(crate) async fn locks(self, call: Call) -> Answer {
        match method(&call) {
            "Lock" => unary(call, |q| async { self.lock(q).await.map_err(passed_on) }).await,
            "Unlock" => unary(call, |q| async { self.unlock(q).await.map_err(passed_on) }).await,
            _ => unknown(call.uri().path()),
        }
    }

    async fn lock(&self, request: LockRequest) -> Result<LockResponse, Status> {
        let candidates = Candidates::of(self, &request.name)?;
        let place = Place::take(candidates, request.lease, None).await?;
        let header = self.header(place.be_first().await?);
        let key = place.key.clone();
        place.keep();
        Ok(LockResponse { header, key })
    }

    async fn unlock(&self, request: UnlockRequest) -> Result<HeaderResponse, Status> {
        if request.key.is_empty() {
            return Err(EMPTY_KEY);
        }
        if is_hidden(&request.key) {
            return Err(PERMISSION_DENIED);
        }
        let delete = DeleteRange::key(own(&request.key));
        let done = self.inner.store.txn(pontoon_store::Txn::new().then(delete)).await?;
        Ok(HeaderResponse { header: self.header(done.revision) })
    }
}
