//! One record: a header that checks itself and a payload that the header checks.
//!
//! A header names the offset at which its group began: the group is what one `fdatasync` covered.
//! So a good record whose group began after a bad one proves that the bad one had been on disk.

use bytes::Bytes;

/// Bytes of a header.
pub(super) const HEADER: usize = 36;

/// The largest payload; a longer length in a header is damage.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry without content.
    Blank,
    /// An entry with commands.
    Commands,
    /// An entry that changes the members.
    Members,
    /// No entry: says that entries up to its index are committed.
    Committed,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Blank, Kind::Commands, Kind::Members, Kind::Committed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record as it goes into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// A header as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) index: u64,
    pub(super) term: u64,
    /// Where in the file the group of this record began.
    pub(super) group: u32,
    pub(super) kind: Kind,
}

impl Record {
    /// Bytes of the record in a file.
    pub(super) fn size(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// Appends the record to `out`. `salt` is the segment's number, so that a record found in the
    /// wrong file does not pass.
    pub(super) fn encode(&self, group: u32, salt: u64, out: &mut Vec<u8>) {
        let len = u32::try_from(self.payload.len()).expect("payloads are far below 4 GiB");
        let mut header = [0; HEADER];
        header[0..4].copy_from_slice(&len.to_le_bytes());
        header[4..8].copy_from_slice(&crc32fast::hash(&self.payload).to_le_bytes());
        header[8..16].copy_from_slice(&self.index.to_le_bytes());
        header[16..24].copy_from_slice(&self.term.to_le_bytes());
        header[24..28].copy_from_slice(&group.to_le_bytes());
        header[28] = self.kind as u8;
        let crc = header_crc(&header, salt);
        header[32..36].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.payload);
    }
}

impl Header {
    /// Reads a header; `None` if it is not one.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Header> {
        let header: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if header_crc(header, salt) != u32_at(header, 32) {
            return None;
        }
        let len = u32_at(header, 0);
        if len as usize > MAX_PAYLOAD {
            return None;
        }
        Some(Header {
            len,
            crc: u32_at(header, 4),
            index: u64_at(header, 8),
            term: u64_at(header, 16),
            group: u32_at(header, 24),
            kind: Kind::from_byte(header[28])?,
        })
    }

    /// Bytes of the record in a file.
    pub(super) fn size(&self) -> usize {
        HEADER + self.len as usize
    }
}

fn header_crc(header: &[u8; HEADER], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&header[..32]);
    hasher.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}
