//! One daemon: its socket from the start, and its membership of a cluster while it has one.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;
use pontoon_image::{ImageStore, RegistryConfig};
use pontoon_network::Network;
use rustls::crypto::CryptoProvider;
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::cluster::Records;
use crate::config::Config;
use crate::identity::Role;
use crate::images::Images;
use crate::join::{Joiner, found};
use crate::member::{Founding, Member, Order};
use crate::membership::Membership;
use crate::rpc::{Refusal, chain};
use crate::tls::provider;

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a daemon needs root: it makes namespaces, mounts and network devices")]
    NotRoot,
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another daemon uses {} already; stop it, or give this one its own --data-dir and --run-dir", .0.display())]
    InUse(PathBuf),
    #[error("open the image store")]
    Images(#[source] pontoon_image::ImageError),
    #[error("read this node's membership")]
    Membership(#[from] crate::membership::MembershipError),
    #[error("go on as a member of the cluster: {0}")]
    Resume(String),
}

/// A daemon that has been started.
pub struct Daemon {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    _lock: File,
}

/// What the daemon's parts share.
pub struct Shared {
    pub config: Config,
    pub images: Images,
    stop: CancellationToken,
    member: Mutex<Option<Member>>,
    orders: mpsc::Sender<Order>,
}

impl Daemon {
    /// Starts the daemon; when this returns its socket listens, and a node that is a member of a cluster is
    /// on its way back into it.
    ///
    /// # Errors
    /// When another daemon uses the directories, or what is on the disk cannot be used.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Err(StartError::NotRoot);
        }
        // Libraries that bring no provider of their own take the process's. A second daemon in one process
        // finds it there.
        drop(CryptoProvider::install_default(provider().as_ref().clone()));
        for dir in [&config.data_dir, &config.run_dir] {
            make_private_dir(dir)?;
        }
        let lock = lock(&config)?;
        let store = ImageStore::open(config.image_dir()).map_err(StartError::Images)?;
        pontoon_image::builtin::ensure(&store, std::path::Path::new("/proc/self/exe"))
            .await
            .map_err(StartError::Images)?;
        let registries = RegistryConfig {
            plain_http: config.insecure_registries.clone(),
            ..RegistryConfig::default()
        };
        let images = Images { store, registries: Arc::new(registries), peers: None };
        let membership = Membership::load(&config.membership_file())?;
        let (orders, inbox) = mpsc::channel(4);
        let shared = Arc::new(Shared { config, images, stop, member: Mutex::new(None), orders });
        if let Some(membership) = membership {
            let member =
                shared.begin(membership, None).await.map_err(|e| StartError::Resume(e.message))?;
            *shared.member.lock().await = Some(member);
        }
        let listener = listen(&shared.config)?;
        let tasks = TaskTracker::new();
        tasks.spawn(admin::serve(shared.clone(), listener, shared.stop.clone()));
        tasks.spawn(obey(shared.clone(), inbox));
        tasks.close();
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::debug!(%error, "tell systemd");
        }
        tracing::info!(socket = %shared.config.socket().display(), "the daemon listens");
        Ok(Self { shared, tasks, _lock: lock })
    }

    /// Waits until the daemon has been told to end and has done so. Containers go on.
    ///
    /// # Errors
    /// When its socket cannot be removed.
    pub async fn ended(self) -> Result<(), StartError> {
        self.shared.stop.cancelled().await;
        if let Some(member) = self.shared.member.lock().await.take() {
            member.stop().await;
        }
        self.tasks.wait().await;
        let socket = self.shared.config.socket();
        match fs::remove_file(&socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StartError::File { action: "remove", path: socket, source })
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// What `ask` says of this node's membership.
    ///
    /// # Errors
    /// When the node is in no cluster.
    pub async fn with_member<T>(
        &self,
        ask: impl AsyncFnOnce(&Member) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let member = self.member.lock().await.as_ref().cloned();
        let member = member.ok_or_else(not_a_member)?;
        ask(&member).await
    }

    /// The membership, if there is one.
    pub async fn member(&self) -> Option<Member> {
        self.member.lock().await.clone()
    }

    /// Makes a cluster of this node. Durable when this returns.
    ///
    /// # Errors
    /// When the node is in a cluster, or has no address to be known by.
    pub async fn init(
        &self,
        advertise: Option<IpAddr>,
        ranges: (Ipv4Net, Ipv4Net),
    ) -> Result<Member, Refusal> {
        let mut slot = self.member.lock().await;
        self.refuse_member(slot.as_ref())?;
        let address = match advertise {
            Some(address) => self.check_local(address).await?,
            None => self.default_address().await?,
        };
        let (cluster, membership) = found(&self.config.node_name, address, ranges)?;
        let member = self.begin(membership.clone(), Some(cluster)).await;
        let member = match member {
            Ok(member) => member,
            Err(refusal) => {
                self.forget()?;
                return Err(refusal);
            }
        };
        membership.save(&self.config.membership_file()).map_err(|e| Refusal::internal(&e))?;
        *slot = Some(member.clone());
        Ok(member)
    }

    /// Makes this node a member of the cluster of `manager`. Durable when this returns.
    ///
    /// # Errors
    /// When the node is in a cluster, or that one will not have it; then nothing is kept.
    pub async fn join(
        &self,
        token: &str,
        manager: SocketAddr,
        advertise: Option<IpAddr>,
    ) -> Result<Member, Refusal> {
        let mut slot = self.member.lock().await;
        self.refuse_member(slot.as_ref())?;
        let address = match advertise {
            Some(address) => Some(self.check_local(address).await?),
            None => None,
        };
        let joiner = Joiner { name: &self.config.node_name, address, token, manager };
        let membership = joiner.join().await?;
        // From here on the cluster counts on this node: its membership is kept before anything is started, and a
        // node that stops half-way goes on with it.
        membership.save(&self.config.membership_file()).map_err(|e| Refusal::internal(&e))?;
        let member = self.begin(membership, None).await?;
        *slot = Some(member.clone());
        member.settled().await?;
        Ok(member)
    }

    /// Takes this node out of its cluster and removes what it made.
    ///
    /// # Errors
    /// When the cluster cannot spare it or cannot be reached, unless forced.
    pub async fn leave(&self, force: bool) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        let member = slot.as_ref().cloned().ok_or_else(not_a_member)?;
        if let Err(refusal) = member.say_goodbye().await
            && !force
        {
            return Err(Refusal::conflict(format!(
                "{}; `pontoon leave --force` leaves all the same",
                refusal.message
            )));
        }
        slot.take();
        member.stop_and_remove().await?;
        self.forget()
    }

    /// Starts being a member.
    async fn begin(
        &self,
        membership: Membership,
        founding: Option<crate::cluster::Cluster>,
    ) -> Result<Member, Refusal> {
        let founding = founding.map(|cluster| Founding { cluster });
        let stop = self.stop.child_token();
        Member::start(&self.config, &self.images, membership, founding, self.orders.clone(), stop)
            .await
    }

    fn refuse_member(&self, member: Option<&Member>) -> Result<(), Refusal> {
        match member {
            None => Ok(()),
            Some(member) => Err(Refusal::conflict(format!(
                "this node is a {} of cluster {} already; `pontoon leave` takes it out of there first",
                member.membership().role,
                member.membership().cluster
            ))),
        }
    }

    async fn default_address(&self) -> Result<IpAddr, Refusal> {
        let network = Network::new("probe").map_err(|e| Refusal::internal(&e))?;
        let found = network.default_address().await.map_err(|e| Refusal::internal(&e))?;
        found.map(|found| IpAddr::V4(found.address.addr())).ok_or_else(|| {
            Refusal::bad_request("this machine has no address that others could reach; give one with --advertise-addr")
        })
    }

    async fn check_local(&self, address: IpAddr) -> Result<IpAddr, Refusal> {
        let network = Network::new("probe").map_err(|e| Refusal::internal(&e))?;
        let all = network.addresses().await.map_err(|e| Refusal::internal(&e))?;
        if all.iter().any(|known| IpAddr::V4(known.address.addr()) == address) {
            return Ok(address);
        }
        let known: Vec<String> = all.iter().map(|a| a.address.addr().to_string()).collect();
        Err(Refusal::bad_request(format!(
            "--advertise-addr {address} is no address of this machine; it has {}",
            known.join(", ")
        )))
    }

    /// Removes what membership left on the disk; images stay.
    fn forget(&self) -> Result<(), Refusal> {
        let config = &self.config;
        for path in [config.membership_file(), config.kubeconfig()] {
            remove(&path, |p| fs::remove_file(p))?;
        }
        remove(&config.store_dir(), |p| fs::remove_dir_all(p))
    }

    /// Changes this node's role as its record says: a new certificate, then everything anew. Pods go on.
    async fn change_role(&self, role: Role) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        let Some(member) = slot.as_ref().cloned() else { return Ok(()) };
        if member.membership().role == role {
            return Ok(());
        }
        tracing::info!(%role, "this node's role changes");
        let membership = member.renewed().await?;
        if membership.role != role {
            return Err(Refusal::unavailable("the managers do not agree on the role yet"));
        }
        if role == Role::Worker {
            member.leave_store().await?;
        }
        slot.take();
        member.stop().await;
        remove(&self.config.store_dir(), |p| fs::remove_dir_all(p))?;
        membership.save(&self.config.membership_file()).map_err(|e| Refusal::internal(&e))?;
        *slot = Some(self.begin(membership, None).await?);
        Ok(())
    }

    /// The records, on a manager.
    ///
    /// # Errors
    /// When this node is no manager.
    pub async fn records(&self) -> Result<Records, Refusal> {
        self.with_member(async |member| Ok(member.manager()?.records.clone())).await
    }
}

/// Carries out what the cluster wants of this node itself.
async fn obey(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Order>) {
    loop {
        let order = tokio::select! {
            order = inbox.recv() => order,
            () = shared.stop.cancelled() => return,
        };
        match order {
            Some(Order::ChangeRole(role)) => {
                if let Err(refusal) = shared.change_role(role).await {
                    tracing::warn!(%role, error = refusal.message, "change this node's role");
                }
            }
            None => return,
        }
    }
}

/// The refusal while a node is in no cluster.
#[must_use]
pub fn not_a_member() -> Refusal {
    Refusal::conflict(
        "this node is in no cluster; `pontoon init` makes one, `pontoon join` joins one",
    )
}

fn remove(path: &PathBuf, how: impl Fn(&PathBuf) -> io::Result<()>) -> Result<(), Refusal> {
    match how(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Refusal::unavailable(format!("remove {}: {}", path.display(), chain(&e))))
        }
        _ => Ok(()),
    }
}

fn make_private_dir(dir: &PathBuf) -> Result<(), StartError> {
    let failed = |source| StartError::File { action: "make", path: dir.clone(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).map_err(failed)
}

fn lock(config: &Config) -> Result<File, StartError> {
    let path = config.data_dir.join("lock");
    let file = File::create(&path).map_err(|source| StartError::File {
        action: "open",
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse(config.data_dir.clone())),
        Err(fs::TryLockError::Error(source)) => {
            Err(StartError::File { action: "lock", path, source })
        }
    }
}

/// The socket, for root only. One that is left over from a daemon that was killed is replaced: the lock
/// says that nobody listens there.
fn listen(config: &Config) -> Result<UnixListener, StartError> {
    let path = config.socket();
    let failed = |action| {
        let path = path.clone();
        move |source| StartError::File { action, path, source }
    };
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed("listen on"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    Ok(listener)
}
