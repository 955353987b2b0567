//! How much an answer may hold.

use super::packed::Packed;

/// Bytes that the answer to one transaction may have, about, with those that were put into the log together with it: a key that is read a hundred times is answered a hundred times,
/// so a small transaction can ask for far more than there is.
pub const ANSWER_MAX: usize = 256 << 20;

/// What is left of the bytes that answers may have: those to all transactions of an entry of the log together, since
/// they are kept until all of it is applied.
#[derive(Debug)]
pub(crate) struct Room {
    left: usize,
    /// What was left before the present answer.
    before: usize,
    /// All that the present answer was to have was there.
    holds_all: bool,
}

impl Default for Room {
    fn default() -> Room {
        Room::of(ANSWER_MAX)
    }
}

impl Room {
    fn of(bytes: usize) -> Room {
        Room { left: bytes, before: bytes, holds_all: true }
    }

    /// For what cannot have more than there is.
    pub(super) fn unlimited() -> Room {
        Room::of(usize::MAX)
    }

    /// Ends an answer; true if it had room for all. One that had not is given up, and leaves its room to the next.
    pub(super) fn end(&mut self) -> bool {
        let holds_all = std::mem::replace(&mut self.holds_all, true);
        if !holds_all {
            self.left = self.before;
        }
        self.before = self.left;
        holds_all
    }

    /// Takes a key into the answer, if there is room for it and was for all before.
    pub(super) fn take(&mut self, key: &[u8], packed: &Packed, keys_only: bool) -> bool {
        let value = if keys_only { packed.value().len() } else { 0 };
        match self.left.checked_sub(packed.weight(key) - value) {
            Some(left) if self.holds_all => self.left = left,
            _ => self.holds_all = false,
        }
        self.holds_all
    }
}
