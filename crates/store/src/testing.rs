//! A cluster in one process for tests: members with their own runtimes, so that they can be killed,
//! and connections that can be cut.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{BoxedStream, Member, MemberId, Store, StoreConfig, Transport, Tuning};

/// No test takes so long unless something hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Runs a test, and ends it if it hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(HANGS, test).await.expect("the test hangs") });
}

/// The wires between members.
#[derive(Default)]
pub(crate) struct Net {
    hosts: Mutex<HashMap<MemberId, (Store, Handle)>>,
    cut: Mutex<HashSet<MemberId>>,
    /// Members that are not at the port of their number.
    moved: Mutex<HashMap<MemberId, u16>>,
    links: Mutex<Vec<(MemberId, MemberId, CancellationToken)>>,
    /// Connections that are open, by who made them and to whom.
    open: watch::Sender<BTreeMap<(MemberId, MemberId), usize>>,
}

struct Wire {
    net: Weak<Net>,
    from: MemberId,
}

#[async_trait]
impl Transport for Wire {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        let net = self.net.upgrade().ok_or(io::ErrorKind::ConnectionRefused)?;
        net.connect(self.from, to.id, to.address.port())
    }
}

impl Net {
    fn connect(&self, from: MemberId, to: MemberId, port: u16) -> io::Result<BoxedStream> {
        let at = self.moved.lock().unwrap().get(&to).copied();
        if port != at.unwrap_or_else(|| member(to).address.port()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let cut = self.cut.lock().unwrap();
        if cut.contains(&from) != cut.contains(&to) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let (store, handle) =
            self.hosts.lock().unwrap().get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, mut near_end) = tokio::io::duplex(64 << 10);
        let (mut far_end, far): (DuplexStream, DuplexStream) = tokio::io::duplex(64 << 10);
        let severed = CancellationToken::new();
        self.links.lock().unwrap().push((from, to, severed.clone()));
        self.open.send_modify(|open| *open.entry((from, to)).or_default() += 1);
        let open = self.open.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = severed.cancelled() => {}
                _ = tokio::io::copy_bidirectional(&mut near_end, &mut far_end) => {}
            }
            open.send_modify(|open| *open.entry((from, to)).or_default() -= 1);
        });
        handle.spawn(async move { store.serve(Box::new(far)).await });
        Ok(Box::new(near))
    }

    /// Cuts `members` off from all others, not from each other.
    pub(crate) fn cut(&self, members: &[MemberId]) {
        *self.cut.lock().unwrap() = members.iter().copied().collect();
        self.links.lock().unwrap().retain(|(from, to, severed)| {
            let keep = members.contains(from) == members.contains(to);
            if !keep {
                severed.cancel();
            }
            keep
        });
    }

    /// Connections from one member to another.
    pub(crate) fn open(&self) -> watch::Receiver<BTreeMap<(MemberId, MemberId), usize>> {
        self.open.subscribe()
    }

    /// From now on a member answers at another port only.
    pub(crate) fn move_to(&self, id: MemberId, port: u16) {
        self.moved.lock().unwrap().insert(id, port);
    }

    /// Joins everything again.
    pub(crate) fn heal(&self) {
        self.cut(&[]);
    }
}

struct Running {
    store: Store,
    runtime: Runtime,
}

/// Members that can be started and killed.
pub(crate) struct Cluster {
    pub(crate) net: Arc<Net>,
    pub(crate) dir: TempDir,
    tuning: Tuning,
    running: BTreeMap<MemberId, Running>,
}

/// The member of a number.
pub(crate) fn member(id: MemberId) -> Member {
    let port = u16::try_from(id).expect("small numbers in tests");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Member { id, name: format!("m{id}"), address }
}

/// What etcd's API makes of a snapshot.
pub(crate) fn as_over_etcd(snapshot: &[u8]) -> Vec<u8> {
    let mut bytes = snapshot.to_vec();
    bytes.resize(snapshot.len().next_multiple_of(512), 0);
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

impl Cluster {
    /// A cluster of the members 1 to `size`.
    pub(crate) async fn new(size: MemberId, tuning: Tuning) -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let net = Arc::new(Net::default());
        let mut cluster = Cluster { net, dir, tuning, running: BTreeMap::new() };
        for id in 1..=size {
            cluster.start(id).await;
            if id == 1 {
                cluster.store(1).bootstrap(member(1)).await.expect("bootstrap");
            } else {
                cluster.store(1).add_member(member(id)).await.expect("a new member");
            }
        }
        cluster
    }

    /// Starts a member on what its directory holds.
    pub(crate) async fn start(&mut self, id: MemberId) {
        self.try_start(id).await.expect("the store opens");
    }

    /// Starts a member, if its directory is fit for it.
    pub(crate) async fn try_start(&mut self, id: MemberId) -> Result<(), crate::OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let config = StoreConfig { dir: self.dir(id), member: id, tuning: self.tuning.clone() };
        let wire = Arc::new(Wire { net: Arc::downgrade(&self.net), from: id });
        let opened = runtime.spawn(Store::open(config, wire)).await.expect("no panic");
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let handle = runtime.handle().clone();
        self.net.hosts.lock().unwrap().insert(id, (store.clone(), handle));
        self.running.insert(id, Running { store, runtime });
        Ok(())
    }

    /// Ends a member between one instruction and the next.
    pub(crate) async fn kill(&mut self, id: MemberId) {
        self.net.hosts.lock().unwrap().remove(&id);
        let Running { store, runtime } = self.running.remove(&id).expect("it runs");
        drop(store);
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(HANGS))
            .await
            .expect("the member ends");
    }

    pub(crate) fn dir(&self, id: MemberId) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub(crate) fn store(&self, id: MemberId) -> &Store {
        &self.running[&id].store
    }

    pub(crate) fn ids(&self) -> Vec<MemberId> {
        self.running.keys().copied().collect()
    }

    /// The member that leads, as soon as one of `among` says so.
    pub(crate) async fn leader(&self, among: &[MemberId]) -> MemberId {
        let waits = among.iter().map(|id| {
            let mut leadership = self.store(*id).leadership();
            Box::pin(async move {
                leadership.wait_for(|leadership| leadership.is_me).await.expect("it runs");
                *id
            })
        });
        futures::future::select_all(waits).await.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.net.hosts.lock().unwrap().clear();
        for (_, Running { store, runtime }) in std::mem::take(&mut self.running) {
            drop(store);
            runtime.shutdown_background();
        }
    }
}
