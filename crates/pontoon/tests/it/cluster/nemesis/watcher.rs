//! A watcher: it changes managers, rests until history is forgotten, and must miss nothing.

use std::sync::Arc;
use std::time::Duration;

use pontoon_api_etcd::client::Stream;
use pontoon_api_etcd::proto::{
    EventType, WatchCreate, WatchKind, WatchProgress, WatchRequest, WatchResponse,
};
use pontoon_history::{WatchEvent, WatchLog};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::door::{Connection, Door, prefix_end, revision, value};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// How long an answer to the beginning of a watch may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before the next manager is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// One watcher of the keys that begin with its prefix.
pub(super) struct Watcher {
    pub(super) door: Arc<Door>,
    pub(super) random: StdRng,
    pub(super) prefix: String,
}

fn say(kind: WatchKind) -> WatchRequest {
    WatchRequest { kind: Some(kind) }
}

impl Watcher {
    /// Watches until it has seen everything up to the revision in `goal`, once one is there.
    pub(super) async fn run(mut self, mut goal: watch::Receiver<Option<u64>>) -> WatchLog {
        let (prefix, among_others) = (self.prefix.clone(), true);
        let mut log = WatchLog { prefix, among_others, from: 2, upto: 1, ..WatchLog::default() };
        loop {
            let aim = *goal.borrow_and_update();
            if aim.is_some_and(|aim| log.upto >= aim) {
                return log;
            }
            let manager = self.random.random_range(0..self.door.managers());
            if let Some(connection) = self.door.connect(manager).await {
                self.follow(&connection, &mut log, &mut goal).await;
            }
            // Now and then long enough for a compaction to overtake it, unless it is to come to an end.
            let rest = if aim.is_none() && self.random.random_bool(0.1) {
                Duration::from_millis(self.random.random_range(500..6000))
            } else {
                PAUSE
            };
            timeout(rest, goal.changed()).await.ok();
        }
    }

    /// Watches at one manager for a while.
    async fn follow(
        &mut self,
        connection: &Connection,
        log: &mut WatchLog,
        goal: &mut watch::Receiver<Option<u64>>,
    ) {
        let create = WatchCreate {
            key: self.prefix.clone().into(),
            range_end: prefix_end(&self.prefix).into(),
            start_revision: i64::try_from(log.upto + 1).unwrap(),
            progress_notify: true,
            ..Default::default()
        };
        let first = say(WatchKind::Create(create));
        let Ok(Ok(mut stream)) = timeout(PATIENCE, connection.client.stream(PATH, &first)).await
        else {
            return;
        };
        let end = Instant::now() + Duration::from_millis(self.random.random_range(200..6000));
        let ending = goal.borrow().is_some();
        let mut asks = ending && ask_progress(&stream).await;
        loop {
            let heard = tokio::select! {
                heard = timeout_at(end, stream.hear::<WatchResponse>()) => heard,
                // The end has come: it begins anew and asks how far it is.
                _ = goal.changed() => return,
            };
            let Ok(Ok(Some(answer))) = heard else { return };
            let reached = |log: &WatchLog| goal.borrow().is_some_and(|aim| log.upto >= aim);
            if !note(log, &answer) || reached(log) {
                return;
            }
            if !asks && self.random.random_bool(0.02) {
                asks = ask_progress(&stream).await;
            }
        }
    }
}

async fn ask_progress(stream: &Stream) -> bool {
    stream.say(&say(WatchKind::Progress(WatchProgress {}))).await.is_ok()
}

/// Notes an answer; false if it was the watch's last.
fn note(log: &mut WatchLog, answer: &WatchResponse) -> bool {
    if answer.canceled {
        let compacted = u64::try_from(answer.compact_revision).unwrap();
        if compacted > 0 {
            log.compacted.push((log.upto, compacted));
            log.upto = log.upto.max(compacted - 1);
        }
        return false;
    }
    for event in &answer.events {
        let kv = event.kv.as_ref().unwrap();
        log.events.push(WatchEvent {
            revision: u64::try_from(kv.mod_revision).unwrap(),
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            value: (event.kind == i32::from(EventType::Put)).then(|| value(kv)),
        });
    }
    match log.events.last().filter(|_| !answer.events.is_empty()) {
        Some(last) => log.upto = last.revision,
        // Without events: it begins, or it says that there were none up to here.
        None if !answer.created => log.upto = log.upto.max(revision(answer.header.as_ref())),
        None => {}
    }
    true
}
