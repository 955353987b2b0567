//! Consul's API and DNS on a manager: their ports, and what they ask of the cluster.

mod cluster;
mod door;
mod endpoints;
mod names;
mod nodes;
mod picture;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pontoon_api_consul::dns::{ConsulDns, DOMAIN};
use pontoon_api_consul::{ConsulServer, Settings};
use tokio_util::sync::CancellationToken;

use crate::config::{CONSUL_PORT, Config};
use crate::identity::Role;
use crate::listen;
use crate::member::Member;
use cluster::Managers;
use door::Door;
use picture::Picture;

pub(crate) use pontoon_api_consul::cluster::VERSION;

/// The only datacenter, by the name that Consul gives one that nobody named.
pub(crate) const DATACENTER: &str = "dc1";
/// How long connections are kept when the node leaves because one of them asked for it: the answer is on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The ports of Consul's API and DNS. They are served without anybody's asking.
pub(crate) struct Port {
    http: Door,
    dns: Door,
    /// A client has asked this node to leave, and waits for the answer.
    leaving: AtomicBool,
}

impl Port {
    /// Ports that are not open yet; but on a manager they never are.
    pub(crate) fn new(config: &Config, role: Role) -> Arc<Port> {
        let [http, dns] = [config.consul, config.consul_dns]
            .map(|address| address.filter(|_| role == Role::Manager));
        Arc::new(Port {
            http: Door::new("Consul's API", "--consul-port", http),
            dns: Door::new("Consul's DNS", "--consul-dns-port", dns),
            leaving: AtomicBool::new(false),
        })
    }

    /// Where the API is served, for those on this machine.
    pub(crate) fn url(&self) -> Option<String> {
        Some(format!("http://{}", self.http.address()?))
    }

    /// Where DNS is served.
    pub(crate) fn dns_address(&self) -> Option<SocketAddr> {
        self.dns.address()
    }

    /// What the user is to know of them.
    pub(crate) fn warning(&self) -> Option<String> {
        let open = self.http.address().and_then(open_to_others);
        let words = [self.http.problem(), self.dns.problem(), open].into_iter().flatten();
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Serves this manager's store until the member stops. What must be done for all servers is also done where the
    /// port is not served.
    pub(crate) fn run(self: Arc<Self>, member: &Member) {
        let Ok(manager) = member.manager() else { return };
        let membership = member.membership();
        let (store, stop) = (manager.store.clone(), member.stopping());
        let picture = Picture::new(store.clone(), membership.cluster.clone());
        let cluster = Managers::new(member.clone(), manager, Arc::clone(&picture));
        let settings = Settings {
            datacenter: DATACENTER.to_owned(),
            node: membership.node.clone(),
            acl: None,
        };
        let server = ConsulServer::new(store, Arc::new(cluster), settings);
        member.spawn_until_stop(picture.follow(stop.clone()));
        member.spawn_until_stop(server.clone().end_sessions());
        member.spawn_until_stop(server.clone().watch_checks());
        member.spawn_until_stop(server.clone().keep_tokens());
        member.spawn_until_stop(server.clone().probe_services());
        if let Some(words) = self.http.listen.and_then(open_to_others) {
            tracing::warn!("{words}");
        }
        member.spawn_task(Arc::clone(&self).serve_names(server.clone(), stop.clone()));
        member.spawn_task(self.serve(server, stop));
    }

    async fn serve(self: Arc<Self>, server: ConsulServer, stop: CancellationToken) {
        let Some(listener) = self.http.open(listen::bind, &stop).await else { return };
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

    async fn serve_names(self: Arc<Self>, server: ConsulServer, stop: CancellationToken) {
        let bind = |address| {
            let server = server.clone();
            async move { ConsulDns::bind(&server, DOMAIN, &[address]).await }
        };
        if let Some(dns) = self.dns.open(bind, &stop).await {
            dns.run(stop).await;
        }
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
