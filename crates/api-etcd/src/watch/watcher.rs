//! One watch of a stream: its events, gathered and filtered; resumed when it lags.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use pontoon_store::{Event, EventKind, KeyValue, Store, Watch, WatchError, WatchRequest};
use tokio::sync::OwnedSemaphorePermit;

use crate::keyspace::is_hidden;

/// Bytes of events that are gathered into one answer, unless one revision alone has more.
const GATHER_BYTES: usize = 256 << 10;
/// What an event costs beside its key and values.
const EVENT_BYTES: usize = 64;

/// What a watch has to say.
pub(super) enum Happened {
    /// Events of one revision or of several, in order.
    Events(Vec<Event>),
    /// The next events are gone: it ends.
    Compacted(u64),
    /// The store stops.
    Stopped,
}

/// How a watch is to be answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) no_puts: bool,
    pub(super) no_deletes: bool,
    pub(super) progress: bool,
    pub(super) fragment: bool,
}

impl Wishes {
    fn wants(&self, event: &Event) -> bool {
        let filtered = match event.kind {
            EventKind::Put => self.no_puts,
            EventKind::Delete => self.no_deletes,
        };
        !filtered && !is_hidden(&event.kv.key)
    }
}

enum State {
    Live(Watch),
    /// This is to be said, and then nothing more.
    Ending(Happened),
    Ended,
}

/// One watch of a stream.
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) wishes: Wishes,
    /// True if events were answered since the last look at its progress.
    pub(super) busy: bool,
    store: Store,
    request: WatchRequest,
    state: State,
    waker: Option<Waker>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// Begins a watch. One whose start is compacted says so as its first and last word.
    pub(super) fn begin(
        id: i64,
        wishes: Wishes,
        store: Store,
        request: WatchRequest,
        place: OwnedSemaphorePermit,
    ) -> Watcher {
        let state = begin(&store, request.clone());
        Watcher { id, wishes, busy: false, store, request, state, waker: None, _place: place }
    }

    /// Everything up to this revision was delivered; `None` when nothing more will be.
    pub(super) fn progress(&self) -> Option<u64> {
        match &self.state {
            State::Live(watch) => Some(watch.progress()),
            State::Ending(_) | State::Ended => None,
        }
    }

    /// True if nothing is left to be said of what happened up to this revision: neither an event nor that events are
    /// gone.
    pub(super) fn has_told(&self, revision: u64) -> bool {
        match &self.state {
            State::Live(watch) => watch.progress() >= revision,
            State::Ending(_) => false,
            State::Ended => true,
        }
    }

    /// True once nothing more will be said.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Ends it; the stream of all watches lets it go.
    pub(super) fn cancel(&mut self) {
        self.state = State::Ended;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the events that are there, up to a size.
    fn gather(&mut self, context: &mut Context<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while let State::Live(watch) = &mut self.state
            && bytes < GATHER_BYTES
        {
            // A watch keeps its place in itself, so asking anew each time loses nothing.
            let next = pin!(watch.next()).poll(context);
            match next {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(batch))) => {
                    for event in batch.events.iter().filter(|event| self.wishes.wants(event)) {
                        bytes += size(event);
                        events.push(event.clone());
                    }
                }
                Poll::Ready(Some(Err(WatchError::Lagged { resume }))) => {
                    self.state = begin(&self.store, self.request.clone().from(resume));
                }
                Poll::Ready(Some(Err(WatchError::Compacted { compact_revision }))) => {
                    self.state = State::Ending(Happened::Compacted(compact_revision));
                }
                Poll::Ready(None) => self.state = State::Ending(Happened::Stopped),
            }
        }
        events
    }
}

impl Stream for Watcher {
    type Item = (i64, Wishes, Happened);

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(i64, Wishes, Happened)>> {
        let this = self.get_mut();
        let events = this.gather(context);
        if !events.is_empty() {
            this.busy = true;
            return Poll::Ready(Some((this.id, this.wishes, Happened::Events(events))));
        }
        match std::mem::replace(&mut this.state, State::Ended) {
            State::Ending(last) => Poll::Ready(Some((this.id, this.wishes, last))),
            State::Ended => Poll::Ready(None),
            live @ State::Live(_) => {
                this.state = live;
                this.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn begin(store: &Store, request: WatchRequest) -> State {
    match store.watch(request) {
        Ok(watch) => State::Live(watch),
        Err(WatchError::Compacted { compact_revision }) => {
            State::Ending(Happened::Compacted(compact_revision))
        }
        // A watch that has not begun does not lag; the client begins again if it should.
        Err(WatchError::Lagged { .. }) => State::Ending(Happened::Stopped),
    }
}

/// About how many bytes an event takes in an answer.
pub(super) fn size(event: &Event) -> usize {
    let kv = |kv: &KeyValue| kv.key.len() + kv.value.len();
    EVENT_BYTES + kv(&event.kv) + event.prev.as_deref().map_or(0, kv)
}
