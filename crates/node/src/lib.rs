//! One node's process: configuration, identity and mutual TLS, roles, leadership, and the wiring of all
//! other parts. It gives the agent its assignments and the dialects their objects.

pub mod admin;
mod assignment;
pub mod backup;
mod cluster;
pub mod config;
mod consul;
pub mod daemon;
mod etcd;
mod event_quota;
mod events;
mod gossip_keys;
mod identity;
mod images;
mod join;
mod known;
mod kubeconfig;
mod leader;
mod listen;
mod lock;
mod member;
mod membership;
pub mod node_labels;
mod node_removal;
mod quorum;
pub mod registries;
mod report;
pub mod resolve;
mod revival;
mod roles;
mod rpc;
pub mod shim;
mod tls;
mod transport;
mod view;
