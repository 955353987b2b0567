//! Sealing: every datagram and every frame is `version, nonce, ciphertext and tag` by ChaCha20-Poly1305 under the cluster's
//! gossip key. What does not open is dropped without an answer.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::{Arc, PoisonError, RwLock};

/// The largest datagram sent or opened, in bytes.
pub(crate) const MAX_DATAGRAM: usize = 1400;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = 1 + NONCE_LEN + 16;

const VERSION: u8 = 1;

/// Where a sealed message belongs: one sealed for the one is not opened for the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Datagram = 0,
    Frame = 1,
}

/// The cluster's gossip keys: the first seals, all of them open.
pub(crate) struct Seal {
    keys: RwLock<Arc<[LessSafeKey]>>,
    random: SystemRandom,
}

fn keys(keys: &[[u8; 32]]) -> Arc<[LessSafeKey]> {
    let key = |key: &[u8; 32]| {
        UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's 32 bytes")
    };
    keys.iter().map(|bytes| LessSafeKey::new(key(bytes))).collect()
}

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { keys: RwLock::new(keys(&[*key])), random: SystemRandom::new() }
    }

    /// Goes on with other keys, at least one.
    pub(crate) fn replace(&self, new: &[[u8; 32]]) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys(new);
    }

    fn keys(&self) -> Arc<[LessSafeKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` if the kernel has no randomness to give.
    pub(crate) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let aad = Aad::from([VERSION, purpose as u8]);
        let body = &mut out[1 + NONCE_LEN..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let keys = self.keys();
        let tag = keys.first()?.seal_in_place_separate_tag(nonce, aad, body).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    /// The plain bytes, opened in place; `None` if this was not sealed with a key of ours for this purpose.
    pub(crate) fn open<'a>(&self, purpose: Purpose, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, body) = sealed.split_at_mut_checked(1 + NONCE_LEN)?;
        let (version, nonce) = head.split_first()?;
        if *version != VERSION {
            return None;
        }
        let nonce = <[u8; NONCE_LEN]>::try_from(nonce).ok()?;
        let open = |key: &LessSafeKey, body: &mut [u8]| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let aad = Aad::from([VERSION, purpose as u8]);
            key.open_in_place(nonce, aad, body).ok().map(|plain| plain.len())
        };
        let keys = self.keys();
        let (last, others) = keys.split_last()?;
        // A key that does not fit leaves nothing to be read: all but the last try on a copy. There is more than one
        // only while the key changes.
        for key in others {
            let mut copy = body.to_vec();
            if let Some(length) = open(key, &mut copy) {
                body.copy_from_slice(&copy);
                return body.get(..length);
            }
        }
        let length = open(last, body)?;
        body.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_with_the_key_for_the_purpose_opens() {
        let seal = Seal::new(&[7; 32]);
        let sealed = seal.seal(Purpose::Datagram, b"hello").unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        let open = |seal: &Seal, purpose, mut bytes: Vec<u8>| {
            seal.open(purpose, &mut bytes).map(<[u8]>::to_vec)
        };
        assert_eq!(open(&seal, Purpose::Datagram, sealed.clone()).unwrap(), b"hello");
        assert!(open(&seal, Purpose::Frame, sealed.clone()).is_none());
        assert!(open(&Seal::new(&[8; 32]), Purpose::Datagram, sealed.clone()).is_none());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open(&seal, Purpose::Datagram, flipped).is_none(), "bit flipped at {at}");
            assert!(open(&seal, Purpose::Datagram, sealed[..at].to_vec()).is_none(), "cut at {at}");
        }
        assert_ne!(sealed, seal.seal(Purpose::Datagram, b"hello").unwrap(), "nonces differ");
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let (old, new) = ([7; 32], [8; 32]);
        let (behind, ahead) = (Seal::new(&old), Seal::new(&new));
        let opens = |by: &Seal, from: &Seal| {
            let mut sealed = from.seal(Purpose::Frame, b"hello").unwrap();
            by.open(Purpose::Frame, &mut sealed).is_some_and(|plain| plain == b"hello")
        };
        assert!(!opens(&behind, &ahead) && !opens(&ahead, &behind));
        behind.replace(&[old, new, [9; 32]]);
        assert!(opens(&behind, &ahead) && !opens(&ahead, &behind));
        ahead.replace(&[new, old]);
        assert!(opens(&behind, &ahead) && opens(&ahead, &behind));
        ahead.replace(&[new]);
        assert!(!opens(&ahead, &behind), "the old key is worth nothing");
    }
}
