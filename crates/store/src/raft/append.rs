//! Sending entries: requests go out without waiting for the answers to those before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Sink, Stream};
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::Sleep;

use super::types::Types;
use super::wire::{Frames, decode, encode};
use crate::runtime::{self, Instant};

/// Requests that may be unanswered; with the size of a request this bounds memory.
pub(super) const WINDOW: usize = 32;

/// A member that answers nothing for so long is taken to be gone.
const SILENCE: Duration = Duration::from_secs(3);

/// A connection on which so many answers were not waited for is taken to be dead.
const OWED: usize = 16;

pub(super) type AppendResult = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// A connection between two rows of requests.
pub(super) struct Idle {
    frames: Frames,
    /// Answers still to come to requests whose asker stopped waiting.
    owed: usize,
}

impl Idle {
    pub(super) fn new(frames: Frames) -> Idle {
        Idle { frames, owed: 0 }
    }
}

/// One row of requests and their answers. When it ends, or is given up, the connection is kept for
/// the next row: a heartbeat that took too long must not cost a new connection.
pub(super) struct AppendSession<'n, S> {
    slot: &'n mut Option<Idle>,
    frames: Option<Frames>,
    requests: S,
    ended: bool,
    unanswered: usize,
    /// The first so many answers are to requests of rows before.
    owed: usize,
    unflushed: bool,
    silence: Pin<Box<Sleep>>,
}

impl<'n, S> AppendSession<'n, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin,
{
    pub(super) fn new(slot: &'n mut Option<Idle>, idle: Idle, requests: S) -> AppendSession<'n, S> {
        AppendSession {
            slot,
            frames: Some(idle.frames),
            owed: idle.owed,
            requests,
            ended: false,
            unanswered: 0,
            unflushed: false,
            silence: Box::pin(runtime::sleep(SILENCE)),
        }
    }

    /// Sends what there is to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(frames) = self.frames.as_mut() else { return Ok(()) };
        let mut frames = Pin::new(frames);
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
                        runtime::reset(self.silence.as_mut(), Instant::now() + SILENCE);
                    }
                    self.unanswered += 1;
                    self.unflushed = true;
                }
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Sink::<Bytes>::poll_flush(frames, cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(())
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
            self.keep();
            return Poll::Ready(Ok(None));
        }
        match self.poll_answer(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(_)) if self.owed > 0 => {
                self.owed -= 1;
                self.poll_step(cx)
            }
            Poll::Ready(Ok(_)) if self.unanswered == 0 => {
                Poll::Ready(Err(io::Error::other("an answer that nothing was asked for")))
            }
            Poll::Ready(Ok(frame)) => {
                self.unanswered -= 1;
                runtime::reset(self.silence.as_mut(), Instant::now() + SILENCE);
                Poll::Ready(Ok(Some(frame)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<S> AppendSession<'_, S> {
    /// Gives the connection back, unless too many answers are missing for it to be alive.
    fn keep(&mut self) {
        let owed = self.owed + self.unanswered;
        if let Some(frames) = self.frames.take()
            && owed < OWED
        {
            *self.slot = Some(Idle { frames, owed });
        }
    }
}

impl<S> Drop for AppendSession<'_, S> {
    fn drop(&mut self) {
        self.keep();
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
