//! The Kubernetes REST API over [`Objects`](pontoon_objects::Objects): what `kubectl`, Helm and client libraries
//! speak. It holds no state of its own: requests are translated, answered and forgotten.
//!
//! The node process does TLS and hands each request over with the [`Identity`] it has proved;
//! [`NodeProxy`] is the way back to the nodes, for logs and exec.

mod body;
mod build_info;
mod identity;
mod node_proxy;

pub use body::Body;
pub use build_info::BuildInfo;
pub use identity::Identity;
pub use node_proxy::{NodeProxy, NodeStream};
