//! An answer in bytes, and as much of it as the client takes.
//!
//! Instances that do not fit are left out without a mark, as by Consul unless it is told otherwise: they come in another
//! order each time, and any of them will do. Whatever else does not fit has the client ask again by TCP.

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use pontoon_traffic::dns::Transport;
use pontoon_traffic::dns::request::{LEAST_UDP_BYTES, udp_limit};

/// The largest answer by UDP, in bytes, for a client that takes so much.
const MOST_UDP_BYTES: u16 = 4096;
/// How many instances a client is told that takes no more than 512 bytes by UDP: Consul's default.
const FEW: usize = 3;
/// A record whose owner is the question's name, and which has an IPv4 address.
const SMALLEST_RECORD_BYTES: usize = 16;

/// Where a message has the mark that it was cut.
const FLAGS_AT: usize = 2;
const TRUNCATED: u8 = 0b10;

/// How much a client takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    bytes: usize,
    /// It takes only a few instances.
    is_small: bool,
}

/// An answer that may be cut.
#[derive(Debug)]
pub(super) struct Draft {
    /// All but the answers that can be left out.
    pub(super) reply: Message,
    pub(super) parts: Vec<Part>,
    /// They are instances of which any will do.
    pub(super) are_alike: bool,
}

/// An answer with the additional records that belong to it: they are left out together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) answer: Record,
    pub(super) additional: Vec<Record>,
}

impl Room {
    pub(super) fn of(request: &Message, transport: Transport) -> Room {
        match transport {
            Transport::Udp => {
                let bytes = udp_limit(request, MOST_UDP_BYTES);
                Room { bytes, is_small: bytes <= usize::from(LEAST_UDP_BYTES) }
            }
            Transport::Tcp => Room { bytes: usize::from(u16::MAX), is_small: false },
        }
    }

    /// More parts than this are of no use.
    pub(super) fn most(&self, are_alike: bool) -> usize {
        if self.is_small && are_alike { FEW } else { self.bytes / SMALLEST_RECORD_BYTES }
    }
}

/// The answer in bytes; none if not even an empty one fits.
pub(super) fn encode(mut draft: Draft, room: &Room) -> Option<Vec<u8>> {
    let there = draft.parts.len();
    draft.parts.truncate(room.most(draft.are_alike));
    let whole = draft.with(draft.parts.len(), true).to_vec().ok()?;
    let (told, mut bytes) = match whole.len() <= room.bytes {
        true => (draft.parts.len(), whole),
        false => draft.cut(room)?,
    };
    if told < there && !(draft.are_alike && told > 0) {
        *bytes.get_mut(FLAGS_AT)? |= TRUNCATED;
    }
    (bytes.len() <= room.bytes).then_some(bytes)
}

impl Draft {
    /// The longest answer that fits, and how many parts it has.
    fn cut(&self, room: &Room) -> Option<(usize, Vec<u8>)> {
        let (mut least, mut most) = (0, self.parts.len());
        let mut best = None;
        while least < most {
            let middle = (least + most).div_ceil(2);
            let bytes = self.with(middle, true).to_vec().ok()?;
            if bytes.len() <= room.bytes {
                (least, best) = (middle, Some((middle, bytes)));
            } else {
                most = middle - 1;
            }
        }
        if best.is_some() {
            return best;
        }
        // What nobody asked for goes before what he asked for.
        let one = self.with(1, false).to_vec().ok()?;
        if one.len() <= room.bytes && !self.parts.is_empty() {
            return Some((1, one));
        }
        Some((0, self.with(0, false).to_vec().ok()?))
    }

    fn with(&self, count: usize, additional: bool) -> Message {
        let mut reply = self.reply.clone();
        for part in self.parts.iter().take(count) {
            reply.add_answer(part.answer.clone());
            if additional {
                reply.add_additionals(part.additional.iter().cloned());
            }
        }
        reply
    }
}
