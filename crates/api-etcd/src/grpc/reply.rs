//! The body of an answer: messages, then trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::{GRPC_STATUS, Status};

/// The body of an answer.
pub(crate) struct Reply(State);

enum State {
    /// One message is to be sent, then that all is well.
    Message(Bytes),
    /// That all is well is to be sent.
    Good,
    /// All there is, without trailers: no answer to gRPC.
    Whole(Bytes),
    /// Messages are sent as they come.
    Stream(BoxStream<'static, Result<Bytes, Status>>),
    /// All was sent.
    Done,
}

impl Reply {
    pub(super) fn message(frame: Bytes) -> Reply {
        Reply(State::Message(frame))
    }

    pub(super) fn stream(messages: BoxStream<'static, Result<Bytes, Status>>) -> Reply {
        Reply(State::Stream(messages))
    }

    /// The body of an answer to what was not asked by gRPC.
    pub(crate) fn whole(body: Bytes) -> Reply {
        Reply(State::Whole(body))
    }

    pub(super) fn nothing() -> Reply {
        Reply(State::Done)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let state = &mut self.get_mut().0;
        let frame = match state {
            State::Stream(messages) => {
                let Poll::Ready(message) = messages.as_mut().poll_next(context) else {
                    return Poll::Pending;
                };
                match message {
                    Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                    Some(Err(status)) => Frame::trailers(status.headers()),
                    None => Frame::trailers(good()),
                }
            }
            State::Message(message) => {
                let message = std::mem::take(message);
                *state = State::Good;
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            State::Whole(body) => Frame::data(std::mem::take(body)),
            State::Good => Frame::trailers(good()),
            State::Done => return Poll::Ready(None),
        };
        *state = State::Done;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Whole(body) => SizeHint::with_exact(body.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

fn good() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}
