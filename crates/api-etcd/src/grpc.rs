//! gRPC over HTTP/2: a request's messages taken out of its body, an answer's put into one.
//!
//! A message is a flag byte, its length in four bytes, and the message. An answer ends with trailers that say
//! how the call went; one that failed before it began has only headers.

mod messages;
mod reply;
mod timeout;

use std::future::Future;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use pontoon_store::ANSWER_MAX;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use messages::Messages;
pub(crate) use reply::Reply;
pub(crate) use timeout::deadline;

use crate::status::{Code, GRPC_STATUS, Status};

/// The largest request that etcd takes by default.
pub(crate) const REQUEST_MAX: usize = 1536 * 1024;
/// The largest message that is read at all: what etcd adds to the largest request.
const MESSAGE_MAX: usize = REQUEST_MAX + 512 * 1024;
/// Bytes before each message.
const PREFIX: usize = 5;

/// A request that is still to be read.
pub(crate) type Call = Box<Request<Incoming>>;
/// An answer on its way.
pub(crate) type Answer = Response<Reply>;

/// Serves a call of one message with an answer of one message.
///
/// What serves it has a place of its own on the heap, which is then small as well as that of the call: allocators are several
/// times slower from about a kilobyte on.
pub(crate) async fn unary<Q, A, F>(call: Call, serve: impl FnOnce(Q) -> F) -> Answer
where
    Q: prost::Message + Default,
    A: prost::Message,
    F: Future<Output = Result<A, Status>>,
{
    match messages::only(call).await.and_then(decode) {
        Ok(request) => finish(Box::pin(serve(request)).await),
        Err(status) => refused(&status),
    }
}

/// As [`unary`]. A request that may be answered with much is served by a task of its own, so that the other calls of its
/// connection go on meanwhile.
pub(crate) async fn unary_apart<Q, A, F>(
    call: Call,
    is_large: impl FnOnce(&Q) -> bool,
    serve: impl FnOnce(Q) -> F,
) -> Answer
where
    Q: prost::Message + Default,
    A: prost::Message + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    let request: Q = match messages::only(call).await.and_then(decode) {
        Ok(request) => request,
        Err(status) => return refused(&status),
    };
    let is_large = is_large(&request);
    let answer = Box::pin(serve(request));
    if !is_large {
        return finish(answer.await);
    }
    match AbortOnDropHandle::new(tokio::spawn(async move { finish(answer.await) })).await {
        Ok(answer) => answer,
        Err(error) => refused(&Status::new(Code::Internal, error.to_string())),
    }
}

fn finish<A: prost::Message>(answer: Result<A, Status>) -> Answer {
    match answer {
        Ok(message) => one(&message),
        Err(status) => refused(&status),
    }
}

/// An answer of one message, unless that is too large: it is written as a whole before any of it is sent.
fn one(message: &impl prost::Message) -> Answer {
    match fits(message.encoded_len()) {
        Ok(()) => accepted(Reply::message(frame(message))),
        Err(status) => refused(&status),
    }
}

/// Refuses an answer of more bytes than are sent at a time.
pub(crate) fn fits(bytes: usize) -> Result<(), Status> {
    if bytes <= ANSWER_MAX {
        return Ok(());
    }
    let words = format!("grpc: trying to send message larger than max ({bytes} vs. {ANSWER_MAX})");
    Err(Status::new(Code::ResourceExhausted, words))
}

/// An answer of many messages.
pub(crate) fn streaming(messages: BoxStream<'static, Result<Bytes, Status>>) -> Answer {
    accepted(Reply::stream(messages))
}

/// An answer that only says why there is none.
pub(crate) fn refused(status: &Status) -> Answer {
    let mut answer = accepted(Reply::nothing());
    answer.headers_mut().extend(status.headers());
    answer
}

fn accepted(reply: Reply) -> Answer {
    let mut answer = Response::new(reply);
    answer.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    answer
}

/// True if a call means gRPC by what it says of itself.
pub(crate) fn is_grpc(call: &Call) -> bool {
    let kind = call.headers().get(header::CONTENT_TYPE);
    call.version() == http::Version::HTTP_2
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Reads a message.
pub(crate) fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|e| Status::new(Code::Internal, format!("grpc: decode: {e}")))
}

/// Writes a message with what goes before it.
pub(crate) fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("an answer has less than 4 GiB"));
    message.encode(&mut frame).expect("there is room for its length");
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{DeleteRangeResponse, KeyValue};

    #[test]
    fn an_answer_that_is_too_large_is_refused_before_it_is_written() {
        let kv = KeyValue { value: vec![1; 1 << 20].into(), ..KeyValue::default() };
        let deleted = |count: usize| DeleteRangeResponse {
            prev_kvs: vec![kv.clone(); count],
            ..DeleteRangeResponse::default()
        };
        assert!(!one(&deleted(2)).headers().contains_key(GRPC_STATUS));
        // More than any length can say, too.
        for count in [256, 5000] {
            let answer = one(&deleted(count));
            assert_eq!(answer.headers()[GRPC_STATUS], "8");
        }
    }
}
