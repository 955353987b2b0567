//! One line of a log file: time, stream, whether the text ends here, text.

/// A line; the text without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub time: &'a [u8],
    pub complete: bool,
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` for what is no such line.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |&b| b == b' ');
        let (time, _stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let complete = match tag {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { time, complete, text: parts.next().unwrap_or_default() })
    }

    /// Whether it was written at `since` or later. A time that cannot be read counts as later.
    pub(super) fn is_since(&self, since: jiff::Timestamp) -> bool {
        let time =
            std::str::from_utf8(self.time).ok().and_then(|t| t.parse::<jiff::Timestamp>().ok());
        time.is_none_or(|time| time >= since)
    }

    /// Appends the text as it was written, behind its time if asked for.
    pub(super) fn write(&self, timestamps: bool, out: &mut Vec<u8>) {
        if timestamps {
            out.extend_from_slice(self.time);
            out.push(b' ');
        }
        out.extend_from_slice(self.text);
        if self.complete {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn lines_of_the_runtime() {
        let line = Line::parse(b"2026-11-23T05:30:08.123456789Z stdout F hello  you").unwrap();
        assert_eq!((line.text, line.complete), (&b"hello  you"[..], true));
        let mut out = Vec::new();
        line.write(true, &mut out);
        assert_eq!(out, b"2026-11-23T05:30:08.123456789Z hello  you\n");
        assert!(line.is_since("2026-11-23T05:30:08Z".parse().unwrap()));
        assert!(!line.is_since("2026-11-23T05:30:09Z".parse().unwrap()));
        let part = Line::parse(b"t stderr P x").unwrap();
        assert!(!part.complete);
        assert_eq!(Line::parse(b"t stdout F").map(|line| line.text), Some(&b""[..]));
        assert_eq!(Line::parse(b"nonsense"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let parsed = Line::parse(&bytes);
            assert!(parsed.is_none_or(|line| line.text.len() < bytes.len()));
        }
    }
}
