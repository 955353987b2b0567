//! One daemon: its socket from the start, and its membership of a cluster while it has one.

mod exclusive;
mod forced;
mod founding;
mod removal;
mod stranded;

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ipnet::Ipv4Net;
use pontoon_image::ImageStore;
use pontoon_network::{HostAddress, Network};
use rustls::crypto::CryptoProvider;
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::cluster::Records;
use crate::config::Config;
use crate::identity::Role;
use crate::identity::token::JoinToken;
use crate::images::{Images, OWN_PROGRAM};
use crate::join::Joiner;
use crate::member::{Founding, Member, OWNER, Order};
use crate::membership::Membership;
use crate::rpc::{Refusal, chain};
use crate::tls::provider;
use exclusive::{lock_dir, make_private_dir, open_many_files};
use stranded::Stranded;

/// Pause before a change of the role that failed is tried again; it doubles up to the longest.
const ROLE_PAUSE: Duration = Duration::from_millis(200);
const ROLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The longest path of a unix socket: 108 bytes with the zero at its end (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a daemon needs root: it makes namespaces, mounts and network devices")]
    NotRoot,
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another daemon uses {} already; stop it, or give this one its own --data-dir and --run-dir", .0.display())]
    InUse(PathBuf),
    #[error("the path of the socket, {}, is longer than the {SOCKET_PATH_MAX} bytes that the kernel takes; choose a shorter --run-dir", .0.display())]
    SocketPath(PathBuf),
    #[error("open the image store")]
    Images(#[source] pontoon_image::ImageError),
    #[error(transparent)]
    Registries(#[from] crate::registries::RegistriesError),
    #[error("read this node's membership")]
    Membership(#[from] crate::membership::MembershipError),
}

/// A daemon that has been started.
pub struct Daemon {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    _locks: Vec<File>,
}

/// What a request to join came to.
pub struct Joined {
    pub membership: Membership,
    /// Whether the node was a member of that cluster before.
    pub already: bool,
}

/// What the daemon's parts share.
pub struct Shared {
    pub config: Config,
    pub images: Images,
    stop: CancellationToken,
    member: Mutex<Option<Member>>,
    stranded: std::sync::Mutex<Option<Stranded>>,
    orders: mpsc::Sender<Order>,
    /// Changes of the membership on their way.
    changes: TaskTracker,
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
        open_many_files();
        if config.socket().as_os_str().len() > SOCKET_PATH_MAX {
            return Err(StartError::SocketPath(config.socket()));
        }
        let mut locks = Vec::new();
        for dir in [&config.data_dir, &config.run_dir] {
            make_private_dir(dir)?;
            locks.push(lock_dir(dir)?);
        }
        let store = ImageStore::open(config.image_dir()).map_err(StartError::Images)?;
        pontoon_image::builtin::ensure(&store, Path::new(OWN_PROGRAM))
            .await
            .map_err(StartError::Images)?;
        let registries = crate::registries::read(&config)?;
        let images = Images { store, registries: Arc::new(registries), peers: None };
        let membership = Membership::load(&config.membership_file())?;
        // Before anything is begun: a directory whose socket cannot be made is no place to run.
        let listener = listen(&config)?;
        let (orders, inbox) = mpsc::channel(4);
        let tasks = TaskTracker::new();
        let (member, changes) = (Mutex::new(None), TaskTracker::new());
        let stranded = std::sync::Mutex::default();
        let shared = Arc::new(Shared { config, images, stop, member, stranded, orders, changes });
        if let Some(membership) = &membership
            && membership.node != shared.config.node_name
        {
            let (node, wanted) = (&membership.node, &shared.config.node_name);
            tracing::warn!(
                node,
                wanted,
                "a member keeps its name; another counts when it joins anew"
            );
        }
        if let Some(membership) = membership
            && let Err(refusal) = shared.go_on(membership).await
        {
            tracing::error!(error = refusal.message, "this node cannot go on in its cluster");
            tasks.spawn(stranded::retry(shared.clone()));
        }
        tasks.spawn(admin::serve(shared.clone(), listener, shared.stop.clone()));
        tasks.spawn(obey(shared.clone(), inbox));
        tasks.close();
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::debug!(%error, "tell systemd");
        }
        tracing::info!(socket = %shared.config.socket().display(), "the daemon listens");
        Ok(Self { shared, tasks, _locks: locks })
    }

    /// Waits until the daemon has been told to end and has done so. Containers go on.
    ///
    /// # Errors
    /// When its socket cannot be removed.
    pub async fn ended(self) -> Result<(), StartError> {
        self.shared.stop.cancelled().await;
        self.shared.changes.close();
        self.shared.changes.wait().await;
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
    /// Carries a change of the membership to its end, even when whoever asked for it goes away: half of one
    /// would be a node that the cluster counts on and that knows nothing of it.
    ///
    /// # Errors
    /// What the change answers.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.changes.spawn(change).await.unwrap_or_else(|e| Err(Refusal::internal(&e)))
    }

    /// What `ask` says of this node's membership.
    ///
    /// # Errors
    /// When the node is in no cluster.
    pub async fn with_member<T>(
        &self,
        ask: impl AsyncFnOnce(&Member) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let member = self.member.lock().await.as_ref().cloned();
        let member = member.ok_or_else(|| self.no_member())?;
        ask(&member).await
    }

    /// The membership, if there is one.
    pub async fn member(&self) -> Option<Member> {
        self.member.lock().await.clone()
    }

    /// Makes this node a member of the cluster of `manager`. Durable when this returns. A member of the token's
    /// cluster stays what it is.
    ///
    /// # Errors
    /// When the node is in another cluster, or that one will not have it; then nothing is kept.
    pub async fn join(
        &self,
        token: &str,
        manager: &str,
        advertise: Option<IpAddr>,
    ) -> Result<Joined, Refusal> {
        let mut slot = self.member.lock().await;
        if let Some(membership) = self.membership_of(slot.as_ref()) {
            return already_in(membership, token);
        }
        founding::clear_the_way(&self.config)?;
        let address = match advertise {
            Some(address) => Some(self.check_local(address).await?),
            None => None,
        };
        let manager = crate::resolve::manager(manager).await?;
        let attempt = self.config.join_attempt();
        let name = &self.config.node_name;
        let joiner = Joiner { name, address, token, manager, attempt: &attempt };
        let membership = joiner.join().await?;
        // From here on the cluster counts on this node: its membership is kept before anything is started, and a
        // node that stops half-way goes on with it.
        let saved = membership.save(&self.config.membership_file());
        let begun = match saved {
            Ok(()) => {
                // Answered. One that is left over would only be asked again by a node that has left.
                drop(fs::remove_file(&attempt));
                self.begin(membership.clone(), None).await
            }
            Err(error) => Err(Refusal::internal(&error)),
        };
        let member = match begun {
            Ok(member) => member,
            Err(refusal) => return Err(self.undo_join(&membership, refusal).await),
        };
        *slot = Some(member.clone());
        // Others may ask this node meanwhile, what it waits for among other things.
        drop(slot);
        member.settled().await?;
        Ok(Joined { membership: member.membership(), already: false })
    }

    /// Gives a membership back that could not be begun. Answers the refusal to tell.
    async fn undo_join(&self, membership: &Membership, refusal: Refusal) -> Refusal {
        if let Err(left) = self.forget() {
            tracing::warn!(error = left.message, "forget a cluster that was not joined");
        }
        match membership.give_back().await {
            Ok(()) => refusal,
            Err(error) => {
                tracing::warn!(error = error.message, "take back the request to join");
                let name = &membership.node;
                Refusal::new(
                    StatusCode::CONFLICT,
                    format!(
                        "{}; the cluster counts this node in: run `pontoon node rm {name}` on a manager, then join again",
                        refusal.message
                    ),
                )
            }
        }
    }

    /// Takes this node out of its cluster and removes what it made.
    ///
    /// # Errors
    /// When the cluster cannot spare it or cannot be reached, unless forced.
    pub async fn leave(&self, force: bool) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        let Some(member) = slot.as_ref().cloned() else {
            let stranded = self.stranded().ok_or_else(not_a_member)?;
            return self.give_up(stranded, force).await;
        };
        if let Err(refusal) = member.say_goodbye().await
            && !force
        {
            return Err(refusal.unless_forced("leaves all the same"));
        }
        // The cluster has let this node go: it must not come back to it by itself, also not after a restart.
        let membership = Membership { leaving: true, ..member.membership() };
        if let Err(error) = membership.save(&self.config.membership_file()) {
            tracing::warn!(error = chain(&error), "remember that this node leaves");
        }
        slot.take();
        let removed = member.stop_and_remove().await;
        self.cleared(membership, removed)
    }

    /// Starts being a member.
    async fn begin(
        &self,
        membership: Membership,
        founding: Option<crate::cluster::Cluster>,
    ) -> Result<Member, Refusal> {
        let founding = founding.map(|cluster| Founding { cluster });
        removal::forget(&self.config);
        let stop = self.stop.child_token();
        let orders = self.orders.clone();
        // Boxed: the compiler's queries follow futures within futures only so deep.
        Box::pin(Member::start(&self.config, &self.images, membership, founding, orders, stop))
            .await
    }

    /// The membership that this node has, whether or not it can go on with it.
    fn membership_of(&self, member: Option<&Member>) -> Option<Membership> {
        let stranded = || self.stranded().map(|stranded| stranded.membership);
        member.map(Member::membership).or_else(stranded)
    }

    fn refuse_member(&self, member: Option<&Member>) -> Result<(), Refusal> {
        match self.membership_of(member) {
            None => Ok(()),
            Some(membership) => Err(Refusal::conflict(format!(
                "this node is a {} of cluster {} already; `pontoon leave` takes it out of there first",
                membership.role, membership.cluster
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

    /// Ranges that hold an address of this machine would cut it off from whatever it has that address for.
    async fn check_ranges(&self, (pods, services): (Ipv4Net, Ipv4Net)) -> Result<(), Refusal> {
        let network = Network::new("probe").map_err(|e| Refusal::internal(&e))?;
        let all = network.addresses().await.map_err(|e| Refusal::internal(&e))?;
        for (option, range) in [("--cluster-cidr", pods), ("--service-cidr", services)] {
            // What an earlier membership left behind is taken over.
            let foreign = |own: &&HostAddress| !own.link.starts_with(OWNER);
            let mut others = all.iter().filter(foreign);
            if let Some(own) = others.find(|own| range.contains(&own.address.addr())) {
                return Err(Refusal::bad_request(format!(
                    "{option} {range} holds {}, an address of this machine; choose a range that no other network uses",
                    own.address.addr()
                )));
            }
        }
        Ok(())
    }

    /// Removes what membership left on the disk; images stay.
    fn forget(&self) -> Result<(), Refusal> {
        let config = &self.config;
        remove(&config.store_dir(), |p| remove_dir(p))?;
        // The membership last: as long as it is there, this is done again.
        let [attempt, names] = [config.join_attempt(), config.names_file()];
        let [founding, kubeconfig] = [config.founding_file(), config.kubeconfig()];
        for path in [attempt, names, founding, kubeconfig, config.membership_file()] {
            remove(&path, |p| fs::remove_file(p))?;
        }
        Ok(())
    }

    /// Changes this node's role as its record says: a new certificate, then everything anew. Pods go on.
    async fn change_role(&self, role: Role) -> Result<(), Refusal> {
        let mut slot = self.member.lock().await;
        let Some(member) = slot.as_ref().cloned() else { return self.resume(&mut slot).await };
        if member.membership().role == role {
            return Ok(());
        }
        let membership = member.renewed().await?;
        let role = membership.role;
        if member.membership().role == role {
            // The order was taken back, or comes from a manager that is behind.
            return Ok(());
        }
        tracing::info!(%role, "this node's role changes");
        if role == Role::Worker {
            member.leave_store().await?;
        }
        slot.take();
        member.stop().await;
        membership.save(&self.config.membership_file()).map_err(|e| Refusal::internal(&e))?;
        self.resume(&mut slot).await
    }

    /// Goes on as what the membership on the disk says, when that could not be begun before. A role begins
    /// with nothing of another one's: no state, and no right to administer.
    async fn resume(&self, slot: &mut Option<Member>) -> Result<(), Refusal> {
        let membership = Membership::load(&self.config.membership_file());
        let membership = membership.map_err(|e| Refusal::internal(&e))?;
        let Some(membership) = membership else { return Ok(()) };
        remove(&self.config.store_dir(), |p| remove_dir(p))?;
        if membership.role == Role::Worker {
            remove(&self.config.kubeconfig(), |p| fs::remove_file(p))?;
        }
        self.begin_again(slot, membership).await
    }

    /// The records, on a manager.
    ///
    /// # Errors
    /// When this node is no manager.
    pub async fn records(&self) -> Result<Records, Refusal> {
        self.with_member(async |member| Ok(member.manager()?.with_quorum()?.records.clone())).await
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
                tokio::select! {
                    () = change_role(&shared, role) => {}
                    () = shared.stop.cancelled() => return,
                }
            }
            Some(Order::Leave(member)) => {
                tokio::select! {
                    () = removal::carry_out(&shared, member) => {}
                    () = shared.stop.cancelled() => return,
                }
            }
            Some(Order::Depart) => depart(&shared).await,
            None => return,
        }
    }
}

/// Leaves the cluster, as a client of this node has asked; or tells it why not.
async fn depart(shared: &Arc<Shared>) {
    let leaving = shared.clone();
    if let Err(refusal) = shared.to_the_end(async move { leaving.leave(false).await }).await {
        tracing::warn!(error = refusal.message, "leave, as a client has asked");
        if let Some(member) = shared.member().await {
            member.stay(refusal);
        }
    }
}

/// Changes the role, again and again until it is done: nobody gives the order twice. Each attempt is
/// carried to its end, whatever happens to this.
async fn change_role(shared: &Arc<Shared>, role: Role) {
    let mut pause = ROLE_PAUSE;
    loop {
        let attempt = {
            let shared = shared.clone();
            shared.clone().to_the_end(async move { shared.change_role(role).await }).await
        };
        let Err(refusal) = attempt else { return };
        if refusal.is_removed() {
            // It has no role any more, and is about to hear so by itself.
            return;
        }
        tracing::warn!(%role, error = refusal.message, "change this node's role");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROLE_PAUSE_MAX);
    }
}

/// The answer to a member that is to join: nothing to do in its own cluster, none in another.
fn already_in(membership: Membership, token: &str) -> Result<Joined, Refusal> {
    let token: JoinToken = token.parse().map_err(|e| Refusal::bad_request(format!("join: {e}")))?;
    let authority = membership.credentials.authority().map_err(|e| Refusal::internal(&e))?;
    if token.matches_authority(&authority) {
        return Ok(Joined { membership, already: true });
    }
    Err(Refusal::conflict(format!(
        "join: this node is a {} of cluster {} already, and the token is another cluster's; \
         `pontoon leave` takes it out of there first, then join again",
        membership.role, membership.cluster
    )))
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

/// Removes a directory with all it holds. One that is a disk of its own, as the store's may be, is emptied and stays.
fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            if fs::read_dir(path)?.next().is_some() { Err(error) } else { Ok(()) }
        }
        done => done,
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
