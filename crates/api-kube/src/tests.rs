//! The API as its clients see it: raw requests for the edges, and the real `kubectl`.

mod cluster;
mod content;
mod fake_node;
mod kubectl;
mod kubectl_changes;
mod kubectl_nodes;
mod kubectl_reads;
mod limits;
mod objects;
mod protocol;
mod rights;
mod watches;
