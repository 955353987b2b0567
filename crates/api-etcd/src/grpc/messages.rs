//! The messages of a request.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Call, MESSAGE_MAX, PREFIX};
use crate::status::{Code, Status};

/// The messages of a call that sends many.
pub(crate) struct Messages {
    body: Incoming,
    /// Received and not taken yet; at most one message and what came with its end.
    pending: BytesMut,
}

impl Messages {
    pub(crate) fn of(call: Call) -> Messages {
        Messages { body: call.into_body(), pending: BytesMut::new() }
    }

    /// The next message; `None` when the client has said all. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(length) = length(&self.pending)?
                && self.pending.len() >= PREFIX + length
            {
                self.pending.advance(PREFIX);
                return Ok(Some(self.pending.split_to(length).freeze()));
            }
            match data(&mut self.body).await? {
                Some(data) => self.pending.extend_from_slice(&data),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(cut_off()),
            }
        }
    }
}

/// The message of a call that sends one.
pub(super) async fn only(call: Call) -> Result<Bytes, Status> {
    let mut body = call.into_body();
    // Most requests are one frame, which is then the message without a copy.
    let first = data(&mut body).await?.unwrap_or_default();
    let mut joined = None;
    while let Some(more) = data(&mut body).await? {
        if more.is_empty() {
            continue;
        }
        let joined = joined.get_or_insert_with(|| BytesMut::from(&first[..]));
        joined.extend_from_slice(&more);
        // One that is too large is refused for the length that it announces, before all of it is there.
        length(joined)?;
        if joined.len() > PREFIX + MESSAGE_MAX {
            return Err(too_large(joined.len()));
        }
    }
    let whole = joined.map_or(first, BytesMut::freeze);
    match length(&whole)? {
        Some(length) if whole.len() == PREFIX + length => Ok(whole.slice(PREFIX..)),
        Some(length) if whole.len() > PREFIX + length => {
            Err(Status::new(Code::Internal, "grpc: a call of one message has more than one"))
        }
        _ => Err(cut_off()),
    }
}

/// The next piece of the body.
async fn data(body: &mut Incoming) -> Result<Option<Bytes>, Status> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Status::new(Code::Unavailable, format!("read the call: {e}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The length of the message that begins here, once enough is known of it.
fn length(start: &[u8]) -> Result<Option<usize>, Status> {
    let Some((flag, rest)) = start.split_first() else { return Ok(None) };
    if *flag != 0 {
        return Err(Status::new(
            Code::Unimplemented,
            "grpc: compressed messages are not read here; send them plain",
        ));
    }
    let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX { Err(too_large(length)) } else { Ok(Some(length)) }
}

fn too_large(length: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({length} vs. {MESSAGE_MAX})"),
    )
}

fn cut_off() -> Status {
    Status::new(Code::Internal, "grpc: the call ended within a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_once_it_is_there() {
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&[0, 0, 0]), Ok(None));
        assert_eq!(length(&[0, 0, 0, 1, 2, 9]), Ok(Some(258)));
        assert_eq!(length(&[1]).unwrap_err().code, Code::Unimplemented);
        assert_eq!(length(&[0, 0xff, 0, 0, 0]).unwrap_err().code, Code::ResourceExhausted);
    }
}
