//! Reading netlink attributes: a type, a length, a value, padded to four bytes.

use std::net::Ipv4Addr;

/// The two top bits of an attribute's type are flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// One attribute of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// The attributes in `bytes`, up to the first that does not fit.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

/// A number in the machine's byte order (rtnetlink); 0 where the value is too short.
pub(crate) fn ne_u32(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A number in network byte order; 0 where the value is too short.
pub(crate) fn be_u16(value: &[u8]) -> u16 {
    value.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// A number in network byte order; 0 where the value is too short.
pub(crate) fn be_u64(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// An address; none where the value is too short.
pub(crate) fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

/// A string, with or without its closing NUL.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Attribute, attributes, text};
    use proptest::prelude::{any, proptest};

    #[test]
    fn reads_padded_values_and_masks_flags() {
        let bytes = [6, 0, 3, 0, b'l', 0, 0, 0, 8, 0, 4, 0x80, 1, 2, 3, 4];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(
            found,
            [Attribute { kind: 3, value: &[b'l', 0] }, Attribute { kind: 4, value: &[1, 2, 3, 4] }]
        );
        assert_eq!(text(found[0].value), "l");
    }

    #[test]
    fn a_length_that_lies_ends_the_list() {
        assert_eq!(attributes(&[200, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[4, 0, 1, 0]).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, _seed in any::<u8>()) {
            let total: usize = attributes(&bytes).map(|a| a.value.len()).sum();
            assert!(total <= bytes.len());
        }
    }
}
