//! etcd's API, version 3, over gRPC: a translator onto the store, without state of its own.
//!
//! [`EtcdServer`] serves connections that somebody else accepted; [`Members`] is what it asks of the cluster.
//! [`client`] asks such a server, or etcd's own: it is for tests and benchmarks.

mod auth;
pub mod client;
mod cluster;
mod concurrency;
mod connection;
mod grpc;
mod http;
mod keyspace;
mod kv;
mod lease;
mod maintenance;
pub mod proto;
mod server;
mod status;
mod watch;

#[cfg(test)]
mod tests;

pub use cluster::{MemberInfo, Members, MembersError};
pub use server::{Access, EtcdServer, Settings};
