//! What Consul's API asks of the cluster: who leads, who the servers are, which nodes there are.

/// The nodes, as a Consul client reads them.
///
/// The catalog and the health of nodes and services are to be asked here too, once they are served.
pub trait Cluster: Send + Sync + 'static {
    /// The address of the leader, as `host:port`; none while there is none.
    fn leader(&self) -> Option<String>;

    /// The addresses of all managers, as `host:port`.
    fn peers(&self) -> Vec<String>;

    /// True if the catalog has a node of this name: a session belongs to one.
    fn has_node(&self, name: &str) -> bool;
}
