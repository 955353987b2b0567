//! A stream of watches: what the client asks, what happens, and in which order it is answered.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use pontoon_store::{Event, Leadership};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::watcher::{Happened, Watcher, Wishes, size};
use crate::grpc::{Messages, REQUEST_MAX, decode, frame};
use crate::keyspace::Span;
use crate::kv::key_value;
use crate::proto::{self, EventType, Filter, WatchCreate, WatchKind, WatchRequest, WatchResponse};
use crate::server::{EtcdServer, signed};
use crate::status::{NO_LEADER, STOPPED, Status};

/// Watches of one stream.
const WATCHERS_MAX: usize = 10_000;
/// How long a stream that wants a leader waits for one, as in etcd: three times the election timeout.
const NO_LEADER_PATIENCE: Duration = Duration::from_millis(1500);
/// Pause before it is looked again whether all watches have come as far as the client asked.
const PROGRESS_PAUSE: Duration = Duration::from_millis(5);
/// The number of no watch: an answer that is about all of them, or about one that did not begin.
const NO_WATCH: i64 = -1;

/// A stream of watches.
pub(super) struct Session {
    server: EtcdServer,
    /// `None` when the client has said all.
    messages: Option<Messages>,
    watchers: SelectAll<Watcher>,
    /// The numbers of those that have not ended.
    ids: HashSet<i64>,
    next_id: i64,
    /// Answers that are ready.
    ready: VecDeque<Bytes>,
    /// The client wants to know when all watches have come this far.
    asked: Option<u64>,
    ticks: Interval,
    /// Ends when there is no leader, for a client that wants to know.
    no_leader: BoxFuture<'static, ()>,
}

/// What a stream waits for.
enum Next {
    Message(Result<Option<Bytes>, Status>),
    Happened(i64, Wishes, Happened),
    Tick,
    LookAgain,
    NoLeader,
}

impl Session {
    pub(super) fn new(server: EtcdServer, messages: Messages, wants_leader: bool) -> Session {
        let every = server.inner.settings.progress_interval;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let no_leader = match wants_leader {
            true => no_leader(server.inner.leadership.clone()).boxed(),
            false => std::future::pending().boxed(),
        };
        Session {
            server,
            messages: Some(messages),
            watchers: SelectAll::new(),
            ids: HashSet::new(),
            next_id: 0,
            ready: VecDeque::new(),
            asked: None,
            ticks,
            no_leader,
        }
    }

    /// The next answer; `None` when there will be none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            self.answer_progress();
            if let Some(answer) = self.ready.pop_front() {
                return Ok(Some(answer));
            }
            if self.messages.is_none() && self.watchers.is_empty() {
                return Ok(None);
            }
            match self.wait().await {
                Next::Message(message) => match message? {
                    Some(message) => self.asked_for(decode(message)?),
                    None => self.messages = None,
                },
                Next::Happened(_, _, Happened::Stopped) => return Err(STOPPED),
                Next::Happened(id, _, Happened::Compacted(revision)) => {
                    self.compacted(id, revision);
                }
                Next::Happened(id, wishes, Happened::Events(events)) => {
                    self.events(id, wishes, &events);
                }
                Next::Tick => self.notify(),
                Next::LookAgain => {}
                Next::NoLeader => return Err(NO_LEADER),
            }
        }
    }

    async fn wait(&mut self) -> Next {
        let Session { messages, watchers, asked, ticks, no_leader, .. } = self;
        let message = async {
            match messages {
                Some(messages) => messages.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = message => Next::Message(message),
            Some((id, wishes, happened)) = watchers.next() => Next::Happened(id, wishes, happened),
            _ = ticks.tick() => Next::Tick,
            () = tokio::time::sleep(PROGRESS_PAUSE), if asked.is_some() => Next::LookAgain,
            () = no_leader => Next::NoLeader,
        }
    }

    fn asked_for(&mut self, request: WatchRequest) {
        match request.kind {
            Some(WatchKind::Create(create)) => self.create(create),
            Some(WatchKind::Cancel(cancel)) => self.cancel(cancel.watch_id),
            Some(WatchKind::Progress(_)) => self.asked = Some(self.server.inner.store.revision()),
            None => {}
        }
    }

    fn create(&mut self, create: WatchCreate) {
        // Read before the watch begins, and the watch begins right behind it.
        let now = self.server.inner.store.revision();
        let id = match self.choose_id(&create) {
            Ok(id) => id,
            Err(reason) => return self.not_created(now, reason),
        };
        let places = Arc::clone(&self.server.inner.watchers);
        let place = match places.try_acquire_owned() {
            Ok(place) if self.watchers.len() < WATCHERS_MAX => place,
            _ => return self.not_created(now, "etcdserver: too many watches"),
        };
        let filtered = |filter: Filter| create.filters.contains(&i32::from(filter));
        let wishes = Wishes {
            no_puts: filtered(Filter::NoPut),
            no_deletes: filtered(Filter::NoDelete),
            progress: create.progress_notify,
            fragment: create.fragment,
        };
        let key = match create.key.is_empty() {
            true => Bytes::from_static(b"\0"),
            false => Bytes::copy_from_slice(&create.key),
        };
        let Span { key, end } = Span::asked(key, Bytes::copy_from_slice(&create.range_end));
        let start_revision = match create.start_revision {
            0 => now + 1,
            // Less than nothing is the beginning, as in etcd.
            asked => u64::try_from(asked).unwrap_or(1),
        };
        let prev_kv = create.prev_kv;
        let request = pontoon_store::WatchRequest { key, end, start_revision, prev_kv };
        let store = self.server.inner.store.clone();
        self.ids.insert(id);
        self.watchers.push(Watcher::begin(id, wishes, store, request, place));
        self.answer(now, WatchResponse { watch_id: id, created: true, ..WatchResponse::default() });
    }

    fn choose_id(&mut self, create: &WatchCreate) -> Result<i64, &'static str> {
        let end = &create.range_end[..];
        if !end.is_empty() && end != b"\0" && &create.key[..] >= end {
            return Err("mvcc: watcher range is empty");
        }
        if create.watch_id != 0 {
            let free = !self.ids.contains(&create.watch_id);
            return free
                .then_some(create.watch_id)
                .ok_or("mvcc: duplicate watch ID provided on the WatchStream");
        }
        while self.ids.contains(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn not_created(&mut self, now: u64, reason: &str) {
        self.answer(
            now,
            WatchResponse {
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..WatchResponse::default()
            },
        );
    }

    fn cancel(&mut self, id: i64) {
        if !self.ids.remove(&id) {
            return;
        }
        if let Some(watcher) = self.watchers.iter_mut().find(|w| w.id == id && !w.has_ended()) {
            watcher.cancel();
        }
        let now = self.server.inner.store.revision();
        self.answer(now, WatchResponse { watch_id: id, canceled: true, ..Default::default() });
    }

    fn compacted(&mut self, id: i64, compact_revision: u64) {
        self.ids.remove(&id);
        let now = self.server.inner.store.revision();
        self.answer(
            now,
            WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: signed(compact_revision),
                ..WatchResponse::default()
            },
        );
    }

    /// Answers events; those of one revision together, unless the client takes them in fragments.
    fn events(&mut self, id: i64, wishes: Wishes, events: &[Event]) {
        let last = events.last().map_or(0, |event| event.kv.mod_revision);
        let mut rest = events;
        while !rest.is_empty() {
            let count = if wishes.fragment { fitting(rest) } else { rest.len() };
            let (part, later) = rest.split_at(count);
            rest = later;
            self.answer(
                last,
                WatchResponse {
                    watch_id: id,
                    fragment: !rest.is_empty(),
                    events: part.iter().map(event).collect(),
                    ..WatchResponse::default()
                },
            );
        }
    }

    /// Tells watches that asked for it, and had no event since the last time, how far they are.
    fn notify(&mut self) {
        let mut progress = Vec::new();
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.wishes.progress) {
            let busy = std::mem::take(&mut watcher.busy);
            if let (false, Some(revision)) = (busy, watcher.progress()) {
                progress.push((watcher.id, revision));
            }
        }
        for (watch_id, revision) in progress {
            self.answer(revision, WatchResponse { watch_id, ..WatchResponse::default() });
        }
    }

    /// Answers the question how far all watches are, once they are as far as the store was when it was asked.
    fn answer_progress(&mut self) {
        let Some(asked) = self.asked else { return };
        if self.watchers.iter().all(|watcher| watcher.has_told(asked)) {
            self.asked = None;
            self.answer(asked, WatchResponse { watch_id: NO_WATCH, ..WatchResponse::default() });
        }
    }

    fn answer(&mut self, revision: u64, response: WatchResponse) {
        let header = self.server.header(revision);
        self.ready.push_back(frame(&WatchResponse { header, ..response }));
    }
}

/// How many events go into one fragment.
fn fitting(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += size(event);
        bytes <= REQUEST_MAX
    };
    events.iter().take_while(fits).count().max(1)
}

fn event(event: &Event) -> proto::Event {
    let kind = match event.kind {
        pontoon_store::EventKind::Put => EventType::Put,
        pontoon_store::EventKind::Delete => EventType::Delete,
    };
    proto::Event {
        kind: kind.into(),
        kv: Some(key_value(&event.kv, false)),
        prev_kv: event.prev.as_deref().map(|kv| key_value(kv, false)),
    }
}

/// Returns when there has been no leader for long.
async fn no_leader(mut leadership: watch::Receiver<Leadership>) {
    loop {
        if leadership.wait_for(|now| now.leader.is_none()).await.is_err() {
            return;
        }
        let elected = leadership.wait_for(|now| now.leader.is_some());
        if tokio::time::timeout(NO_LEADER_PATIENCE, elected).await.is_err() {
            return;
        }
    }
}
