//! The Kubernetes REST API over [`Objects`](pontoon_objects::Objects): what `kubectl`, Helm and client libraries
//! speak. It holds no state of its own: requests are translated, answered and forgotten.
//!
//! The node process does TLS and hands each request over with the [`Identity`] it has proved;
//! [`NodeProxy`] is the way back to the nodes, for logs and exec.

mod accept;
mod authorize;
mod body;
mod build_info;
mod call;
mod content;
mod discovery;
mod identity;
mod in_flight;
mod node_proxy;
mod node_restriction;
mod openapi;
mod options;
mod path;
mod query;
mod respond;
mod review;
mod server;
mod table;
mod verbs;

pub use body::Body;
pub use build_info::BuildInfo;
pub use identity::{Identity, MASTERS, NODES};
pub use in_flight::Limits;
pub use node_proxy::{ByteStream, NodeProxy, NodeStream};
pub use server::ApiServer;

#[cfg(test)]
mod tests;
