//! One connection: what its calls do is done by the task that reads and writes it.
//!
//! With a task for each call, calls are woken on other threads and each answer is a write of its own, which is most of
//! what a small call costs. Here all calls that can go on do so; then what they answered is written at once.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;

/// Rounds of a connection before others have their turn.
const ROUNDS: usize = 16;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection leaves the calls that it received.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Vec<Work>>>);

impl Received {
    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F> Executor<F> for Received
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }
}

/// A connection and its calls.
pub(crate) struct Connection<C> {
    wire: C,
    received: Received,
    calls: FuturesUnordered<Work>,
}

impl<C> Connection<C> {
    /// `wire` leaves its calls in `received`.
    pub(crate) fn new(wire: C, received: Received) -> Connection<C> {
        Connection { wire, received, calls: FuturesUnordered::new() }
    }
}

impl<C: Future + Unpin> Future for Connection<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        for _ in 0..ROUNDS {
            if let Poll::Ready(ended) = Pin::new(&mut this.wire).poll(context) {
                return Poll::Ready(ended);
            }
            let received = this.received.take();
            let mut went_on = !received.is_empty();
            this.calls.extend(received);
            while let Poll::Ready(Some(())) = this.calls.poll_next_unpin(context) {
                went_on = true;
            }
            // What was answered waits to be written.
            if !went_on {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
