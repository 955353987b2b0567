//! Join tokens: `PNTN-1-<digest of the CA certificate>-<secret>`. The digest lets a joining node check
//! whom it talks to before it says anything secret; the secret tells which role it may have.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Length of the digest part: 256 bits in base 36.
const DIGEST_LEN: usize = 50;
/// Length of the secret part: 128 bits in base 36.
const SECRET_LEN: usize = 25;

/// A join token in its parts.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    digest: String,
    secret: String,
}

/// Why a text is no join token; each says what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error(
        "not a join token: it must begin with PNTN-1-; print one on a manager with `pontoon join-token worker`"
    )]
    Prefix,
    #[error(
        "the join token is cut off or has been changed ({part} has {got} characters of {want}); copy the whole line that `pontoon join-token` prints"
    )]
    Length { part: &'static str, got: usize, want: usize },
    #[error(
        "the join token has characters that no token has; copy it again from `pontoon join-token`"
    )]
    Alphabet,
}

impl JoinToken {
    /// A new token for the authority whose certificate (DER) is given, from 16 random bytes.
    #[must_use]
    pub fn new(ca_der: &[u8], secret: [u8; 16]) -> Self {
        Self { digest: ca_digest(ca_der), secret: base36(&secret, SECRET_LEN) }
    }

    /// Whether `ca_der` is the authority this token was made for.
    #[must_use]
    pub fn matches_authority(&self, ca_der: &[u8]) -> bool {
        self.digest == ca_digest(ca_der)
    }

    /// Whether both are the same token, in time that does not depend on where they differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let (a, b) = (self.to_string(), other.to_string());
        a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PNTN-1-{}-{}", self.digest, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PNTN-1-{}-…", self.digest)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix("PNTN-1-").ok_or(TokenError::Prefix)?;
        let (digest, secret) = rest.split_once('-').unwrap_or((rest, ""));
        for (part, value, want) in
            [("its first part", digest, DIGEST_LEN), ("its secret", secret, SECRET_LEN)]
        {
            if value.len() != want {
                return Err(TokenError::Length { part, got: value.len(), want });
            }
            if !value.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
                return Err(TokenError::Alphabet);
            }
        }
        Ok(Self { digest: digest.to_owned(), secret: secret.to_owned() })
    }
}

impl serde::Serialize for JoinToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for JoinToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn ca_digest(ca_der: &[u8]) -> String {
    base36(&Sha256::digest(ca_der), DIGEST_LEN)
}

/// Big-endian bytes in base 36, padded with zeros on the left to `width`.
fn base36(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(width);
    while digits.len() < width {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).expect("a digit of a quotient is below 256");
            rest = value % 36;
        }
        digits.push(char::from_digit(rest, 36).expect("a remainder of 36 is a digit"));
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_knows_its_authority() {
        let token = JoinToken::new(b"ca", [7; 16]);
        let again: JoinToken = token.to_string().parse().unwrap();
        assert!(again.same_as(&token));
        assert!(again.matches_authority(b"ca"));
        assert!(!again.matches_authority(b"another ca"));
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_refused_with_the_reason() {
        let token = JoinToken::new(b"ca", [255; 16]).to_string();
        for end in 0..token.len() {
            assert!(token[..end].parse::<JoinToken>().is_err(), "{end} characters were taken");
        }
        assert_eq!("SWMTKN-1-a-b".parse::<JoinToken>(), Err(TokenError::Prefix));
        assert_eq!(token.to_uppercase().parse::<JoinToken>(), Err(TokenError::Alphabet));
    }

    #[test]
    fn base36_is_positional_and_padded() {
        assert_eq!(base36(&[0], 3), "000");
        assert_eq!(base36(&[35], 2), "0z");
        assert_eq!(base36(&[1, 0], 3), "074");
    }
}
