//! Sending entries: requests go out without waiting for the answers to those before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Sink, Stream};
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::{Instant, Sleep};

use super::types::Types;
use super::wire::{Frames, decode, encode};

/// Requests that may be unanswered; with the size of a request this bounds memory.
const WINDOW: usize = 32;

/// A member that answers nothing for so long is taken to be gone.
const SILENCE: Duration = Duration::from_secs(3);

pub(super) type AppendResult = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// One row of requests and their answers; gives the connection back when all are answered.
pub(super) struct AppendSession<'n, S> {
    slot: &'n mut Option<Frames>,
    frames: Option<Frames>,
    requests: S,
    ended: bool,
    unanswered: usize,
    unflushed: bool,
    silence: Pin<Box<Sleep>>,
}

impl<'n, S> AppendSession<'n, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin,
{
    pub(super) fn new(
        slot: &'n mut Option<Frames>,
        frames: Frames,
        requests: S,
    ) -> AppendSession<'n, S> {
        AppendSession {
            slot,
            frames: Some(frames),
            requests,
            ended: false,
            unanswered: 0,
            unflushed: false,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
        }
    }

    /// Sends what there is to send; true if something was sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(frames) = self.frames.as_mut() else { return Ok(false) };
        let mut frames = Pin::new(frames);
        let mut sent = false;
        while !self.ended && self.unanswered < WINDOW {
            match Sink::<Bytes>::poll_ready(frames.as_mut(), cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(request)) => {
                    frames.as_mut().start_send(encode(&request)?)?;
                    if self.unanswered == 0 {
                        self.silence.as_mut().reset(Instant::now() + SILENCE);
                    }
                    self.unanswered += 1;
                    self.unflushed = true;
                    sent = true;
                }
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Sink::<Bytes>::poll_flush(frames, cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(sent)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<BytesMut>> {
        let Some(frames) = self.frames.as_mut() else { return Poll::Pending };
        match Pin::new(frames).poll_next(cx) {
            Poll::Ready(Some(frame)) => Poll::Ready(frame),
            Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Pending if self.unanswered > 0 => {
                let silent = Future::poll(self.silence.as_mut(), cx);
                silent.map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<BytesMut>>> {
        self.poll_send(cx)?;
        if self.ended && self.unanswered == 0 && !self.unflushed {
            *self.slot = self.frames.take();
            return Poll::Ready(Ok(None));
        }
        match self.poll_answer(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(_)) if self.unanswered == 0 => {
                Poll::Ready(Err(io::Error::other("an answer that nothing was asked for")))
            }
            Poll::Ready(Ok(frame)) => {
                self.unanswered -= 1;
                self.silence.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(Ok(Some(frame)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<S> Stream for AppendSession<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin,
{
    type Item = AppendResult;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendResult>> {
        let this = self.get_mut();
        if this.frames.is_none() {
            return Poll::Ready(None);
        }
        let step = match this.poll_step(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(step) => step,
        };
        let answer = match step {
            Ok(None) => return Poll::Ready(None),
            Ok(Some(frame)) => decode::<StreamAppendResult<Types>>(&frame),
            Err(error) => Err(error),
        };
        if !matches!(answer, Ok(Ok(_))) {
            // After an error the two ends do not agree on what comes next.
            this.frames = None;
        }
        Poll::Ready(Some(answer.map_err(|error| Unreachable::new(&error).into())))
    }
}
