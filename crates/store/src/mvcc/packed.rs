//! How keys and values are kept: each in one piece of memory, for there are millions of them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::kv::{KeyValue, NUMBERS};

/// A key, shared by all that name it.
pub(super) type Key = Arc<[u8]>;

/// Bytes before the value.
const HEAD: usize = 32;
/// A value of so many bytes is told to others without a copy.
const SHARED: usize = 1024;

/// What is known of a version besides its key and value; see [`KeyValue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
    pub(super) lease: i64,
}

/// A version that has a value: its numbers, and the value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Packed(Arc<[u8]>);

impl Packed {
    pub(super) fn new(numbers: Numbers, value: &[u8]) -> Packed {
        let Numbers { create_revision, mod_revision, version, lease } = numbers;
        let mut bytes = Vec::with_capacity(HEAD + value.len());
        for number in [create_revision, mod_revision, version, lease.cast_unsigned()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(value);
        Packed(Arc::from(bytes))
    }

    fn number(&self, at: usize) -> u64 {
        let bytes = self.0[8 * at..].first_chunk::<8>().expect("there are four numbers");
        u64::from_le_bytes(*bytes)
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            create_revision: self.number(0),
            mod_revision: self.mod_revision(),
            version: self.number(2),
            lease: self.lease(),
        }
    }

    pub(super) fn mod_revision(&self) -> u64 {
        self.number(1)
    }

    pub(super) fn lease(&self) -> i64 {
        self.number(3).cast_signed()
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.0[HEAD..]
    }

    /// The value for others, without a copy where that is worth it.
    pub(super) fn shared_value(&self) -> Bytes {
        if self.value().len() < SHARED {
            return Bytes::copy_from_slice(self.value());
        }
        Bytes::from_owner(Arc::clone(&self.0)).slice(HEAD..)
    }

    /// The version as others are told of it.
    pub(super) fn key_value(&self, key: &[u8]) -> Arc<KeyValue> {
        self.told(key, self.shared_value())
    }

    /// As [`Packed::key_value`], without the value.
    pub(super) fn key_only(&self, key: &[u8]) -> Arc<KeyValue> {
        self.told(key, Bytes::new())
    }

    fn told(&self, key: &[u8], value: Bytes) -> Arc<KeyValue> {
        let Numbers { create_revision, mod_revision, version, lease } = self.numbers();
        let key = Bytes::copy_from_slice(key);
        Arc::new(KeyValue { key, value, create_revision, mod_revision, version, lease })
    }

    /// As [`KeyValue::weight`].
    pub(super) fn weight(&self, key: &[u8]) -> usize {
        key.len() + self.value().len() + NUMBERS
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packed").field(&self.numbers()).field(&self.value().len()).finish()
    }
}
