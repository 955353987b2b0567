//! A streaming tar reader with bounds on everything an archive can make large. Headers are decoded by the `tar` crate; long
//! names and PAX records are read here, because the crate reads those into memory without a limit.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
const MAX_LONG_NAME: u64 = 64 * 1024;
const MAX_PAX: u64 = 1024 * 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

/// The head of an entry; a file's bytes follow by reading the `TarReader`.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads entries one by one; reading it gives the bytes of the current entry.
pub(crate) struct TarReader<R> {
    inner: R,
    data: u64,
    padding: u64,
    entries: u64,
    max_entries: u64,
    ended: bool,
}

#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R, max_entries: u64) -> Self {
        Self { inner, data: 0, padding: 0, entries: 0, max_entries, ended: false }
    }

    /// The next entry, or `None` at the end. What was not read of the current one is skipped.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = size_of(&header)?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension_data(size, MAX_PAX)?;
                    parse_pax(&records, &mut extension)?;
                }
                EntryType::XGlobalHeader => {
                    self.extension_data(size, MAX_PAX)?;
                }
                EntryType::GNULongName => {
                    extension.path = Some(until_nul(self.extension_data(size, MAX_LONG_NAME)?));
                }
                EntryType::GNULongLink => {
                    extension.link = Some(until_nul(self.extension_data(size, MAX_LONG_NAME)?));
                }
                _ => return self.entry(&header, extension).map(Some),
            }
        }
    }

    /// Whether the archive's end mark was seen, which tells a whole archive from one cut off between two entries.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads on to the end of the stream, so that whatever hashes it below has seen all of it.
    pub(crate) fn drain(mut self) -> io::Result<R> {
        io::copy(&mut self.inner, &mut io::sink())?;
        Ok(self.inner)
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        if !read_block(&mut self.inner, &mut block)? {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum();
        // What the header holds instead of a number is somebody's text, and no part of a message.
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(invalid("a header's checksum is wrong: no tar archive, or a damaged one"));
        }
        self.entries += 1;
        if self.entries > self.max_entries {
            return Err(invalid("too many entries"));
        }
        Ok(Some(header))
    }

    fn extension_data(&mut self, size: u64, limit: u64) -> io::Result<Vec<u8>> {
        if size > limit {
            return Err(invalid("an extended header is too large"));
        }
        self.begin_data(size);
        let mut out = Vec::new();
        self.read_to_end(&mut out)?;
        Ok(out)
    }

    fn begin_data(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.data + self.padding;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())?;
        // The last entry's padding may be missing at the very end of sloppy archives; its data may not.
        if skipped < self.data {
            return Err(cut_off());
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    fn entry(&mut self, header: &Header, extension: Extension) -> io::Result<Entry> {
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let device = || -> io::Result<(u32, u32)> {
            let major = blank_or(header, 329..337, None, Header::device_major)?.unwrap_or(0);
            let minor = blank_or(header, 337..345, None, Header::device_minor)?.unwrap_or(0);
            Ok((major, minor))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => device().map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
            EntryType::GNUSparse => return Err(invalid("sparse entries are not supported")),
            other => {
                return Err(invalid(&format!(
                    "entries of type {:#x} are not supported",
                    other.as_byte()
                )));
            }
        };
        // Only files have bytes, whatever size the header of another kind claims (as Go's reader does it).
        let size = if kind == Kind::File {
            extension.size.map_or_else(|| size_of(header), Ok)?
        } else {
            0
        };
        self.begin_data(size);
        let id = |value: u64| {
            u32::try_from(value).map_err(|_| invalid("an owner's number is too large"))
        };
        Ok(Entry {
            path,
            link: match extension.link {
                Some(link) => link,
                None => {
                    header.link_name_bytes().map_or_else(Vec::new, std::borrow::Cow::into_owned)
                }
            },
            kind,
            mode: blank_or(header, 100..108, 0, Header::mode)? & 0o7777,
            uid: extension
                .uid
                .map_or_else(|| blank_or(header, 108..116, 0, Header::uid).and_then(id), Ok)?,
            gid: extension
                .gid
                .map_or_else(|| blank_or(header, 116..124, 0, Header::gid).and_then(id), Ok)?,
            mtime: match extension.mtime {
                Some(time) => time,
                None => {
                    (i64::try_from(blank_or(header, 136..148, 0, Header::mtime)?).unwrap_or(0), 0)
                }
            },
            xattrs: extension.xattrs,
        })
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.data == 0 || buf.is_empty() {
            return Ok(0);
        }
        let want = buf.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buf[..want])?;
        if read == 0 {
            return Err(cut_off());
        }
        self.data -= read as u64;
        Ok(read)
    }
}

fn size_of(header: &Header) -> io::Result<u64> {
    blank_or(header, 124..136, 0, Header::entry_size)
}

/// A number that some programs leave blank.
fn blank_or<T>(
    header: &Header,
    field: std::ops::Range<usize>,
    blank: T,
    read: fn(&Header) -> io::Result<T>,
) -> io::Result<T> {
    if header.as_bytes()[field].iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(blank);
    }
    read(header)
}

/// False at a clean end of the stream.
fn read_block(reader: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match reader.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(cut_off()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// PAX records are `LENGTH KEY=VALUE\n`, the length counting the whole record.
fn parse_pax(mut records: &[u8], extension: &mut Extension) -> io::Result<()> {
    let malformed = || invalid("a PAX record is malformed");
    while !records.is_empty() {
        let space = records.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
        let length: usize = std::str::from_utf8(&records[..space])
            .ok()
            .and_then(|digits| digits.parse().ok())
            .filter(|length| *length > space + 1 && *length <= records.len())
            .ok_or_else(malformed)?;
        let record = records[space + 1..length].strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
        apply_pax(&record[..equals], &record[equals + 1..], extension)?;
        records = &records[length..];
    }
    Ok(())
}

fn apply_pax(key: &[u8], value: &[u8], extension: &mut Extension) -> io::Result<()> {
    fn number<T: std::str::FromStr>(value: &[u8]) -> io::Result<T> {
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| invalid("a PAX record holds no number where one must be"))
    }
    match key {
        b"path" => extension.path = Some(value.to_vec()),
        b"linkpath" => extension.link = Some(value.to_vec()),
        b"size" => extension.size = Some(number(value)?),
        b"uid" => extension.uid = Some(number(value)?),
        b"gid" => extension.gid = Some(number(value)?),
        b"mtime" => extension.mtime = Some(parse_time(value)?),
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err(invalid("sparse entries are not supported"));
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                extension.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// `[-]SECONDS[.FRACTION]`.
fn parse_time(value: &[u8]) -> io::Result<(i64, u32)> {
    let malformed = || invalid("a PAX time is malformed");
    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = whole.parse::<i64>().map_err(|_| malformed())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos = digits.parse::<u32>().map_err(|_| malformed())?;
    // Before 1970 a fraction counts downwards; rounding to the second below is near enough.
    Ok(if whole.starts_with('-') && nanos > 0 {
        (seconds.saturating_sub(1), 0)
    } else {
        (seconds, nanos)
    })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o640);
        let long = "d/".repeat(90) + "name";
        builder.append_data(&mut header, &long, &b"hello"[..]).unwrap();
        builder
            .append_pax_extensions([("SCHILY.xattr.user.k", &b"v"[..]), ("mtime", b"7.25")])
            .unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        builder.append_data(&mut header, "empty", io::empty()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn long_names_and_pax_records_are_read() {
        let bytes = archive();
        let mut reader = TarReader::new(&bytes[..], 100);
        let first = reader.next_entry().unwrap().unwrap();
        assert!(first.path.ends_with(b"d/name") && first.path.len() == 184);
        let mut data = String::new();
        reader.read_to_string(&mut data).unwrap();
        assert_eq!((data.as_str(), first.mode), ("hello", 0o640));
        let second = reader.next_entry().unwrap().unwrap();
        assert_eq!(second.path, b"empty");
        assert_eq!(second.xattrs, vec![(b"user.k".to_vec(), b"v".to_vec())]);
        assert_eq!(second.mtime, (7, 250_000_000));
        assert!(reader.next_entry().unwrap().is_none());
        assert!(reader.ended());
    }

    #[test]
    fn a_cut_anywhere_is_an_error_or_lacks_the_end_mark() {
        let bytes = archive();
        let content_end = bytes.len() - 1024;
        for cut in 0..content_end {
            let mut reader = TarReader::new(&bytes[..cut], 100);
            let all = (|| -> io::Result<()> {
                while reader.next_entry()?.is_some() {}
                Ok(())
            })();
            assert!(all.is_err() || !reader.ended(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_header_bit_is_noticed() {
        let mut bytes = archive();
        bytes[3] ^= 0x10;
        assert!(TarReader::new(&bytes[..], 100).next_entry().is_err());
    }

    #[test]
    fn huge_extended_headers_and_too_many_entries_are_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = TarReader::new(&header.as_bytes()[..], 100).next_entry().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let bytes = archive();
        let mut reader = TarReader::new(&bytes[..], 1);
        assert!(reader.next_entry().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), fix in proptest::bool::ANY) {
            if fix && bytes.len() >= BLOCK {
                let mut header = Header::from_byte_slice(&bytes[..BLOCK]).clone();
                header.set_cksum();
                bytes[..BLOCK].copy_from_slice(header.as_bytes());
            }
            let mut reader = TarReader::new(&bytes[..], 100);
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }
}
