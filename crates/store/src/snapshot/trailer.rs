//! How a snapshot ends that came over etcd's API: filled up with zeros to whole sectors, and the SHA-256 of
//! all that, as etcd's clients expect it. And how the database file of etcd itself begins, which is no snapshot.

use std::io;

use sha2::{Digest, Sha256};

use crate::disk::File;

const SECTOR: u64 = 512;
const SUM_BYTES: usize = 32;

/// Bytes hashed at a time.
const PIECE: usize = 1 << 20;

/// bbolt's number in its first page, after the 16 bytes of the page's own header.
const BBOLT: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

/// What is wrong with what follows the snapshot in the first `content` of a file's `len` bytes, if anything is.
pub(super) fn check(file: &File, content: u64, len: u64) -> io::Result<Option<&'static str>> {
    let summed = content.next_multiple_of(SECTOR);
    let wanted = summed + SUM_BYTES as u64;
    if len < wanted {
        return Ok(Some("it is cut short: the SHA-256 at its end is not whole"));
    }
    if len > wanted {
        return Ok(Some("something follows its end"));
    }
    let mut sum = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < summed {
        let bytes = usize::try_from(summed - at).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut piece[..bytes], at)?;
        sum.update(&piece[..bytes]);
        at += bytes as u64;
    }
    let mut told = [0; SUM_BYTES];
    file.read_exact_at(&mut told, summed)?;
    let good = sum.finalize()[..] == told;
    Ok((!good).then_some("it does not match the SHA-256 at its end"))
}

/// Whether a file that begins so is a database of etcd's.
pub(super) fn is_bbolt(beginning: &[u8]) -> bool {
    beginning.get(16..20).is_some_and(|number| number == BBOLT)
}
