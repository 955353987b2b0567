//! How much an answer may hold.

use super::packed::Packed;

/// Bytes that the answer to one transaction may have, about: a key that is read a hundred times is answered a hundred times,
/// so a small transaction can ask for far more than there is.
pub const ANSWER_MAX: usize = 256 << 20;

/// What is left of the bytes that an answer may have.
pub(super) struct Room(Option<usize>);

impl Room {
    /// For the answer to a transaction.
    pub(super) fn for_answer() -> Room {
        Room(Some(ANSWER_MAX))
    }

    /// For what cannot have more than there is.
    pub(super) fn unlimited() -> Room {
        Room(Some(usize::MAX))
    }

    /// Takes a key into the answer, if there is room for it and was for all before.
    pub(super) fn take(&mut self, key: &[u8], packed: &Packed, keys_only: bool) -> bool {
        let value = if keys_only { packed.value().len() } else { 0 };
        self.0 = self.0.and_then(|left| left.checked_sub(packed.weight(key) - value));
        self.holds_all()
    }

    /// Whether there was room for all that was to be taken.
    pub(super) fn holds_all(&self) -> bool {
        self.0.is_some()
    }
}
