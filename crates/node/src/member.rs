//! A node while it is a member of a cluster: gossip, agent and node API on every node, the store and the
//! APIs on a manager. Started and stopped as a whole; a change of role is a stop and a start, which pods
//! do not notice.

mod cut_off;
mod depart;
mod follow;
pub(crate) mod manager;
mod node_api;
mod renew;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use pontoon_agent::{Agent, AgentConfig, Assignments, Report, ReportError, Reports};

use pontoon_container::{Runtime, RuntimeConfig};
use pontoon_gossip::{Gossip, GossipConfig, GossipError, Meta, Profile};
use pontoon_network::Network;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assignment::follow::Follower;
use crate::assignment::remembered;
use crate::cluster::Cluster;
use crate::config::{Config, GOSSIP_PORT};
use crate::consul;
use crate::etcd;
use crate::gossip_keys::GossipKey;
use crate::identity::Role;
use crate::identity::certificate::{Credentials, Peer};
use crate::images::{Images, Peers};
use crate::known::{Known, KnownNode};
use crate::listen::ListenError;
use crate::membership::{ManagerAddress, Membership};
use crate::rpc::client::ManagerClient;
use crate::rpc::{Refusal, chain};
use crate::tls::Tls;
use manager::Manager;

/// How long a node that joins may take to become a full member.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before an agent that could not run is started again.
const AGENT_PAUSE: Duration = Duration::from_secs(5);
/// Owner of the node's network devices and tables.
pub(crate) const OWNER: &str = "pontoon";

/// A cluster to be made with this node.
pub struct Founding {
    pub cluster: Cluster,
}

/// What the cluster wants of this node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its record says that it is to have this role.
    ChangeRole(Role),
    /// A manager says that the node of this number was removed.
    Leave(u64),
    /// A client of this node asks it to leave.
    Depart,
}

/// A running membership. Clones are the same one.
#[derive(Clone)]
pub struct Member {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    membership: Mutex<Membership>,
    tls: Tls,
    client: ManagerClient,
    gossip: Gossip,
    agent: Agent,
    /// What the agent was last told to be.
    assignments: watch::Receiver<Arc<Assignments>>,
    /// The nodes that this one deals with.
    known: watch::Sender<Arc<Known>>,
    manager: Option<Manager>,
    consul: Arc<consul::Port>,
    orders: mpsc::Sender<Order>,
    settled: watch::Sender<bool>,
    /// Why this node could not leave when a client last asked it to.
    stays: watch::Sender<Option<Refusal>>,
    /// Why this node is no full member, in words for the one who asks.
    problem: Mutex<Option<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Member {
    /// Starts everything that this node does as a member.
    ///
    /// # Errors
    /// When a port is taken, or the state on the disk cannot be used; nothing runs then.
    pub async fn start(
        config: &Config,
        images: &Images,
        membership: Membership,
        founding: Option<Founding>,
        orders: mpsc::Sender<Order>,
        stop: CancellationToken,
    ) -> Result<Self, Refusal> {
        let started = Self::try_start(config, images, membership, founding, orders, &stop).await;
        if started.is_err() {
            stop.cancel();
        }
        started
    }

    async fn try_start(
        config: &Config,
        images: &Images,
        membership: Membership,
        founding: Option<Founding>,
        orders: mpsc::Sender<Order>,
        stop: &CancellationToken,
    ) -> Result<Self, Refusal> {
        // First of all what may be taken by another program: nothing is begun then.
        let node_api = crate::listen::bind(node_api::address(membership.advertise)).await;
        let node_api = node_api.map_err(|e| Refusal::conflict(e.to_string()))?;
        let tls = Tls::new(membership.credentials.clone()).map_err(|e| Refusal::internal(&e))?;
        let client = ManagerClient::new(tls.clone(), others(&membership.managers, &membership));
        let tasks = TaskTracker::new();
        let gossip = start_gossip(config, &membership, stop).await?;
        let manager = match membership.role {
            Role::Worker => None,
            Role::Manager => {
                let parts = manager::Parts {
                    config,
                    membership: &membership,
                    tls: &tls,
                    members: gossip.members(),
                    stop,
                    tasks: &tasks,
                };
                Some(Manager::start(parts, founding).await?)
            }
        };
        let mut known = Known::default();
        known.set_managers(&membership.managers);
        let known = watch::Sender::new(Arc::new(known));
        let peers = Peers {
            node: membership.node.clone(),
            tls: tls.clone(),
            members: gossip.members(),
            known: known.subscribe(),
        };
        let images = Images { peers: Some(peers), ..images.clone() };
        let reports: Arc<dyn Reports> = match &manager {
            Some(manager) => Arc::new(manager.reports(&membership.node)),
            None => Arc::new(crate::report::ToManagers(client.clone())),
        };
        let labels = config.labels.clone();
        let reports: Arc<dyn Reports> =
            Arc::new(crate::report::WithLabels { labels, inner: reports });
        let agent = start_agent(config, &membership, &images, reports)?;
        let (settled, _) = watch::channel(false);
        let remembered = remembered::load(&config.names_file(), &membership.node);
        let follower = Follower::new(&membership.node, remembered.unwrap_or_default());
        let inner = Inner {
            config: config.clone(),
            consul: consul::Port::new(config, membership.role),
            membership: Mutex::new(membership),
            tls,
            client,
            gossip,
            agent,
            assignments: follower.assignments(),
            known,
            manager,
            orders,
            settled,
            stays: watch::Sender::new(None),
            problem: Mutex::default(),
            stop: stop.clone(),
            tasks,
        };
        let member = Self { inner: Arc::new(inner) };
        member.spawn(follower, images, node_api);
        Ok(member)
    }

    fn spawn(&self, follower: Follower, images: Images, node_api: tokio::net::TcpListener) {
        let inner = &self.inner;
        let follower = follow::Following::new(self.clone(), follower);
        let assignments = inner.assignments.clone();
        let names = inner.config.names_file();
        inner.tasks.spawn(remembered::keep(names, assignments.clone(), inner.stop.clone()));
        inner.tasks.spawn(run_agent(self.clone(), assignments));
        inner.tasks.spawn(follower.run());
        inner.tasks.spawn(renew::run(self.clone()));
        inner.tasks.spawn(node_api::run(self.clone(), images, node_api));
        inner.tasks.spawn(seek(self.clone()));
        if let Some(manager) = &inner.manager {
            inner.tasks.spawn(manager.clone().become_member(self.clone()));
            inner.tasks.spawn(cut_off::run(self.clone(), manager.source.contact.clone()));
        }
        inner.consul.clone().run(self);
        inner.tasks.close();
    }

    /// Waits until the node is a full member: a manager a voter, a worker told what to be.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn settled(&self) -> Result<(), Refusal> {
        let mut settled = self.inner.settled.subscribe();
        let settled = async {
            tokio::select! {
                settled = settled.wait_for(|settled| *settled) => settled.is_ok(),
                () = self.inner.stop.cancelled() => false,
            }
        };
        match tokio::time::timeout(SETTLE_TIMEOUT, settled).await {
            Ok(true) => Ok(()),
            _ => Err(Refusal::unavailable(
                "this node was let in but is no full member yet, a minute later; it goes on trying: `pontoon status` and the daemon's log say what it waits for",
            )),
        }
    }

    fn settle(&self) {
        self.inner.settled.send_replace(true);
    }

    /// What this node knows of its cluster.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.lock_membership().clone()
    }

    /// The other nodes as gossip sees them.
    #[must_use]
    pub fn gossip(&self) -> &Gossip {
        &self.inner.gossip
    }

    /// What looks after this node's pods.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.inner.agent
    }

    /// The manager's parts.
    ///
    /// # Errors
    /// When this node is a worker.
    pub fn manager(&self) -> Result<&Manager, Refusal> {
        self.inner.manager.as_ref().ok_or_else(|| {
            let managers: Vec<String> = self
                .inner
                .client
                .managers()
                .iter()
                .map(|m| format!("{} ({})", m.name, m.address.ip()))
                .collect();
            Refusal::conflict(format!(
                "this node is a worker, and the cluster is run from a manager: {}",
                managers.join(", ")
            ))
        })
    }

    /// Takes over who the managers are, and remembers it for the next start.
    fn set_managers(&self, managers: Vec<ManagerAddress>) {
        if managers.is_empty() {
            return;
        }
        self.inner.known.send_modify(|known| Arc::make_mut(known).set_managers(&managers));
        let mut membership = self.lock_membership();
        if membership.managers != managers {
            self.inner.client.set_managers(others(&managers, &membership));
            membership.managers = managers;
            self.save(&membership);
        }
    }

    /// Takes over who the nodes are.
    fn set_nodes(&self, nodes: Vec<KnownNode>) {
        self.inner.known.send_modify(|known| Arc::make_mut(known).set_nodes(nodes));
    }

    /// Whether the peer is a node of the cluster, as far as this node was told.
    fn knows(&self, peer: &Peer) -> bool {
        self.inner.known.borrow().has(peer)
    }

    /// Takes over gossip's keys, of which the first seals, and remembers that one for the next start.
    fn set_gossip_keys(&self, keys: &[GossipKey]) {
        let bytes: Vec<[u8; 32]> = keys.iter().filter_map(GossipKey::bytes).collect();
        let (Some(first), true) = (keys.first(), bytes.len() == keys.len()) else {
            return tracing::warn!("a manager told a gossip key that is none");
        };
        self.inner.gossip.set_keys(&bytes);
        let mut membership = self.lock_membership();
        if membership.gossip_key == *first {
            return;
        }
        membership.gossip_key = first.clone();
        self.save(&membership);
        drop(membership);
        // One that was away while the key changed was heard by nobody until now.
        self.inner.tasks.spawn(seek(self.clone()));
    }

    /// Why this node is no full member, if so it is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.inner.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.inner.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// A manager has said, on a connection on which it proved to be one, that this node was removed: what that
    /// means for the node is not the member's to carry out.
    fn removed(&self) {
        let order = Order::Leave(self.lock_membership().member);
        // A full queue is asked again soon: so is the manager.
        self.inner.orders.try_send(order).ok();
    }

    /// Consul's port.
    #[must_use]
    pub(crate) fn consul(&self) -> &consul::Port {
        &self.inner.consul
    }

    /// Ends when this member stops.
    #[must_use]
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Has something done until this member stops.
    pub(crate) fn spawn_until_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stopping();
        self.spawn_task(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Has something done that ends by itself when this member stops, which waits for it.
    pub(crate) fn spawn_task(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(work);
    }

    /// Takes over a renewed certificate, and remembers it for the next start.
    fn set_credentials(&self, credentials: Credentials) {
        let mut membership = self.lock_membership();
        membership.credentials = credentials;
        self.save(&membership);
    }

    /// Whether the peer is a manager, as far as this node was told. A manager's certificate outlives its
    /// office.
    fn knows_manager(&self, peer: &Peer) -> bool {
        let membership = self.lock_membership();
        membership.managers.iter().any(|m| m.name == peer.name && Some(m.member) == peer.member)
    }

    fn lock_membership(&self) -> MutexGuard<'_, Membership> {
        self.inner.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves while the lock is held, so that the file is the newest, and written by one at a time.
    fn save(&self, membership: &MutexGuard<'_, Membership>) {
        if let Err(error) = membership.save(&self.inner.config.membership_file()) {
            tracing::warn!(error = chain(&error), "remember the membership");
        }
    }

    /// Tells the cluster that this node leaves: its pods are moved, its records removed.
    ///
    /// # Errors
    /// When the cluster cannot spare it or cannot be reached.
    pub async fn say_goodbye(&self) -> Result<(), Refusal> {
        if let Some(manager) = &self.inner.manager {
            manager.with_quorum()?;
            let voters = manager.store.members().len();
            if voters <= 1 {
                return Err(Refusal::conflict(
                    "this is the last manager: with it the cluster and all its state would be gone",
                ));
            }
        }
        match self.inner.client.call::<_, ()>(Method::DELETE, "/v1/node", &()).await {
            Err(refusal) if !refusal.is_removed() => return Err(refusal),
            _ => {}
        }
        if let Err(error) = self.inner.gossip.leave().await {
            tracing::debug!(%error, "say goodbye to the other nodes");
        }
        Ok(())
    }

    /// Leaves the store's members, for a manager that becomes a worker.
    ///
    /// # Errors
    /// When the managers that are left would be no quorum.
    pub async fn leave_store(&self) -> Result<(), Refusal> {
        self.inner.client.call(Method::DELETE, "/v1/member", &()).await
    }

    /// This node's membership with a new certificate for the role that its record says.
    ///
    /// # Errors
    /// When no manager answers.
    pub async fn renewed(&self) -> Result<Membership, Refusal> {
        renew::renew(self).await
    }

    /// Stops everything but the containers.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.wait().await;
        if let Some(manager) = &self.inner.manager {
            manager.store.shutdown().await;
        }
    }

    /// Stops everything, the containers too, and removes what was made on this machine.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub async fn stop_and_remove(&self) -> Result<(), Refusal> {
        self.stop().await;
        self.inner.agent.remove_all().await.map_err(|e| Refusal::internal(&e))
    }
}

fn others(managers: &[ManagerAddress], membership: &Membership) -> Vec<ManagerAddress> {
    managers.iter().filter(|manager| manager.name != membership.node).cloned().collect()
}

async fn start_gossip(
    config: &Config,
    membership: &Membership,
    stop: &CancellationToken,
) -> Result<Gossip, Refusal> {
    let key = membership.gossip_key.bytes().ok_or_else(|| {
        Refusal::unavailable(
            "the gossip key in this node's membership file is damaged; leave and join again",
        )
    })?;
    let mut meta = Meta {
        role: membership.role.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Meta::default()
    };
    match (&config.etcd, membership.role) {
        (Some(listen), Role::Manager) => {
            meta.tags.insert(etcd::TAG.to_owned(), etcd::client_url(listen, membership));
        }
        (Some(listen), Role::Worker) => tracing::info!(
            address = %listen.address,
            "this node is a worker; etcd's API is served once `pontoon node promote` makes it a manager"
        ),
        (None, _) => {}
    }
    let config = GossipConfig {
        name: membership.node.clone(),
        advertise: SocketAddr::new(membership.advertise, GOSSIP_PORT),
        bind: SocketAddr::new(any(membership.advertise), GOSSIP_PORT),
        key,
        meta,
        profile: Profile::Lan,
    };
    Gossip::start(config, stop.clone()).await.map_err(|error| match error {
        GossipError::Bind { address, source } => {
            Refusal::conflict(ListenError { address, source }.to_string())
        }
        error => Refusal::conflict(chain(&error)),
    })
}

/// All addresses of the same family.
fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
        IpAddr::V6(_) => IpAddr::from([0u16; 8]),
    }
}

/// Looks for the other nodes through the managers known; gossip goes on from there.
async fn seek(member: Member) {
    let seeds: Vec<SocketAddr> = member
        .inner
        .client
        .managers()
        .iter()
        .map(|manager| SocketAddr::new(manager.address.ip(), GOSSIP_PORT))
        .collect();
    if seeds.is_empty() {
        return;
    }
    if let Err(error) = member.inner.gossip.join(&seeds).await {
        tracing::warn!(%error, "no manager gossips yet; asking again");
    }
}

fn start_agent(
    config: &Config,
    membership: &Membership,
    images: &Images,
    reports: Arc<dyn Reports>,
) -> Result<Agent, Refusal> {
    let runtime = Runtime::new(RuntimeConfig {
        state_dir: config.data_dir.join("containers"),
        run_dir: config.run_dir.join("containers"),
        cgroup_parent: config.cgroup_parent.clone(),
        exe: "/proc/self/exe".into(),
    })
    .map_err(|e| Refusal::internal(&e))?;
    let network = Network::new(OWNER).map_err(|e| Refusal::internal(&e))?;
    let IpAddr::V4(address) = membership.advertise else {
        return Err(only_v4(membership.advertise));
    };
    let (name, data, run) = (membership.node.clone(), &config.data_dir, &config.run_dir);
    let mut agent = AgentConfig::new(name, address, data, run);
    agent.cluster_cidr = membership.cluster_cidr;
    agent.service_cidr = membership.service_cidr;
    Agent::new(agent, runtime, images.store.clone(), Arc::new(images.clone()), network, reports)
        .map_err(|e| Refusal::internal(&e))
}

/// Removes what a member made on this machine, for one that cannot be started any more.
///
/// # Errors
/// When something of it cannot be removed.
pub(crate) async fn remove_all(
    config: &Config,
    membership: &Membership,
    images: &Images,
) -> Result<(), Refusal> {
    let agent = start_agent(config, membership, images, Arc::new(Silent))?;
    agent.remove_all().await.map_err(|e| Refusal::internal(&e))
}

/// Reports of an agent that has nobody to report to.
struct Silent;

#[async_trait::async_trait]
impl Reports for Silent {
    async fn report(&self, _: Vec<Report>) -> Result<(), ReportError> {
        Ok(())
    }
}

/// The refusal of an address that pods' wires cannot go over yet.
#[must_use]
pub(crate) fn only_v4(address: IpAddr) -> Refusal {
    Refusal::bad_request(format!(
        "{address} is no IPv4 address; nodes reach each other over IPv4 only so far: give one with --advertise-addr"
    ))
}

/// Runs the agent until the member stops, again after a while should it fail.
async fn run_agent(member: Member, assignments: watch::Receiver<Arc<Assignments>>) {
    let stop = member.inner.stop.clone();
    while !stop.is_cancelled() {
        let ran = member.inner.agent.run(assignments.clone(), stop.child_token()).await;
        if let Err(error) = ran {
            tracing::error!(error = chain(&error), "the agent cannot run");
        }
        tokio::select! {
            () = tokio::time::sleep(AGENT_PAUSE) => {}
            () = stop.cancelled() => {}
        }
    }
}
