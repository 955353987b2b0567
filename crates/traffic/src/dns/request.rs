//! What a packet is before anybody looks at the name in it: a question, something to refuse, or nothing to answer.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;

/// What passes unfragmented nearly everywhere, in bytes: as much is taken by UDP, and sent unless a server says more.
pub const UNFRAGMENTED_BYTES: u16 = 1232;
/// What every client takes by UDP without saying so, in bytes.
pub const LEAST_UDP_BYTES: u16 = 512;

/// Why a packet gets no answer to a question.
#[derive(Debug)]
pub enum Unanswerable {
    /// It was itself an answer, or is too short to tell: whoever answered could be made to talk to himself.
    Ignore,
    /// This is to be sent back.
    Refuse(Box<Message>),
}

/// A packet as a request that [`question`] can be asked for.
pub fn receive(packet: &[u8]) -> Result<Message, Unanswerable> {
    Message::from_vec(packet).map_err(|_| malformed(packet))
}

/// The only question of a request.
pub fn question(request: &Message) -> Result<&Query, Unanswerable> {
    if request.metadata.message_type == MessageType::Response {
        return Err(Unanswerable::Ignore);
    }
    let refuse = |code| Err(Unanswerable::Refuse(Box::new(with_code(reply_to(request), code))));
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [query] = request.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    Ok(query)
}

/// An empty reply to a request, with its first question.
pub fn reply_to(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.add_queries(request.queries.iter().take(1).cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UNFRAGMENTED_BYTES);
        reply.set_edns(edns);
    }
    reply
}

/// The reply with a code.
pub fn with_code(mut reply: Message, code: ResponseCode) -> Message {
    reply.metadata.response_code = code;
    reply
}

/// How much the client takes by UDP: 512 bytes, or what it says up to `most`.
pub fn udp_limit(request: &Message, most: u16) -> usize {
    let asked = request.edns.as_ref().map_or(LEAST_UDP_BYTES, Edns::max_payload);
    usize::from(asked.clamp(LEAST_UDP_BYTES, most))
}

/// A format error for a packet whose header at least can be read and is a question's.
fn malformed(packet: &[u8]) -> Unanswerable {
    let Some(header) = packet.first_chunk::<12>() else { return Unanswerable::Ignore };
    let is_response = header[2] & 0x80 != 0;
    let id = u16::from_be_bytes([header[0], header[1]]);
    match is_response {
        true => Unanswerable::Ignore,
        false => Unanswerable::Refuse(Box::new(Message::error_msg(
            id,
            OpCode::Query,
            ResponseCode::FormErr,
        ))),
    }
}
