//! The body of an answer: messages, then trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};

use super::{GRPC_STATUS, Status};

/// The body of an answer.
pub(crate) struct Reply(State);

enum State {
    /// One message is to be sent, then that all is well.
    Message(Bytes),
    /// That all is well is to be sent.
    Good,
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
            State::Good => Frame::trailers(good()),
            State::Done => return Poll::Ready(None),
        };
        *state = State::Done;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Done)
    }
}

fn good() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}
