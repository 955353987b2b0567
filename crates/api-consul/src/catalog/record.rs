//! What the catalog consists of: nodes, services, checks, as they are kept and as clients name their parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::NODE_CHECK;
use crate::duration::GoDuration;

/// Texts by name.
pub type Texts = BTreeMap<String, String>;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Node")]
    pub name: String,
    pub address: String,
    pub tagged_addresses: Texts,
    pub meta: Texts,
    #[serde(skip)]
    pub create_index: u64,
    #[serde(skip)]
    pub modify_index: u64,
}

/// A service's address for those who come from a certain network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceAddress {
    #[serde(alias = "address")]
    pub address: String,
    #[serde(alias = "port")]
    pub port: u16,
}

/// How many of a service's answers in DNS are about an instance, by its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Weights {
    #[serde(alias = "passing")]
    pub passing: u32,
    #[serde(alias = "warning")]
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { passing: 1, warning: 1 }
    }
}

/// One instance of a service, on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Service")]
    pub name: String,
    pub tags: Vec<String>,
    pub address: String,
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    pub meta: Texts,
    pub port: u16,
    pub weights: Weights,
    pub enable_tag_override: bool,
    #[serde(skip)]
    pub create_index: u64,
    #[serde(skip)]
    pub modify_index: u64,
}

/// How well something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Passing,
    Warning,
    #[default]
    Critical,
}

impl Status {
    pub fn parse(word: &str) -> Option<Status> {
        match word {
            "passing" => Some(Status::Passing),
            "warning" => Some(Status::Warning),
            "critical" => Some(Status::Critical),
            _ => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }
}

/// What is known of the health of a node or of one of its services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    #[serde(rename = "CheckID")]
    pub id: String,
    pub name: String,
    pub status: Status,
    pub notes: String,
    pub output: String,
    /// Empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// How its status comes about; a check that has none is told its status by whoever registered it.
    pub source: Source,
    /// For how long it must be critical until its service goes.
    pub deregister_after: Option<GoDuration>,
    /// The lease that ends with its time to live.
    pub ttl_lease: Option<i64>,
    /// The lease at whose end its service goes, while it is critical.
    pub critical_lease: Option<i64>,
    #[serde(skip)]
    pub create_index: u64,
    #[serde(skip)]
    pub modify_index: u64,
}

/// How a check's status comes about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// It is told.
    #[default]
    Told,
    /// It is told, and must be told again in time.
    Ttl(GoDuration),
    /// It is that of another service, or of a node.
    Alias { node: String, service: String },
    /// Somebody put a node or a service out of service.
    Maintenance,
    /// The node does something itself.
    Probe {
        how: Probe,
        every: GoDuration,
        within: Option<GoDuration>,
        #[serde(default)]
        steps: Steps,
    },
}

/// How often a probe must find the same until it is believed; 0 is once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    pub successes: u32,
    pub failures: u32,
}

/// What a node does to see how a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    Http {
        url: String,
        method: String,
        header: BTreeMap<String, Vec<String>>,
        body: String,
        /// Any certificate will do.
        #[serde(default)]
        skip_verify: bool,
    },
    Tcp(String),
    Udp(String),
    /// `host:port`, or `host:port/service`.
    Grpc {
        target: String,
        tls: bool,
        skip_verify: bool,
    },
}

impl Check {
    /// True if the cluster itself says whether the node lives.
    pub(crate) fn is_clusters(&self) -> bool {
        self.id == NODE_CHECK
    }
}

impl Source {
    /// Consul's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Source::Told => "",
            Source::Ttl(_) => "ttl",
            Source::Alias { .. } => "alias",
            Source::Maintenance => "maintenance",
            Source::Probe { how: Probe::Http { .. }, .. } => "http",
            Source::Probe { how: Probe::Tcp(_), .. } => "tcp",
            Source::Probe { how: Probe::Udp(_), .. } => "udp",
            Source::Probe { how: Probe::Grpc { .. }, .. } => "grpc",
        }
    }
}
