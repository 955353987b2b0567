//! A fixed hash (FNV-1a). The standard map's hasher is seeded by the system, which would make
//! equal inputs give unequal plans; everything here has to be a function of its arguments.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A 64-bit FNV-1a hasher with a final mix, the same on every machine and in every run.
#[derive(Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    // Integers are mixed whole: node indexes are hashed once per node and pod.
    fn write_usize(&mut self, value: usize) {
        self.0 = mix(self.0 ^ value as u64);
    }

    fn finish(&self) -> u64 {
        mix(self.0)
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash map whose hasher is [`Fnv`]. Its order is stable but says nothing: never decide by it.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;

/// The 64-bit hash of one value.
pub fn hash_of<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = Fnv::default();
    value.hash(&mut hasher);
    hasher.finish()
}
