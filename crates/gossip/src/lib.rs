//! Who is alive: SWIM membership with suspicion over sealed UDP, and anti-entropy over sealed TCP. See ALGORITHM.md.

mod clock;
mod config;
mod engine;
mod exchange;
mod gossip;
mod identity;
mod member;
mod record;
mod runtime;
mod seal;
mod stream;
mod tuning;

pub use config::{GossipConfig, Profile};
pub use gossip::{Gossip, GossipError};
pub use member::{Member, Meta, Status};
