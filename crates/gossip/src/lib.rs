//! Who is alive: SWIM membership with suspicion over sealed UDP, and anti-entropy over sealed TCP. See ALGORITHM.md.

mod config;
mod gossip;
mod member;

pub use config::{GossipConfig, Profile};
pub use gossip::{Gossip, GossipError};
pub use member::{Member, Meta, Status};
