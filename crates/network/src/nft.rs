//! nftables without `nft`: our own encoder over netlink, and the tables that Pontoon needs.

mod balance;
mod batch;
mod cuts;
mod element;
mod guard;
mod kernel;
mod masquerade;
mod program;
mod rule;
mod schema;
mod table;
mod tables;
mod update;

pub use cuts::Cuts;
pub use guard::OverlayGuard;
pub use masquerade::Masquerade;
pub use table::{HostPort, Protocol, ServicePortKey, ServiceTable, Synced, VirtualService};
pub use tables::Tables;
