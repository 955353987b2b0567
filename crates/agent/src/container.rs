//! From a container as Kubernetes words it to one that the runtime can make: environment, program, user, rights,
//! limits. Pure but for what it is given.

pub(crate) mod downward;
pub(crate) mod environment;
pub(crate) mod expand;
pub(crate) mod limits;
pub(crate) mod name_files;
pub(crate) mod program;
pub(crate) mod security;
pub(crate) mod service_variables;

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::assignments::Assignments;

/// What a pod's containers can ask about the world around them.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub pod: &'a Pod,
    pub pod_ip: Option<Ipv4Addr>,
    pub node_name: &'a str,
    pub host_ip: &'a str,
    /// What the node can give in all: thousandths of a CPU, bytes of memory.
    pub node_cpu_millis: i64,
    pub node_memory_bytes: i64,
    pub assignments: &'a Assignments,
}

/// Why a container cannot be made as it is asked for; shown as `CreateContainerConfigError`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ConfigError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("fieldPath {0:?} is not supported")]
    Field(String),
    #[error("resource {0:?} is not supported")]
    Resource(String),
    #[error("{0} is not supported by Pontoon")]
    Unsupported(&'static str),
    #[error("{what}: {text:?} is not valid")]
    Invalid { what: &'static str, text: String },
    #[error("container has runAsNonRoot and image will run as root")]
    RunsAsRoot,
    #[error("no command specified: neither the pod nor the image says what to run")]
    NoCommand,
    #[error("key {key} of {kind} {name} is not text")]
    NotText { kind: &'static str, name: String, key: String },
}
