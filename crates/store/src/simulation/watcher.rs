//! A watcher of everything: it loses its connection, changes members, is too slow, and must miss nothing.

use std::sync::Arc;

use pontoon_history::{WatchEvent, WatchLog};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;

use super::cluster::Life;
use super::dice::Dice;
use super::record::Record;
use crate::{Batch, EventKind, MemberId, Store, WatchError, WatchRequest};

/// What a member tells its watcher.
enum Told {
    Changes(Batch),
    Ended(WatchError),
}

/// Serves one watcher, on the host of its member, as slowly as the dice say.
async fn serve(store: Store, from: u64, mut dice: Dice, told: UnboundedSender<Told>) {
    let mut watch = match store.watch(WatchRequest::prefix("/s/").from(from)) {
        Ok(watch) => watch,
        Err(error) => {
            told.send(Told::Ended(error)).ok();
            return;
        }
    };
    while let Some(next) = watch.next().await {
        let said = next.map_or_else(Told::Ended, Told::Changes);
        if told.send(said).is_err() {
            return;
        }
        if dice.chance(2) {
            tokio::time::sleep(dice.ms(0..1500)).await;
        }
    }
}

/// Watches until everything up to the revision in `goal`, once one is there, was seen.
pub(super) async fn run(
    record: Arc<Record>,
    mut dice: Dice,
    mut goal: watch::Receiver<Option<u64>>,
) {
    let mut log = WatchLog { from: 2, upto: 1, ..WatchLog::default() };
    loop {
        let reached = |goal: &Option<u64>| goal.is_some_and(|goal| log.upto >= goal);
        if reached(&goal.borrow()) {
            break;
        }
        let lives = record.lives();
        // In the end not of one who was removed before: it hears of nothing more.
        let knows = |life: &Life| goal.borrow().is_none_or(|goal| life.store.revision() >= goal);
        let able = lives.iter().filter(|(_, life)| knows(life));
        let ids: Vec<MemberId> = able.map(|(id, _)| *id).collect();
        let Some(id) = dice.pick(&ids) else {
            tokio::time::sleep(dice.ms(1..100)).await;
            continue;
        };
        let life = &lives[id];
        let (sender, mut told) = mpsc::unbounded_channel();
        life.host.spawn(serve(life.store.clone(), log.upto + 1, dice.fork(), sender));
        let patience = tokio::time::sleep(dice.ms(500..8000));
        tokio::pin!(patience);
        loop {
            let said = tokio::select! {
                biased;
                said = told.recv() => said,
                () = patience.as_mut() => None,
                changed = goal.changed() => {
                    if changed.is_err() { return; }
                    break;
                }
            };
            match said {
                Some(Told::Changes(batch)) => note(&mut log, &batch),
                Some(Told::Ended(WatchError::Compacted { compact_revision })) => {
                    log.compacted.push((log.upto, compact_revision));
                    log.upto = log.upto.max(compact_revision.saturating_sub(1));
                    break;
                }
                // What was delivered is noted, whatever it says.
                Some(Told::Ended(WatchError::Lagged { .. })) | None => break,
            }
        }
        tokio::time::sleep(dice.ms(0..50)).await;
    }
    record.add_watch(log);
}

fn note(log: &mut WatchLog, batch: &Batch) {
    for event in batch.events.iter() {
        let value = match event.kind {
            EventKind::Delete => None,
            EventKind::Put => {
                let text = std::str::from_utf8(&event.kv.value).unwrap_or_default();
                Some(text.parse().unwrap_or(u64::MAX))
            }
        };
        let key = String::from_utf8_lossy(&event.kv.key).into_owned();
        log.events.push(WatchEvent { revision: batch.revision, key, value });
    }
    log.upto = batch.revision;
}
