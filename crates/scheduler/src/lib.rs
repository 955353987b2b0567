//! Which node for which pod, and why not the others. Pure: the same snapshot, pods and seed give
//! the same placements, on every machine.
//!
//! [`Snapshot`] is kept up by changes of objects; [`schedule`] decides for a batch of pods and
//! counts its decisions as taken. Pods that are alike are placed in one search over the nodes.

mod explanation;
mod filter;
pub mod fnv;
mod node_info;
mod pod_info;
mod pod_term;
pub mod requirement;
mod resources;
mod schedule;
mod score;
mod snapshot;
mod topology;

pub use explanation::Explanation;
pub use node_info::{Effect, HostPort, NodeInfo, Taint};
pub use pod_info::{NodeTerm, PodInfo, Spread, Tolerance};
pub use pod_term::PodTerm;
pub use resources::Resources;
pub use schedule::{Outcome, Placement, schedule};
pub use snapshot::Snapshot;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod properties;
