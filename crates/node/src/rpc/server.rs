//! A manager's end of the manager port: raft streams for other managers, and requests of nodes. What a
//! caller may do follows from its certificate and from its record in the store, never from what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use pontoon_store::{Member, Read, Store};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Body, Refusal, json, read_json};
use crate::assignment::dispatch::{Source, managers};
use crate::cluster::{NodeRecord, Records};
use crate::config::MANAGER_PORT;
use crate::identity::Role;
use crate::identity::certificate::Peer;
use crate::join::{JoinRequest, admit, sign};
use crate::listen;
use crate::member::manager::StoreThreads;
use crate::report::{self, Reporter, WireReport};
use crate::revival;
use crate::tls::{ALPN_H2, ALPN_STORE};

/// Joining nodes served at a time: each costs signatures and writes, and anybody may ask.
const JOINS_MAX: usize = 16;

/// The most that a request to join may hold, and how long it may take to come.
const JOIN_BYTES_MAX: usize = 64 << 10;
const JOIN_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether a manager with a raft stream still is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a manager answers nodes with.
pub(crate) struct ManagerService {
    pub store: Store,
    pub records: Records,
    pub source: Source,
    pub reports: report::Sink,
    pub authority_pem: String,
    pub stop: CancellationToken,
    threads: Arc<StoreThreads>,
    joins: Semaphore,
}

/// A node asks for a new certificate.
#[derive(Serialize, Deserialize)]
pub(crate) struct RenewRequest {
    pub request_pem: String,
}

/// A node's new certificate, with the role that its record gives it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RenewAnswer {
    pub certificate_pem: String,
    pub role: Role,
    /// The node's id in the store, should it be a manager.
    pub store: u64,
}

impl ManagerService {
    /// A service on these parts of a manager.
    #[must_use]
    pub(crate) fn new(
        store: Store,
        source: Source,
        reports: report::Sink,
        authority_pem: String,
        threads: Arc<StoreThreads>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let records = Records::new(store.clone());
        let joins = Semaphore::new(JOINS_MAX);
        Arc::new(Self { store, records, source, reports, authority_pem, stop, threads, joins })
    }

    /// Serves one connection as its protocol name says.
    pub(crate) async fn serve(self: Arc<Self>, stream: TlsStream<TcpStream>, peer: Option<Peer>) {
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_STORE) => self.serve_store(stream, peer).await,
            Some(ALPN_H2) => {
                let peer = Arc::new(peer);
                listen::http(stream, move |request| self.clone().answer(request, peer.clone()))
                    .await;
            }
            _ => tracing::debug!("a connection to the manager port named no protocol"),
        }
    }

    async fn serve_store(&self, stream: TlsStream<TcpStream>, peer: Option<Peer>) {
        let Some(peer) = peer.filter(|peer| peer.role == Some(Role::Manager)) else {
            return tracing::warn!("a raft stream without a manager's certificate was refused");
        };
        if self.is_manager(&peer).await {
            let store = self.store.clone();
            let serving = async move { store.serve(Box::new(stream)).await };
            let serving = AbortOnDropHandle::new(self.threads.handle().spawn(serving));
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::warn!(%error, "a raft stream ended");
                },
                () = self.dismissed(&peer) => {
                    tracing::warn!(node = peer.name, "a raft stream of a node that is no manager any more is cut");
                }
            }
        } else {
            tracing::warn!(
                node = peer.name,
                "a raft stream of a node that is no manager any more was refused"
            );
        }
    }

    /// Whether a manager's certificate still counts. A manager that is behind, or new itself, may not have
    /// heard of the other yet, and catches up only through such streams: then the certificate alone decides.
    async fn is_manager(&self, peer: &Peer) -> bool {
        match self.records.node(&peer.name, Read::Local).await {
            Ok(Some(record)) => record.is_of(peer) && self.counts(&record),
            Ok(None) => {
                let gone = self.records.is_gone(peer.member.unwrap_or_default()).await;
                !gone.unwrap_or(false)
            }
            Err(_) => true,
        }
    }

    /// Whether a node takes part in the store: a manager, or one that is to be a worker and has not left the store's
    /// members yet. Without its votes it could not leave.
    fn counts(&self, record: &NodeRecord) -> bool {
        record.role == Role::Manager
            || self.store.members().iter().any(|status| status.member.id == record.store)
    }

    /// Returns when a manager that was known as one is so no more: it was removed, or it is to be a worker and
    /// has left the store's members. One that was never known here is no reason, see [`Self::is_manager`].
    async fn dismissed(&self, peer: &Peer) {
        let records = self.source.records.clone();
        let mut known = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let record = records.borrow().iter().find(|record| record.is_of(peer)).cloned();
            let counts = record.is_some_and(|record| self.counts(&record));
            if known && !counts {
                return;
            }
            known |= counts;
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Arc<Option<Peer>>,
    ) -> Response<Body> {
        let answered = self.route(request, peer.as_ref().as_ref()).await;
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: Option<&Peer>,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/v1/ca") => return Ok(json(&self.authority_pem)),
            (&Method::POST, "/v1/join") => return self.join(body).await,
            (&Method::POST, "/v1/revive") => return self.revive(body).await,
            _ => {}
        }
        let node = self.admitted(peer).await?;
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/v1/managers") => {
                Ok(json(&managers(&self.records.nodes(Read::Local).await?)))
            }
            (&Method::GET, "/v1/assignments") => self.assignments(&node),
            (&Method::POST, "/v1/report") => {
                let reports: Vec<WireReport> = read_json(body).await?;
                let reporter = Reporter { name: &node.name, role: node.role };
                self.reports.take(reporter, reports).await?;
                Ok(json(&()))
            }
            (&Method::POST, "/v1/renew") => self.renew(&node, read_json(body).await?).await,
            (&Method::POST, "/v1/member") => self.add_member(&node).await,
            (&Method::DELETE, "/v1/member") => self.remove_member(&node).await,
            (&Method::DELETE, "/v1/node") => self.leave(&node).await,
            (method, path) => {
                Err(Refusal::not_found(format!("{method} {path}: there is no such request")))
            }
        }
    }

    /// The record of the node that a verified certificate names. A certificate outlives its node's
    /// removal; the record does not.
    async fn admitted(&self, peer: Option<&Peer>) -> Result<NodeRecord, Refusal> {
        let peer = peer.filter(|peer| peer.role.is_some()).ok_or_else(|| {
            Refusal::forbidden("this needs a node's certificate; `pontoon join` gets one")
        })?;
        self.records.admitted(peer).await
    }

    /// Anybody may ask this: little is read, from few at a time, and not for long.
    async fn join(&self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let (_permit, request) = self.read_strangers::<JoinRequest>(body).await?;
        let name = request.name.clone();
        let answer = admit(&self.records, request).await?;
        tracing::info!(node = name, role = %answer.role, "a node has joined");
        Ok(json(&answer))
    }

    /// A node whose certificate has expired asks for another, with the old one as its proof.
    async fn revive(&self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let (_permit, request) = self.read_strangers(body).await?;
        let now = Timestamp::now().as_second();
        Ok(json(&revival::answer(&self.records, &self.authority_pem, &request, now).await?))
    }

    async fn read_strangers<Q: serde::de::DeserializeOwned>(
        &self,
        body: Incoming,
    ) -> Result<(SemaphorePermit<'_>, Q), Refusal> {
        let permit = self.joins.try_acquire().map_err(|_| {
            Refusal::unavailable("too many nodes join at once; try again in a moment")
        })?;
        let body = read_json(Limited::new(body, JOIN_BYTES_MAX));
        let request = tokio::time::timeout(JOIN_BODY_TIMEOUT, body).await;
        let late = |_| Refusal::bad_request("the request did not come in time");
        Ok((permit, request.map_err(late)??))
    }

    /// What the node is to be. A manager that is cut off from the others does not know: its nodes are to ask
    /// another one.
    fn assignments(&self, node: &NodeRecord) -> Result<Response<Body>, Refusal> {
        let mut contact = self.source.contact.clone();
        if !*contact.borrow_and_update() {
            return Err(Refusal::unavailable("this manager is cut off from the others"));
        }
        let cut_off = async move { drop(contact.wait_for(|contact| !contact).await) };
        let lines = self.source.lines(node, self.stop.child_token());
        let stream = futures::stream::unfold(lines, |mut lines| async move {
            let line = lines.recv().await?;
            let mut bytes = serde_json::to_vec(&line).expect("a line becomes JSON");
            bytes.push(b'\n');
            Some((Ok(Frame::data(Bytes::from(bytes))), lines))
        });
        let stream = stream.take_until(Box::pin(cut_off)).boxed();
        Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(stream))))
    }

    async fn renew(
        &self,
        node: &NodeRecord,
        request: RenewRequest,
    ) -> Result<Response<Body>, Refusal> {
        let cluster = self.records.cluster().await?;
        // The newest record: a certificate outlives a mistake by months.
        let newest = self.records.node(&node.name, Read::Linearizable).await?;
        let newest = newest.filter(|newest| newest.member == node.member);
        let node = newest.ok_or_else(|| crate::cluster::no_such_node(&node.name))?;
        let certificate_pem = sign(&cluster, &node, &request.request_pem)?;
        Ok(json(&RenewAnswer { certificate_pem, role: node.role, store: node.store }))
    }

    async fn add_member(&self, node: &NodeRecord) -> Result<Response<Body>, Refusal> {
        if node.role != Role::Manager {
            return Err(Refusal::forbidden(format!(
                "{0} is a worker; `pontoon node promote {0}` makes it a manager",
                node.name
            )));
        }
        let address = std::net::SocketAddr::new(node.address, MANAGER_PORT);
        let member = Member { id: node.store, name: node.name.clone(), address };
        let added = match node.learner {
            true => self.store.add_learner(member).await,
            false => self.store.add_member(member).await,
        };
        added.map_err(|e| Refusal::internal(&e))?;
        Ok(json(&()))
    }

    async fn remove_member(&self, node: &NodeRecord) -> Result<Response<Body>, Refusal> {
        // Asked again by a node that heard no answer.
        if !self.store.members().iter().any(|status| status.member.id == node.store) {
            return Ok(json(&()));
        }
        self.store
            .remove_member(node.store)
            .await
            .map_err(|e| Refusal::conflict(super::chain(&e)))?;
        Ok(json(&()))
    }

    async fn leave(&self, node: &NodeRecord) -> Result<Response<Body>, Refusal> {
        crate::node_removal::remove(&self.store, &self.reports.objects, node).await?;
        tracing::info!(node = node.name, "a node has left");
        Ok(json(&()))
    }
}
