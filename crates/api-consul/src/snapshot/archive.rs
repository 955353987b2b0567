//! Consul's archive: a gzipped tar of `meta.json`, `state.bin`, and the sums of both.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::STATE_MAX;

/// The most that is unpacked of an archive: the state, the small files, and the frames of tar.
const UNPACKED_MAX: u64 = 2 * STATE_MAX as u64 + SMALL_MAX + (64 << 10);
/// The largest `meta.json`, and the largest file of sums.
const SMALL_MAX: u64 = 64 << 10;
/// An empty list in msgpack, as Consul writes the peers of old.
const NO_PEERS: &[u8] = &[0x90];

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("failed to decompress snapshot: {0}")]
    Damaged(#[from] io::Error),
    #[error(
        "failed to read snapshot file: {0:?} is missing in it, or is larger than {STATE_MAX} bytes"
    )]
    Missing(&'static str),
    #[error("failed to read snapshot file: {0:?} has no business in it")]
    Unknown(String),
    #[error("failed checking integrity of snapshot: the sum of {0:?} is another one")]
    Sum(&'static str),
}

/// An archive of a state as of an index.
pub(super) fn write(term: u64, index: u64, state: &[u8]) -> Result<Vec<u8>, io::Error> {
    let now = Timestamp::now();
    let meta = json!({
        "Version": 1,
        "ID": format!("{term}-{index}-{}", now.as_millisecond()),
        "Index": index,
        "Term": term,
        "Peers": STANDARD.encode(NO_PEERS),
        "Configuration": { "Servers": Value::Array(Vec::new()) },
        "ConfigurationIndex": 0,
        "Size": state.len(),
    });
    let meta = format!("{meta}\n").into_bytes();
    let sums = format!("{}  meta.json\n{}  state.bin\n", sum(&meta), sum(state));
    let mut tar = Vec::with_capacity(state.len() + 4096);
    for (name, bytes) in
        [("meta.json", &meta[..]), ("state.bin", state), ("SHA256SUMS", sums.as_bytes())]
    {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    // Two empty blocks end it, and no more: Consul refuses what comes after them.
    tar.resize(tar.len() + 1024, 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&tar)?;
    gzip.finish()
}

/// The state in an archive, whose sums are right.
pub(super) fn read(archive: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let unpacked = GzDecoder::new(archive).take(UNPACKED_MAX);
    let mut tar = tar::Archive::new(unpacked);
    let [mut meta, mut state, mut sums] = [None, None, None];
    for entry in tar.entries()? {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (slot, max) = match path.as_str() {
            "meta.json" => (&mut meta, SMALL_MAX),
            "state.bin" => (&mut state, 2 * STATE_MAX as u64),
            "SHA256SUMS" => (&mut sums, SMALL_MAX),
            _ => return Err(ArchiveError::Unknown(path)),
        };
        if entry.size() <= max && slot.is_none() {
            let mut bytes = Vec::new();
            entry.take(max).read_to_end(&mut bytes)?;
            *slot = Some(bytes);
        }
    }
    let meta = meta.ok_or(ArchiveError::Missing("meta.json"))?;
    let state = state.ok_or(ArchiveError::Missing("state.bin"))?;
    let sums = sums.ok_or(ArchiveError::Missing("SHA256SUMS"))?;
    let sums = String::from_utf8_lossy(&sums);
    for (name, bytes) in [("meta.json", &meta), ("state.bin", &state)] {
        let line = format!("{}  {name}", sum(bytes));
        if !sums.lines().any(|there| there == line) {
            return Err(ArchiveError::Sum(name));
        }
    }
    Ok(state)
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let archive = write(3, 7, b"the state").unwrap();
        assert_eq!(read(&archive).unwrap(), b"the state");
        for at in 0..archive.len() {
            // What is missing may be only the sum of what is packed.
            if let Ok(state) = read(&archive[..at]) {
                assert_eq!(state, b"the state", "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert!(matches!(read(b""), Err(ArchiveError::Damaged(_) | ArchiveError::Missing(_))));
        assert!(matches!(read(b"xyz"), Err(ArchiveError::Damaged(_))));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            gzip.write_all(&[b'x'; 1 << 20]).unwrap();
        }
        assert!(read(&gzip.finish().unwrap()).is_err(), "what unpacks to much is not unpacked");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_changes_no_state(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut archive = write(3, 7, b"the state").unwrap();
            let at = at.index(archive.len());
            archive[at] ^= 1 << bit;
            if let Ok(state) = read(&archive) {
                prop_assert_eq!(state, b"the state");
            }
        }
    }
}
