//! Leases: keys that live only as long as someone keeps saying so.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number, positive.
    pub id: i64,
    /// How long it lives without a keepalive, in seconds.
    pub ttl: i64,
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its number and time to live.
    pub lease: Lease,
    /// Seconds left, rounded up; 0 when it is about to end.
    pub remaining: i64,
    /// The keys attached to it, in order.
    pub keys: Vec<Bytes>,
}
