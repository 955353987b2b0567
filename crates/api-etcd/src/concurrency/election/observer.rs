//! Follows who is elected, and what they proclaim.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use pontoon_store::{Event, EventKind, Watch, WatchError, WatchRequest};
use tokio::sync::OwnedSemaphorePermit;

use super::Candidates;
use crate::grpc::frame;
use crate::kv::key_value;
use crate::proto::LeaderResponse;
use crate::server::EtcdServer;
use crate::status::{STOPPED, Status};

/// Follows one election until it is dropped.
pub(super) struct Observer {
    server: EtcdServer,
    candidates: Candidates,
    /// The key of who is elected, once that is known.
    leader: Option<Followed>,
}

struct Followed {
    key: Bytes,
    watch: Watch,
    /// Not told yet.
    events: VecDeque<Event>,
    _watcher: OwnedSemaphorePermit,
}

impl Observer {
    pub(super) fn new(server: EtcdServer, candidates: Candidates) -> Observer {
        Observer { server, candidates, leader: None }
    }

    /// What is to be told, each framed.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes, Status>> {
        let told = unfold(Some(self), |observer| async {
            let mut observer = observer?;
            match observer.next().await {
                Ok(leader) => Some((Ok(frame(&leader)), Some(observer))),
                Err(status) => Some((Err(status), None)),
            }
        });
        told.boxed()
    }

    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let Some(leader) = &mut self.leader else {
                match self.look().await? {
                    Some(leader) => return Ok(leader),
                    None => continue,
                }
            };
            if let Some(event) = leader.events.pop_front() {
                match event.kind {
                    EventKind::Put => {
                        let header = self.server.header(event.kv.mod_revision);
                        return Ok(LeaderResponse {
                            header,
                            kv: Some(key_value(&event.kv, false)),
                        });
                    }
                    EventKind::Delete => self.leader = None,
                }
                continue;
            }
            match leader.watch.next().await {
                Some(Ok(batch)) => leader.events.extend(batch.events.iter().cloned()),
                Some(Err(WatchError::Lagged { resume })) => {
                    let again = WatchRequest::key(leader.key.clone()).from(resume);
                    match self.candidates.store.watch(again) {
                        Ok(watch) => leader.watch = watch,
                        Err(_) => self.leader = None,
                    }
                }
                Some(Err(WatchError::Compacted { .. })) => self.leader = None,
                None => return Err(STOPPED),
            }
        }
    }

    /// Looks who is elected and follows them; where nobody is, waits until somebody wants to be.
    async fn look(&mut self) -> Result<Option<LeaderResponse>, Status> {
        let (revision, leader) = self.server.elected(&self.candidates).await?;
        let store = &self.candidates.store;
        let Some(leader) = leader else {
            let _watcher = self.candidates.watcher()?;
            let prefix = self.candidates.prefix.clone();
            let Ok(mut watch) = store.watch(WatchRequest::prefix(prefix).from(revision + 1)) else {
                return Ok(None);
            };
            return watch.next().await.map(|_| None).ok_or(STOPPED);
        };
        let key = leader.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
        if let Ok(watch) = store.watch(WatchRequest::key(key.clone()).from(revision + 1)) {
            let watcher = self.candidates.watcher()?;
            let events = VecDeque::new();
            self.leader = Some(Followed { key, watch, events, _watcher: watcher });
        }
        Ok(Some(leader))
    }
}
