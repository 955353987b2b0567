//! Consul's HTTP API, version 1, and its DNS on the store: a translator without state of its own.
//!
//! [`ConsulServer`] serves connections that somebody else accepted, [`dns::ConsulDns`] has its own addresses. [`Cluster`]
//! is what it asks of the nodes; [`AclSettings`] says whether it asks for tokens.

pub mod acl;
mod agent;
mod answer;
mod blocking;
mod call;
mod catalog;
pub mod cluster;
mod coordinate;
pub mod dns;
mod draft;
pub mod duration;
mod entry;
mod event;
pub mod filter;
mod go_string;
mod health;
mod json;
mod keyspace;
mod kv;
pub mod near;
mod op;
mod operator;
mod options;
mod path;
mod permit;
mod prepared;
mod query;
mod refusal;
mod route;
mod server;
mod session;
mod snapshot;
mod status;
mod transact;
mod txn;

#[cfg(test)]
mod tests;

pub use acl::{AclSettings, DefaultPolicy, Secret};
pub use answer::Body;
pub use cluster::Cluster;
pub use server::{ConsulServer, Settings};
