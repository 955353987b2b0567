//! The time and the chance that objects need: creation times, uids, generated names.

use jiff::{SignedDuration, Timestamp};
use pontoon_model::object::timestamp;
use uuid::Uuid;

/// No vowels, so that no words come out; no digits that look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// The longest prefix that leaves room for the suffix in a label.
const PREFIX_MAX: usize = 58;

pub(crate) fn now() -> String {
    timestamp(Timestamp::now())
}

/// The time in so many seconds; now if that is beyond all times.
pub(crate) fn in_seconds(seconds: i64) -> String {
    let now = Timestamp::now();
    timestamp(now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now))
}

pub(crate) fn uid() -> String {
    Uuid::new_v4().to_string()
}

/// A number that nobody can guess.
pub(crate) fn random() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// A name that begins with the prefix and that is most likely not taken.
pub(crate) fn generate_name(prefix: &str) -> String {
    let end = (0..=prefix.len().min(PREFIX_MAX)).rev().find(|i| prefix.is_char_boundary(*i));
    let mut name = prefix[..end.unwrap_or(0)].to_owned();
    let mut number = random();
    for _ in 0..SUFFIX {
        let letter = number % ALPHABET.len() as u64;
        number /= ALPHABET.len() as u64;
        name.push(char::from(ALPHABET[usize::try_from(letter).unwrap_or(0)]));
    }
    name
}
