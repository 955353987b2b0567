//! What is kept under a key: Consul's metadata and the value, in one compact form.
//!
//! The first byte says which of flags, lock index and session follow, in this order: the numbers as varints (seven bits
//! a byte, the lowest first), the session as its 16 bytes. The rest is the value. The usual entry has one byte more
//! than its value.

use bytes::{Bytes, BytesMut};
use pontoon_store::KeyValue;
use uuid::Uuid;

const HAS_FLAGS: u8 = 1;
const HAS_LOCK_INDEX: u8 = 2;
const HAS_SESSION: u8 = 4;
const KNOWN: u8 = HAS_FLAGS | HAS_LOCK_INDEX | HAS_SESSION;

/// The index of what a transaction writes that is not done yet: no index that a client can know.
pub(crate) const PENDING: u64 = u64::MAX;

/// An entry under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// A number of the client's.
    pub(crate) flags: u64,
    /// How often the key was acquired since it was created: it only grows, so that it can fence.
    pub(crate) lock_index: u64,
    /// Who holds the key.
    pub(crate) session: Option<Uuid>,
    pub(crate) value: Bytes,
    pub(crate) create_index: u64,
    pub(crate) modify_index: u64,
}

/// A stored value that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored under a key is damaged, or of a newer version")]
pub(crate) struct BadEntry;

impl Entry {
    pub(crate) fn decode(kv: &KeyValue) -> Result<Entry, BadEntry> {
        let mut rest = &kv.value[..];
        let (kind, after) = rest.split_first().ok_or(BadEntry)?;
        rest = after;
        if kind & !KNOWN != 0 {
            return Err(BadEntry);
        }
        let flags = if kind & HAS_FLAGS != 0 { take_varint(&mut rest)? } else { 0 };
        let lock_index = if kind & HAS_LOCK_INDEX != 0 { take_varint(&mut rest)? } else { 0 };
        let mut session = None;
        if kind & HAS_SESSION != 0 {
            let (id, after) = rest.split_first_chunk::<16>().ok_or(BadEntry)?;
            session = Some(Uuid::from_bytes(*id));
            rest = after;
        }
        let value = kv.value.slice(kv.value.len() - rest.len()..);
        let (create_index, modify_index) = (kv.create_revision, kv.mod_revision);
        Ok(Entry { flags, lock_index, session, value, create_index, modify_index })
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(1 + 10 + 10 + 16 + self.value.len());
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let kind = flag(self.flags != 0, HAS_FLAGS)
            | flag(self.lock_index != 0, HAS_LOCK_INDEX)
            | flag(self.session.is_some(), HAS_SESSION);
        bytes.extend_from_slice(&[kind]);
        if self.flags != 0 {
            put_varint(&mut bytes, self.flags);
        }
        if self.lock_index != 0 {
            put_varint(&mut bytes, self.lock_index);
        }
        if let Some(session) = self.session {
            bytes.extend_from_slice(session.as_bytes());
        }
        bytes.extend_from_slice(&self.value);
        bytes.freeze()
    }

    /// True if writing the one over the other would change nothing.
    pub(crate) fn is_same(&self, other: &Entry) -> bool {
        let of = |entry: &Entry| (entry.flags, entry.lock_index, entry.session);
        of(self) == of(other) && self.value == other.value
    }
}

fn put_varint(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.extend_from_slice(&[number.to_le_bytes()[0] | 0x80]);
        number >>= 7;
    }
    bytes.extend_from_slice(&[number.to_le_bytes()[0]]);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, BadEntry> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(BadEntry)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(BadEntry);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadEntry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(value: Bytes) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"k"),
            value,
            create_revision: 3,
            mod_revision: 5,
            version: 1,
            lease: 0,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            flags in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
            lock_index in prop_oneof![Just(0), 1..1000_u64],
            session in proptest::option::of(any::<u128>().prop_map(Uuid::from_u128)),
            value in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let value = Bytes::from(value);
            let entry = Entry { flags, lock_index, session, value, create_index: 3, modify_index: 5 };
            prop_assert_eq!(Entry::decode(&stored(entry.encode())), Ok(entry));
        }

        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _outcome = Entry::decode(&stored(Bytes::from(bytes)));
        }
    }

    #[test]
    fn the_usual_entry_is_small() {
        let entry = Entry { value: Bytes::from_static(b"value"), ..Entry::default() };
        assert_eq!(entry.encode(), Bytes::from_static(b"\0value"));
    }
}
