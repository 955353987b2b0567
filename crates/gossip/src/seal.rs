//! Sealing: every datagram and every frame is `version, nonce, ciphertext and tag` by ChaCha20-Poly1305 under the cluster's
//! gossip key. What does not open is dropped without an answer.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

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

/// The cluster's gossip key.
pub(crate) struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's 32 bytes");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
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
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, body).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    /// The plain bytes, opened in place; `None` if this was not sealed with our key for this purpose.
    pub(crate) fn open<'a>(&self, purpose: Purpose, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, body) = sealed.split_at_mut_checked(1 + NONCE_LEN)?;
        let (version, nonce) = head.split_first()?;
        if *version != VERSION {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from([VERSION, purpose as u8]);
        self.key.open_in_place(nonce, aad, body).ok().map(|plain| &*plain)
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
}
