//! Protobuf's wire format: numbered fields, one after another.

/// Why bytes are no message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BadWire {
    #[error("it does not begin as Kubernetes' protobuf does")]
    NoMagic,
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a number is longer than 64 bits")]
    LongNumber,
    #[error("a field has a type that its kind does not have there")]
    WrongType,
    #[error("a text is not UTF-8")]
    NotText,
    #[error("it is nested too deep")]
    TooDeep,
    #[error("it is compressed or encoded")]
    Encoded,
    #[error("it has a message that is not known here")]
    UnknownMessage,
}

/// The content of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part<'b> {
    Varint(u64),
    /// Eight bytes, or four in the low half.
    Fixed(u64),
    Bytes(&'b [u8]),
}

impl<'b> Part<'b> {
    pub(super) fn bytes(self) -> Result<&'b [u8], BadWire> {
        if let Part::Bytes(bytes) = self { Ok(bytes) } else { Err(BadWire::WrongType) }
    }

    pub(super) fn varint(self) -> Result<u64, BadWire> {
        if let Part::Varint(number) = self { Ok(number) } else { Err(BadWire::WrongType) }
    }

    pub(super) fn fixed(self) -> Result<u64, BadWire> {
        if let Part::Fixed(bits) = self { Ok(bits) } else { Err(BadWire::WrongType) }
    }
}

/// The fields of a message, in the order in which they were written. Ends after the first error.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Fields<'b> {
        Fields { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, BadWire> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(BadWire::Truncated)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BadWire::LongNumber)
    }

    fn take(&mut self, count: u64) -> Result<&'b [u8], BadWire> {
        let count = usize::try_from(count).map_err(|_| BadWire::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BadWire::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Part<'b>), BadWire> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| BadWire::LongNumber)?;
        let part = match tag & 7 {
            0 => Part::Varint(self.varint()?),
            1 => Part::Fixed(little_endian(self.take(8)?)),
            2 => {
                let length = self.varint()?;
                Part::Bytes(self.take(length)?)
            }
            5 => Part::Fixed(little_endian(self.take(4)?)),
            _ => return Err(BadWire::WrongType),
        };
        Ok((number, part))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Part<'b>), BadWire>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, BadWire> {
    std::str::from_utf8(bytes).map_err(|_| BadWire::NotText)
}
