//! Writing a netlink message: header, the family's own header, attributes, nested ones by closure.

use std::net::Ipv4Addr;

/// Bytes of `nlmsghdr`: length, type, flags, sequence, port.
pub(crate) const HEADER: usize = 16;
/// Marks an attribute whose value is attributes.
const NESTED: u16 = 0x8000;

/// One request being written, with the words that an error about it will use ("add the route …").
#[derive(Debug, Clone)]
pub(crate) struct Message {
    what: String,
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this type; `header` is what follows `nlmsghdr` (`ifinfomsg`, `nfgenmsg`, …).
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8], what: impl Into<String>) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut message = Self { what: what.into(), bytes };
        message.raw(header);
        message
    }

    /// What the request is about, for errors.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Bytes without an attribute's header, padded.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad()
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest_as(kind, |message| {
            message.bytes.extend_from_slice(value);
        })
    }

    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// In the machine's byte order, as rtnetlink wants numbers.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as nfnetlink wants numbers.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// In network byte order.
    pub(crate) fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub(crate) fn put_ipv4(&mut self, kind: u16, value: Ipv4Addr) -> &mut Self {
        self.put(kind, &value.octets())
    }

    /// A string with its closing NUL.
    pub(crate) fn put_text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.nest_as(kind, |message| {
            message.bytes.extend_from_slice(value.as_bytes());
            message.bytes.push(0);
        })
    }

    /// An attribute whose value `write` writes as attributes.
    pub(crate) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_as(kind | NESTED, write)
    }

    fn nest_as(&mut self, kind: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        write(self);
        let length = u16::try_from(self.bytes.len() - start)
            .expect("names are bounded and element lists are cut well below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad()
    }

    fn pad(&mut self) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Asks for an acknowledgement even of success.
    pub(crate) fn acknowledged(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | libc::NLM_F_ACK as u16;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Fills in the length and the sequence number.
    pub(crate) fn number(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).expect("attributes bound it far below 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// What is sent; numbered, or the kernel's answer cannot be told from others.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn bytes_are_what_the_kernel_reads() {
        let mut message = Message::new(16, 0x600, &[7, 0, 0, 0], "test");
        message.put_text(3, "br0").nest(18, |m| {
            m.put_u32(1, 5).put_u8(2, 9);
        });
        message.acknowledged();
        let expected: &[u8] = &[
            48, 0, 0, 0, 16, 0, 5, 6, 77, 0, 0, 0, 0, 0, 0, 0, // header
            7, 0, 0, 0, // the family's
            8, 0, 3, 0, b'b', b'r', b'0', 0, // text
            20, 0, 18, 0x80, 8, 0, 1, 0, 5, 0, 0, 0, 5, 0, 2, 0, 9, 0, 0, 0, // nested
        ];
        message.number(77);
        assert_eq!(message.bytes(), expected);
    }
}
