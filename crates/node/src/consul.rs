//! Consul's API on a manager: its port, and what it asks of the cluster.

mod cluster;
mod endpoints;
mod names;
mod nodes;
mod picture;
mod table;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pontoon_api_consul::{AllowAll, ConsulServer, Settings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::CONSUL_PORT;
use crate::listen;
use crate::member::Member;
use cluster::Managers;
use picture::Picture;

pub(crate) use pontoon_api_consul::cluster::VERSION;

/// The only datacenter, by the name that Consul gives one that nobody named.
pub(crate) const DATACENTER: &str = "dc1";
/// Pause before a port that is taken is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long connections are kept when the node leaves because one of them asked for it: the answer is on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The port of Consul's API.
///
/// It is served without anybody's asking, on a number that another program may have a right to, a real Consul first of
/// all: so a node whose port is taken is a manager all the same, says so, and tries again. Nothing of its own needs it.
pub(crate) struct Port {
    listen: Option<SocketAddr>,
    /// Why it is not served.
    problem: Mutex<Option<String>>,
    /// A client has asked this node to leave, and waits for the answer.
    leaving: AtomicBool,
}

impl Port {
    /// A port that is not open yet; without an address it never is.
    pub(crate) fn new(listen: Option<SocketAddr>) -> Arc<Port> {
        Arc::new(Port { listen, problem: Mutex::default(), leaving: AtomicBool::new(false) })
    }

    /// Where it is served, for those on this machine.
    pub(crate) fn url(&self) -> Option<String> {
        let address = self.listen.filter(|_| self.problem().is_none())?;
        Some(format!("http://{address}"))
    }

    /// What the user is to know of it.
    pub(crate) fn warning(&self) -> Option<String> {
        self.problem().or_else(|| self.listen.and_then(open_to_others))
    }

    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves this manager's store until the member stops. What must be done for all servers is also done where the
    /// port is not served.
    pub(crate) fn run(self: Arc<Self>, member: &Member) {
        let Ok(manager) = member.manager() else { return };
        let membership = member.membership();
        let (store, stop) = (manager.store.clone(), member.stopping());
        let picture = Picture::new(store.clone(), membership.cluster.clone());
        let cluster = Managers::new(member.clone(), manager, Arc::clone(&picture));
        let settings =
            Settings { datacenter: DATACENTER.to_owned(), node: membership.node.clone() };
        let server = ConsulServer::new(store, Arc::new(cluster), Arc::new(AllowAll), settings);
        member.spawn_until_stop(picture.follow(stop.clone()));
        member.spawn_until_stop(server.clone().end_sessions());
        member.spawn_until_stop(server.clone().watch_checks());
        member.spawn_until_stop(server.clone().probe_services());
        if let Some(address) = self.listen {
            if let Some(words) = open_to_others(address) {
                tracing::warn!("{words}");
            }
            member.spawn_task(self.serve(address, server, stop));
        }
    }

    async fn serve(
        self: Arc<Self>,
        address: SocketAddr,
        server: ConsulServer,
        stop: CancellationToken,
    ) {
        let Some(listener) = self.open(address, &stop).await else { return };
        tracing::info!(%address, "Consul's API");
        let last = CancellationToken::new();
        let ending = async {
            stop.cancelled().await;
            if self.leaving.load(Ordering::Relaxed) {
                tokio::time::sleep(LAST_WORDS).await;
            }
            last.cancel();
        };
        let serving =
            listen::plain(listener, last.clone(), move |stream| server.clone().serve(stream));
        tokio::join!(serving, ending);
    }

    /// Opens the port, however often it must be tried; `None` when the member stops.
    async fn open(&self, address: SocketAddr, stop: &CancellationToken) -> Option<TcpListener> {
        let mut pause = PAUSE;
        loop {
            let opened = listen::bind(address).await;
            let problem = opened.as_ref().err().map(|error| {
                format!(
                    "Consul's API is not served here, all else is: {error}. --consul-port gives it another port (0: none), \
                     --client-addr another address; it is tried again"
                )
            });
            self.set_problem(problem);
            if let Ok(listener) = opened {
                return Some(listener);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Takes over why the port is not served; told to the log once.
    fn set_problem(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = problem.as_ref().filter(|_| known.is_none()) {
            tracing::warn!("{words}");
        }
        *known = problem;
    }

    /// Notes that the connections are to be kept for a moment when the member stops.
    fn keep_for_the_answer(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }
}

/// The warning of an address that others than this machine's own programs reach.
fn open_to_others(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "Consul's API at {address} has neither TLS nor access control: whoever reaches it reads and writes all that is \
             kept there; leave --client-addr out to have it on 127.0.0.1:{CONSUL_PORT} only, or guard it with a firewall"
        )
    })
}

/// A record of the store, for tests.
#[cfg(test)]
fn record(value: impl Into<bytes::Bytes>, revision: u64) -> pontoon_store::KeyValue {
    let (create_revision, mod_revision) = (revision, revision);
    let (key, value) = (bytes::Bytes::from_static(b"k"), value.into());
    pontoon_store::KeyValue { key, value, create_revision, mod_revision, version: 1, lease: 0 }
}
