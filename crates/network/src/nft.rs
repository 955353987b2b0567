//! nftables without `nft`: our own encoder over netlink, and the tables that Pontoon needs.

mod cuts;
mod masquerade;
mod table;
mod tables;

pub use cuts::Cuts;
pub use masquerade::Masquerade;
pub use table::{HostPort, Protocol, ServicePortKey, ServiceTable, Synced, VirtualService};
pub use tables::Tables;
