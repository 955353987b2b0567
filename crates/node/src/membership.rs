//! What a node remembers of its cluster on its own disk, so that it finds back by itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::Method;
use serde::{Deserialize, Serialize};

use crate::cluster::NodeRecord;
use crate::gossip_keys::GossipKey;
use crate::identity::Role;
use crate::identity::certificate::Credentials;
use crate::rpc::Refusal;
use crate::rpc::client::ManagerClient;
use crate::tls::Tls;

/// Held while a private file is written.
static WRITING: Mutex<()> = Mutex::new(());

/// A manager as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerAddress {
    pub name: String,
    /// The manager's number, which its certificate bears.
    pub member: u64,
    pub address: SocketAddr,
}

/// A node's membership of a cluster, as it stands on its disk.
#[derive(Clone, Serialize, Deserialize)]
pub struct Membership {
    pub cluster: String,
    pub node: String,
    pub role: Role,
    /// This node's number, which its certificate bears.
    pub member: u64,
    /// This node's id in the store, should it be a manager: another one each time it becomes one.
    pub store: u64,
    /// Where the others reach this node (the address is shared by all ports).
    pub advertise: std::net::IpAddr,
    pub credentials: Credentials,
    /// What gossip is sealed with, as last told.
    pub gossip_key: GossipKey,
    /// The managers last known; where a node that starts asks first.
    pub managers: Vec<ManagerAddress>,
    pub cluster_cidr: ipnet::Ipv4Net,
    pub service_cidr: ipnet::Ipv4Net,
    /// Whether the cluster has let this node go, and only what it made here is left to be removed.
    #[serde(default)]
    pub leaving: bool,
}

/// Why the membership file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("read {}: it is damaged; restore it from a backup, or remove the data directory and join again", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl Membership {
    /// The node's record as this membership has it.
    #[must_use]
    pub fn record(&self) -> NodeRecord {
        NodeRecord {
            name: self.node.clone(),
            member: self.member,
            store: self.store,
            role: self.role,
            learner: false,
            address: self.advertise,
            request: String::new(),
        }
    }

    /// Asks the managers to forget this node, which could not begin to be a member.
    ///
    /// # Errors
    /// When no manager does so.
    pub(crate) async fn give_back(&self) -> Result<(), Refusal> {
        let tls = Tls::new(self.credentials.clone()).map_err(|e| Refusal::internal(&e))?;
        let others = self.managers.iter().filter(|manager| manager.name != self.node);
        let client = ManagerClient::new(tls, others.cloned().collect());
        match client.call::<_, ()>(Method::DELETE, "/v1/node", &()).await {
            Err(refusal) if !refusal.is_removed() => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Reads the membership, `None` when this node belongs to no cluster.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, MembershipError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| MembershipError::Damaged { path: path.to_owned(), source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                Err(MembershipError::File { action: "read", path: path.to_owned(), source })
            }
        }
    }

    /// Writes the membership; durable when this returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), MembershipError> {
        let bytes = serde_json::to_vec_pretty(self).expect("plain data becomes JSON");
        write_private(path, &bytes).map_err(|source| MembershipError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}

/// Writes a file that only root may read, whole or not at all; durable when this returns.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    // Two that write the same file at once would take each other's half away.
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let partial = path.with_extension("partial");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(parent)?.sync_all()
}
