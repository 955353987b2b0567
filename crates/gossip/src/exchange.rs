//! The full state that two members exchange over TCP.

use serde::{Deserialize, Serialize};

use crate::identity::Id;
use crate::record::Record;

/// The most bytes of an exchange.
pub(crate) const MAX_EXCHANGE: usize = 16 << 20;
/// The most members taken from one.
pub(crate) const MAX_MEMBERS: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exchange {
    /// Who says this.
    pub(crate) from: Id,
    /// All it knows, itself included.
    pub(crate) members: Vec<Known>,
    pub(crate) records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) id: Id,
    pub(crate) incarnation: u16,
    pub(crate) state: State,
    /// How long it has been in this state, milliseconds.
    pub(crate) age_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Alive,
    Suspect,
    Down,
}

impl Exchange {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let decoded: Self = postcard::from_bytes(bytes).ok()?;
        (decoded.members.len() <= MAX_MEMBERS).then_some(decoded)
    }
}
