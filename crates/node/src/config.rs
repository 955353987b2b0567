//! What a daemon is told on its command line, and where it keeps things.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

/// Port of join and manager traffic.
pub const MANAGER_PORT: u16 = 2377;
/// Port of gossip, UDP and TCP.
pub const GOSSIP_PORT: u16 = 7946;
/// Port of the Kubernetes API.
pub const KUBE_PORT: u16 = 6443;
/// Port of a node's own API.
pub const NODE_PORT: u16 = 10250;
/// Port of etcd's API, unless told otherwise.
pub const ETCD_PORT: u16 = 2379;
/// Port of Consul's API, unless told otherwise.
pub const CONSUL_PORT: u16 = 8500;
/// Port of Consul's DNS, unless told otherwise.
pub const CONSUL_DNS_PORT: u16 = 8600;
/// UDP port of the overlay.
pub const VXLAN_PORT: u16 = 4789;

/// The longest name a node may have: it is a DNS label.
const NAME_LEN_MAX: usize = 63;

/// Whether a node may have such a name: a DNS label.
///
/// # Errors
/// When it may not, with what a name may be.
pub fn check_node_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = name.bytes().all(|b| plain(b) || b == b'-');
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    if inner && ends && name.len() <= NAME_LEN_MAX {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a node's name: use up to {NAME_LEN_MAX} of a-z, 0-9 and '-', beginning and ending with a letter or digit"
    ))
}

/// The settings of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// State that must survive: identity, log, images.
    pub data_dir: PathBuf,
    /// Sockets and what lives as long as the machine is up.
    pub run_dir: PathBuf,
    /// This node's name: a DNS label, unique in the cluster.
    pub node_name: String,
    /// Parent of all cgroups this daemon makes, relative to the mounts' roots.
    pub cgroup_parent: String,
    /// Registries (`host:port`) to be spoken to over plain HTTP.
    pub insecure_registries: Vec<String>,
    /// `HOST[:PORT][/PATH]` that image names without a registry are pulled from; without it they are not pulled.
    pub default_registry: Option<String>,
    /// PEM files of certificates that registries are trusted by beside the system's.
    pub registry_ca: Vec<PathBuf>,
    /// Labels for the node object.
    pub labels: Vec<(String, String)>,
    /// Where etcd's API is served while this node is a manager, if it is.
    pub etcd: Option<EtcdListen>,
    /// Where Consul's API is served while this node is a manager, unless it is not.
    pub consul: Option<SocketAddr>,
    /// Where Consul's DNS is served while this node is a manager, unless it is not.
    pub consul_dns: Option<SocketAddr>,
}

/// A port of etcd's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtcdListen {
    /// The address it listens on.
    pub address: SocketAddr,
    /// Without TLS, which loopback addresses alone may be.
    pub insecure: bool,
}

impl EtcdListen {
    /// The port that a user asks for.
    ///
    /// # Errors
    /// When it would give the cluster away to the network, or has no port.
    pub fn new(address: SocketAddr, insecure: bool) -> Result<Self, String> {
        if address.port() == 0 {
            return Err(format!(
                "etcd's clients have to know the port, so it cannot be 0; leave it out to have {ETCD_PORT}"
            ));
        }
        if insecure && !address.ip().is_loopback() {
            return Err(format!(
                "--etcd-insecure lets everybody who reaches {address} write to the cluster's state, so it is refused for other than \
                 loopback addresses; leave it out to have TLS, or listen on 127.0.0.1:{ETCD_PORT}"
            ));
        }
        Ok(Self { address, insecure })
    }
}

impl Config {
    /// The socket that the command line speaks to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.run_dir)
    }

    /// Where identity and membership of the cluster are kept.
    #[must_use]
    pub fn membership_file(&self) -> PathBuf {
        membership_in(&self.data_dir)
    }

    /// What this node last heard of names and services.
    #[must_use]
    pub fn names_file(&self) -> PathBuf {
        self.data_dir.join("names.json")
    }

    /// Why this node is in no cluster, where that was not its own wish.
    #[must_use]
    pub fn removal_file(&self) -> PathBuf {
        self.data_dir.join("removed.json")
    }

    /// The request to join a cluster, until it is answered.
    #[must_use]
    pub fn join_attempt(&self) -> PathBuf {
        self.data_dir.join("joining.json")
    }

    /// The attempt to make a cluster, until its membership is kept.
    #[must_use]
    pub fn founding_file(&self) -> PathBuf {
        self.data_dir.join("founding.json")
    }

    /// The kubeconfig with all rights that a manager keeps.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    /// The replicated state's log and snapshots.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        store_in(&self.data_dir)
    }

    /// The image store.
    #[must_use]
    pub fn image_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }
}

/// Where the files for etcd's clients are written, below a data directory.
#[must_use]
pub fn etcd_client_in(data_dir: &Path) -> PathBuf {
    data_dir.join("etcd-client")
}

/// The settings of a daemon with its directories below `dir`.
#[cfg(test)]
pub(crate) fn testing(dir: &Path) -> Config {
    Config {
        etcd: None,
        consul: None,
        consul_dns: None,
        data_dir: dir.join("data"),
        run_dir: dir.join("run"),
        node_name: "a".to_owned(),
        cgroup_parent: String::new(),
        insecure_registries: Vec::new(),
        default_registry: None,
        registry_ca: Vec::new(),
        labels: Vec::new(),
    }
}

/// The file of the membership below a data directory.
pub(crate) fn membership_in(data_dir: &Path) -> PathBuf {
    data_dir.join("node.json")
}

/// The file that whoever uses a directory holds locked.
pub(crate) fn lock_in(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// The directory of the replicated state below a data directory.
pub(crate) fn store_in(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The command line's socket below a run directory.
#[must_use]
pub fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("pontoon.sock")
}

/// `text` as a socket address, with a port to use when it names none. Names are not looked up here.
#[must_use]
pub fn parse_address(text: &str, default_port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, default_port))
}

/// The smallest that ranges of addresses may be.
pub mod longest_prefix {
    /// Of pods: every node has this much of it.
    pub const NODES: u8 = 24;
    /// Of services.
    pub const SERVICES: u8 = 28;
}

/// `text` as a range of addresses that a cluster may have.
///
/// # Errors
/// Why it may not, beginning with the text.
pub fn parse_range(text: &str, longest: u8) -> Result<Ipv4Net, String> {
    let parsed: Ipv4Net = text
        .parse()
        .map_err(|_| format!("{text:?} is no range of IPv4 addresses, such as 10.244.0.0/16"))?;
    if parsed.trunc() != parsed {
        return Err(format!("{parsed} has host bits set; do you mean {}?", parsed.trunc()));
    }
    let first = parsed.network();
    if first.is_loopback()
        || first.is_multicast()
        || first.is_link_local()
        || first.octets()[0] == 0
    {
        return Err(format!(
            "{parsed}: these addresses have another use; take a private range, such as 10.244.0.0/16"
        ));
    }
    if parsed.prefix_len() > longest || parsed.prefix_len() < 8 {
        return Err(format!("{parsed}: the prefix must be /8 to /{longest}"));
    }
    Ok(parsed)
}
