//! What goes through the log: commands with the identity that makes a retry harmless.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::WriteError;
use crate::lease::Lease;
use crate::txn::{Txn, TxnResponse};

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Txn(Txn),
    Compact(u64),
    LeaseGrant(Lease),
    LeaseRevoke(i64),
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Txn(TxnResponse),
    Compacted,
    Granted(Lease),
    Revoked,
}

/// What applying a command came to; the same on every member.
pub(crate) type Outcome = Result<Reply, WriteError>;

/// A command on its way: `(client, seq)` names it for ever, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The store that asked; new each time a store is opened.
    pub(crate) client: u64,
    /// Counts that store's commands.
    pub(crate) seq: u64,
    /// No command of that client below this is waited for any more.
    pub(crate) floor: u64,
    /// Shared with whoever may have to send it again.
    pub(crate) command: Arc<Command>,
}

/// The proposals of one log entry, encoded once by whoever proposes and decoded once by whoever
/// applies.
#[derive(Clone)]
pub(crate) struct Entry {
    encoded: Bytes,
    decoded: Arc<OnceLock<Arc<[Proposal]>>>,
}

impl Entry {
    /// Encodes proposals.
    pub(crate) fn encode(proposals: Vec<Proposal>) -> Entry {
        let bytes = postcard::to_stdvec(&proposals).expect("plain data always encodes");
        let decoded = OnceLock::new();
        decoded.get_or_init(|| Arc::from(proposals));
        Entry { encoded: Bytes::from(bytes), decoded: Arc::new(decoded) }
    }

    /// An entry as it was found in a log or a frame.
    pub(crate) fn from_encoded(encoded: Bytes) -> Entry {
        Entry { encoded, decoded: Arc::new(OnceLock::new()) }
    }

    /// The encoded form.
    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The proposals; an error if the bytes are not what `encode` makes.
    pub(crate) fn proposals(&self) -> Result<Arc<[Proposal]>, postcard::Error> {
        if let Some(proposals) = self.decoded.get() {
            return Ok(Arc::clone(proposals));
        }
        let proposals: Vec<Proposal> = postcard::from_bytes(&self.encoded)?;
        Ok(Arc::clone(self.decoded.get_or_init(|| Arc::from(proposals))))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.encoded == other.encoded
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.encoded.len())
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encoded.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        Ok(Entry::from_encoded(Bytes::deserialize(deserializer)?))
    }
}
