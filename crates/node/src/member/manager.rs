//! What a manager has beyond a worker: the replicated store, the view of all objects, the APIs, and the
//! leader's work whenever it leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use pontoon_api_kube::{ApiServer, Identity};
use pontoon_controllers::Settings;
use pontoon_objects::Objects;
use pontoon_store::{Member as StoreMember, Role as StoreRole, Store, StoreConfig, Tuning};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Founding, Member, Order};
use crate::assignment::dispatch::Source;
use crate::cluster::{NodeRecord, Records};
use crate::config::{Config, KUBE_PORT, MANAGER_PORT};
use crate::etcd;
use crate::events::Recorder;
use crate::identity::Role;
use crate::identity::certificate::Peer;
use crate::join::sign;
use crate::leader::Leader;
use crate::listen;
use crate::membership::Membership;
use crate::quorum::Quorum;
use crate::report::{InProcess, Sink};
use crate::rpc::server::{ManagerService, RenewAnswer};
use crate::rpc::{Body, Refusal, chain, json};
use crate::tls::{ALPN_H2, ALPN_HTTP1, ALPN_STORE, Tls};
use crate::transport::{ToManagers, ToNodes};
use crate::view::View;

/// Threads of the store. Its work is short: the disk and the network are what it waits for.
const STORE_THREADS: usize = 2;
/// Pause before a manager asks again to be made a voter; it doubles up to the longest.
const ASK_PAUSE: Duration = Duration::from_millis(100);
const ASK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A manager's parts. Clones are the same ones.
#[derive(Clone)]
pub struct Manager {
    pub store: Store,
    pub records: Records,
    pub objects: Objects,
    pub view: Arc<View>,
    pub source: Source,
    pub quorum: Quorum,
    api: Arc<ApiServer>,
    sink: Sink,
    threads: Arc<StoreThreads>,
}

/// What a manager is started with.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub membership: &'a Membership,
    pub tls: &'a Tls,
    pub members: watch::Receiver<Arc<Vec<pontoon_gossip::Member>>>,
    pub stop: &'a CancellationToken,
    pub tasks: &'a TaskTracker,
}

impl Manager {
    /// Opens the store and the ports.
    ///
    /// # Errors
    /// When the state on the disk is damaged, or a port is taken.
    pub async fn start(parts: Parts<'_>, founding: Option<Founding>) -> Result<Self, Refusal> {
        let Parts { config, membership, tls, members, stop, tasks } = parts;
        let own = |port| SocketAddr::new(super::any(membership.advertise), port);
        let taken = |e: listen::ListenError| Refusal::conflict(e.to_string());
        let manager_port = listen::bind(own(MANAGER_PORT)).await.map_err(taken)?;
        let kube_port = listen::bind(own(KUBE_PORT)).await.map_err(taken)?;
        let etcd_port = etcd::Port::open(config.etcd).await.map_err(taken)?;
        let threads = Arc::new(StoreThreads::start()?);
        let store = open_store(config, membership, tls, &threads).await?;
        let records = Records::new(store.clone());
        if let Some(founding) = founding {
            found(&store, &records, membership, &founding).await?;
        }
        let objects_config = pontoon_objects::Config {
            service_cidr: membership.service_cidr,
            ..pontoon_objects::Config::default()
        };
        let objects = Objects::with_config(store.clone(), objects_config);
        let settings = Settings {
            cluster_cidr: membership.cluster_cidr,
            service_cidr: membership.service_cidr,
            ..Settings::default()
        };
        let view = View::new(settings);
        let recorder = Arc::new(Recorder::new(objects.clone()));
        let sink = Sink {
            objects: objects.clone(),
            view: view.clone(),
            recorder: recorder.clone(),
            events: Arc::default(),
        };
        let (known, nodes) = watch::channel(Arc::new(Vec::<NodeRecord>::new()));
        let (contact, in_contact) = watch::channel(false);
        let (keys, gossip_keys) = watch::channel(None);
        let quorum =
            Quorum::new(store.clone(), membership.store, members.clone(), in_contact.clone());
        let source = Source {
            view: view.clone(),
            records: nodes.clone(),
            gossip_keys: gossip_keys.clone(),
            contact: in_contact,
        };
        let proxy = Arc::new(ToNodes { tls: tls.clone(), records: nodes });
        let api = Arc::new(ApiServer::new(objects.clone(), proxy, build_info(), stop.clone()));
        let manager = Self { store, records, objects, view, source, quorum, api, sink, threads };
        tasks.spawn(manager.view.clone().run(manager.objects.clone(), stop.clone()));
        tasks.spawn(manager.records.clone().follow(known, keys, stop.clone()));
        tasks.spawn(manager.records.clone().keep_contact(contact, stop.clone()));
        let leader = Leader {
            objects: manager.objects.clone(),
            view: manager.view.clone(),
            recorder,
            members: members.clone(),
            tls: tls.clone(),
            records: manager.records.clone(),
            gossip_keys,
        };
        tasks.spawn(leader.run(manager.store.leadership(), stop.clone()));
        tasks.spawn(manager.clone().serve_managers(manager_port, membership, tls, stop));
        tasks.spawn(manager.clone().serve_kube(kube_port, tls.clone(), stop.clone()));
        if let Some(port) = etcd_port {
            tasks.spawn(port.run(&manager.store, membership, members, tls, stop));
        }
        Ok(manager)
    }

    /// Itself, while the managers may agree on something.
    ///
    /// # Errors
    /// When too few of them are there.
    pub fn with_quorum(&self) -> Result<&Self, Refusal> {
        self.quorum.check().map(|()| self)
    }

    /// Answers a Kubernetes request in the caller's name.
    pub(crate) async fn kube(
        self,
        identity: Identity,
        request: Request<Incoming>,
    ) -> Response<Body> {
        // Who is nobody is told no manager's name: the API itself answers such.
        if identity.is_anonymous() {
            return self.api.handle(identity, request).await;
        }
        if wants_quorum(request.uri())
            && let Some(words) = self.quorum.lost()
        {
            return unavailable(&words);
        }
        let response = self.api.handle(identity, request).await;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return response;
        }
        self.quorum.lost_meanwhile().map_or(response, |words| unavailable(&words))
    }

    /// This node's own way to report.
    #[must_use]
    pub fn reports(&self, node: &str) -> InProcess {
        InProcess { node: node.to_owned(), sink: self.sink.clone() }
    }

    fn serve_managers(
        self,
        listener: TcpListener,
        membership: &Membership,
        tls: &Tls,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let authority = membership.credentials.authority_pem.clone();
        let service = ManagerService::new(
            self.store,
            self.source,
            self.sink,
            authority,
            self.threads,
            stop.clone(),
        );
        let (tls, stop) = (tls.clone(), stop.clone());
        async move {
            listen::tls(listener, tls, &[ALPN_STORE, ALPN_H2], stop, move |stream, peer| {
                service.clone().serve(stream, peer)
            })
            .await;
        }
    }

    async fn serve_kube(self, listener: TcpListener, tls: Tls, stop: CancellationToken) {
        listen::tls(listener, tls, &[ALPN_H2, ALPN_HTTP1], stop, move |stream, peer| {
            let manager = self.clone();
            listen::http(stream, move |request| {
                let identity = identity(peer.as_ref(), &manager.source.records.borrow());
                manager.clone().kube(identity, request)
            })
        })
        .await;
    }

    /// Asks to be made a voter until this manager is one. One that is to be a learner rests as such until its record
    /// says otherwise.
    pub(super) async fn become_member(self, member: Member) {
        let id = member.membership().store;
        let stop = member.inner.stop.clone();
        let mut records = self.source.records.clone();
        let mut pause = ASK_PAUSE;
        while !self.is_voter(id) {
            let rests = records.borrow_and_update().iter().any(|r| r.store == id && r.learner);
            if rests && self.has_role(id, StoreRole::Learner) {
                self.settle(&member).await;
                tokio::select! {
                    changed = records.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => return,
                }
                continue;
            }
            let ask = async {
                if let Err(refusal) =
                    member.inner.client.call::<_, ()>(Method::POST, "/v1/member", &()).await
                {
                    tracing::debug!(error = refusal.message, "ask to become a voter");
                    if refusal.is_removed() {
                        member.removed();
                    }
                    if refusal.status == StatusCode::FORBIDDEN.as_u16() {
                        // It stopped between leaving the store's members and being a worker. Its own view
                        // will never say so: it is told nothing any more.
                        member.inner.orders.try_send(Order::ChangeRole(Role::Worker)).ok();
                    }
                }
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = ask => pause = (pause * 2).min(ASK_PAUSE_MAX),
                () = stop.cancelled() => return,
            }
        }
        self.settle(&member).await;
    }

    /// What is left to do when this manager is a member of the store.
    async fn settle(&self, member: &Member) {
        tokio::select! {
            () = self.view.synced() => member.settle(),
            () = member.inner.stop.cancelled() => return,
        }
        self.keep_kubeconfig(member).await;
    }

    /// Writes the administrator's kubeconfig when there is none, or its certificate is old.
    pub(super) async fn keep_kubeconfig(&self, member: &Member) {
        if let Err(refusal) = self.write_kubeconfig(member).await {
            tracing::warn!(error = refusal.message, "write the admin's kubeconfig");
        }
    }

    fn is_voter(&self, id: u64) -> bool {
        self.has_role(id, StoreRole::Voter)
    }

    fn has_role(&self, id: u64, role: StoreRole) -> bool {
        self.store.members().iter().any(|m| m.member.id == id && m.role == role)
    }

    async fn write_kubeconfig(&self, member: &Member) -> Result<(), Refusal> {
        let path = member.inner.config.kubeconfig();
        let known = tokio::fs::read_to_string(&path).await.unwrap_or_default();
        if !crate::kubeconfig::wants_renewal(&known, jiff::Timestamp::now().as_second()) {
            return Ok(());
        }
        let cluster = self.records.cluster().await?;
        let text = crate::kubeconfig::make(&cluster, member.membership().advertise)?;
        crate::membership::write_private(&path, text.as_bytes())
            .map_err(|e| Refusal::unavailable(format!("write {}: {e}", path.display())))
    }

    /// Signs this node's own request, with the authority that it holds as every manager does. No other manager is
    /// asked: none would listen to one whose certificate has expired.
    pub(super) async fn renew(
        &self,
        membership: &Membership,
        request_pem: &str,
    ) -> Result<RenewAnswer, Refusal> {
        let cluster = self.records.cluster_here().await?;
        let certificate_pem = sign(&cluster, &membership.record(), request_pem)?;
        Ok(RenewAnswer { certificate_pem, role: membership.role, store: membership.store })
    }
}

/// Whether the request is about objects, and not content with what this manager remembers of them.
fn wants_quorum(uri: &Uri) -> bool {
    let words = uri.path().split('/').filter(|word| !word.is_empty()).count();
    let is_of_objects = (uri.path().starts_with("/api/") && words > 2)
        || (uri.path().starts_with("/apis/") && words > 3);
    let of_any_age = ["watch=", "resourceVersion="];
    let query = uri.query().unwrap_or_default();
    is_of_objects && !of_any_age.iter().any(|word| query.contains(word))
}

/// The Kubernetes API's words for "not now".
fn unavailable(message: &str) -> Response<Body> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = json(&serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "ServiceUnavailable", "code": status.as_u16(), "message": message,
    }));
    *response.status_mut() = status;
    response
}

/// Who asks. A node's certificate outlives its node's removal; the record does not.
fn identity(peer: Option<&Peer>, records: &[NodeRecord]) -> Identity {
    match peer {
        None => Identity::anonymous(),
        Some(peer) if peer.role.is_some() => match records.iter().any(|r| r.is_of(peer)) {
            true => Identity::node(&peer.name),
            false => Identity::anonymous(),
        },
        Some(peer) => Identity::new(peer.name.clone(), peer.groups.iter().cloned()),
    }
}

fn build_info() -> pontoon_api_kube::BuildInfo {
    pontoon_api_kube::BuildInfo::of_version(env!("CARGO_PKG_VERSION"))
}

async fn open_store(
    config: &Config,
    membership: &Membership,
    tls: &Tls,
    threads: &StoreThreads,
) -> Result<Store, Refusal> {
    let store = StoreConfig {
        dir: config.store_dir(),
        member: membership.store,
        tuning: Tuning::default(),
    };
    let transport = Arc::new(ToManagers { tls: tls.clone() });
    // Opened on its own threads, where all its tasks then run.
    let opened = threads.handle().spawn(Store::open(store, transport)).await;
    let opened = opened.map_err(|e| Refusal::internal(&e))?;
    opened.map_err(|e| Refusal::unavailable(chain(&e)))
}

/// Threads of the store's own, so that a heartbeat never waits behind other work of this process: a leader
/// that is late with it loses its office.
pub(crate) struct StoreThreads(Option<Runtime>);

impl StoreThreads {
    fn start() -> Result<Self, Refusal> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(STORE_THREADS).thread_name("store").enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|e| Refusal::internal(&e))
    }

    /// Where the store's work is to be spawned.
    #[must_use]
    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("taken only when this is dropped").handle()
    }
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn found(
    store: &Store,
    records: &Records,
    membership: &Membership,
    founding: &Founding,
) -> Result<(), Refusal> {
    let me = StoreMember {
        id: membership.store,
        name: membership.node.clone(),
        address: SocketAddr::new(membership.advertise, MANAGER_PORT),
    };
    store.bootstrap(me).await.map_err(|e| Refusal::internal(&e))?;
    let mut leadership = store.leadership();
    let elected = async { leadership.wait_for(|l| l.is_me).await.is_ok() };
    let elected = tokio::time::timeout(Duration::from_secs(10), elected).await;
    if !matches!(elected, Ok(true)) {
        return Err(Refusal::unavailable("the new cluster's store elected no leader within 10 s"));
    }
    records.create_cluster(&founding.cluster).await?;
    let node = membership.record();
    records.add_node(&node).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_want_a_quorum() {
        let wants = |uri: &str| wants_quorum(&uri.parse().unwrap());
        for uri in ["/api/v1/pods", "/apis/apps/v1/namespaces/default/deployments/a?limit=5"] {
            assert!(wants(uri), "{uri}");
        }
        for uri in
            ["/version", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3", "/api/v1/pods?watch=1"]
        {
            assert!(!wants(uri), "{uri}");
        }
    }
}
