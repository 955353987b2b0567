//! How the store reaches other managers, and the API other nodes: mutual TLS, each node proving its name.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use pontoon_api_kube::{NodeProxy, NodeStream};
use pontoon_store::{BoxedStream, Member, Transport};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::sync::watch;

use std::sync::Arc;

use crate::cluster::NodeRecord;
use crate::config::NODE_PORT;
use crate::identity::node_dns_name;
use crate::tls::{ALPN_HTTP1, ALPN_STORE, Tls};

/// What the other manager has not received in this time is dropped with the stream, sooner than the store
/// gives up waiting for an answer (5 s): else the kernel would deliver it whenever a partition heals.
const UNHEARD_MS: u32 = 4_000;

/// Streams to other managers for the store.
pub(crate) struct ToManagers {
    pub tls: Tls,
}

#[async_trait]
impl Transport for ToManagers {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        let stream = self.tls.connect(to.address, &node_dns_name(&to.name), ALPN_STORE).await?;
        set_tcp_user_timeout(stream.get_ref().0, UNHEARD_MS)?;
        Ok(Box::new(stream))
    }
}

/// Streams to nodes' own APIs for logs and exec.
pub(crate) struct ToNodes {
    pub tls: Tls,
    pub records: watch::Receiver<Arc<Vec<NodeRecord>>>,
}

#[async_trait]
impl NodeProxy for ToNodes {
    async fn connect(&self, node: &str) -> io::Result<NodeStream> {
        let address = {
            let records = self.records.borrow();
            records.iter().find(|record| record.name == node).map(|record| record.address)
        };
        let address = address.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no node is named {node}"))
        })?;
        let address = SocketAddr::new(address, NODE_PORT);
        let stream = self.tls.connect(address, &node_dns_name(node), ALPN_HTTP1).await?;
        Ok(Box::new(stream))
    }
}
