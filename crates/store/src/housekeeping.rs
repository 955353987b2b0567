//! What a store does by itself: says who leads, ends leases, forgets history, writes snapshots.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use crate::command::Command;
use crate::config::Tuning;
use crate::core::Core;
use crate::log::Health;
use crate::member::Leadership;
use crate::runtime::{self, Instant};

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Ticks between looks at history and log.
const SLOW: u64 = 5;
/// Ticks between notes of what the newest revision is.
const SAMPLE: u64 = 25;
/// A leader without a quorum for this many times the election timeout no longer says it leads, and a member
/// that hears of no leader for as long says that there is none.
const CUT_OFF: u32 = 3;
/// Leases ended at a time.
const LEASES: usize = 256;
/// Revisions and versions removed at a time after a compaction: while they are nothing is applied.
const FORGET_STEP: usize = 64;
/// With more than this many times the history that must be kept, age does not count.
const HISTORY_FACTOR: u64 = 5;

/// Tells everyone who leads, until the store stops.
pub(crate) async fn follow_leadership(core: Arc<Core>) {
    let mut metrics = core.engine.server_metrics();
    let mut ticks = runtime::ticks(TICK);
    // The term in which this member was found to lead, and when that was.
    let mut began: Option<(u64, Instant)> = None;
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            let leader = metrics.current_leader;
            let is_me = metrics.state == ServerState::Leader && leader == Some(core.me());
            Leadership { leader, is_me, term: metrics.vote.leader_id.term }
        };
        began = began.filter(|(term, _)| now.is_me && *term == now.term);
        let lost = match now.is_me {
            true => is_cut_off(&core, began.get_or_insert_with(|| (now.term, Instant::now())).1),
            false => now.leader.is_some() && has_lost_its_leader(&core).await,
        };
        let now = if lost { Leadership { leader: None, is_me: false, ..now } } else { now };
        let before = core.leader();
        if now.begins_after(&before) {
            // Nobody knows when a lease was last kept alive, so each lives its full time again.
            core.replica.lessor.renew_all();
        }
        if now != before {
            let members = core.members();
            let name = |id| members.iter().find(|m| m.id == id).map(|m| m.name.as_str());
            let leader = now.leader.and_then(name).unwrap_or("none");
            tracing::info!(leader, me = now.is_me, term = now.term, "leadership");
            core.leadership.send_replace(now);
        }
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            // Being cut off shows by nothing happening.
            _ = ticks.tick() => {}
            changed = metrics.changed() => if changed.is_err() {
                // The engine stopped: nobody leads here any more.
                core.leadership.send_replace(Leadership::default());
                return;
            },
        }
    }
}

/// True for a member that has not heard from its leader for long: what it would forward might be done when
/// nobody waits for it any more.
async fn has_lost_its_leader(core: &Core) -> bool {
    let patience = core.config.tuning.election_max * CUT_OFF;
    let heard = core.engine.with_raft_state(|state| state.vote_last_modified()).await;
    heard.ok().flatten().is_some_and(|heard| heard.elapsed() > patience)
}

/// True for a leader since `began` that a quorum has not answered for long: another may lead by now.
fn is_cut_off(core: &Core, began: Instant) -> bool {
    let metrics = core.engine.metrics();
    let metrics = metrics.borrow_watched();
    if metrics.membership_config.voter_ids().count() <= 1 {
        return false;
    }
    let acked = metrics.last_quorum_acked.as_ref().map(|acked| **acked);
    is_silent(acked, began, core.config.tuning.election_max * CUT_OFF)
}

/// True if the last answer of a quorum is too long ago; until there is one, if the wait for it has been too long.
fn is_silent(acked: Option<Instant>, began: Instant, patience: Duration) -> bool {
    acked.unwrap_or(began).elapsed() > patience
}

/// Does what is due, until the store stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut ticks = runtime::ticks(TICK);
    let mut history = History::default();
    let mut snapshots = Snapshots::new(&core);
    for tick in 0_u64.. {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let leads = core.leader().is_me;
        if leads {
            end_leases(&core);
        }
        if tick % SAMPLE == 0 {
            history.sample(&core);
        }
        if tick % SLOW == 0 {
            snapshots.take_if_due(&core).await;
            if leads {
                history.compact_if_due(&core).await;
                core.finish_change().await;
                hand_over_if_full(&core).await;
            }
        }
    }
}

/// Removes what was compacted, a little at a time so that no write waits for it, until the store stops.
pub(crate) async fn forget(core: Arc<Core>) {
    let mut ticks = runtime::ticks(TICK);
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        while core.replica.tidy(FORGET_STEP) {
            tokio::task::yield_now().await;
        }
    }
}

fn end_leases(core: &Arc<Core>) {
    for id in core.replica.lessor.due(LEASES) {
        let core = Arc::clone(core);
        runtime::spawn(async move {
            if let Err(refusal) = core.propose_as_leader(Command::LeaseRevoke(id)).await {
                tracing::debug!(id, %refusal, "a lease could not be ended yet");
                core.replica.lessor.retry(id);
            }
        });
    }
}

/// A leader that cannot write lets another lead.
async fn hand_over_if_full(core: &Core) {
    if *core.health.borrow() == Health::Full
        && let Err(error) = core.transfer(None).await
    {
        tracing::debug!(%error, "the leader's disk is full and nobody else can lead");
    }
}

/// Which revision was the newest when.
#[derive(Default)]
struct History {
    samples: VecDeque<(Instant, u64)>,
}

impl History {
    fn sample(&mut self, core: &Core) {
        let keep = core.config.tuning.history_age;
        let now = Instant::now();
        self.samples.push_back((now, core.replica.state().revision()));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > keep) {
            self.samples.pop_front();
        }
    }

    /// Compacts what is old, and what is too much.
    async fn compact_if_due(&self, core: &Core) {
        let tuning = &core.config.tuning;
        let (revision, compacted, large) = {
            let state = core.replica.state();
            let large = state.history_within(tuning.history_bytes);
            (state.revision(), state.compact_revision(), large)
        };
        let keep = tuning.history_revisions;
        let old = self
            .samples
            .iter()
            .take_while(|(at, _)| at.elapsed() >= tuning.history_age)
            .last()
            .map_or(0, |(_, revision)| *revision);
        let much = revision.saturating_sub(keep.saturating_mul(HISTORY_FACTOR));
        let target = old.max(much).min(revision.saturating_sub(keep)).max(large);
        if target <= compacted + keep / 10 && large <= compacted {
            return;
        }
        if let Err(error) = core.propose(Command::Compact(target)).await {
            tracing::debug!(target, %error, "history was not compacted");
        }
    }
}

/// What a snapshot may be put off to, at most, in times of what the tuning says: with its defaults a start replays no more
/// than 512 MiB.
const PUT_OFF: u64 = 8;

/// Whether a snapshot is due of a state of `state_bytes`, after so many bytes and entries of log. A snapshot writes the
/// whole state, so one of a large state waits until the log is about as large: then snapshots cost no more than the log
/// did, and a start reads at most twice the state. Of a small one they cost nothing that is worth putting off.
fn is_due(tuning: &Tuning, state_bytes: u64, (bytes, entries): (u64, u64)) -> bool {
    let times = (state_bytes / tuning.snapshot_bytes.max(1)).clamp(1, PUT_OFF);
    bytes >= tuning.snapshot_bytes.saturating_mul(times)
        || entries >= tuning.snapshot_entries.saturating_mul(times)
}

/// How much was in the log when the last snapshot was asked for.
struct Snapshots {
    appended: u64,
    applied: u64,
}

impl Snapshots {
    fn new(core: &Core) -> Snapshots {
        let metrics = core.engine.metrics();
        let snapshot = metrics.borrow_watched().snapshot.as_ref().map_or(0, |id| id.index());
        Snapshots { appended: 0, applied: snapshot }
    }

    async fn take_if_due(&mut self, core: &Core) {
        let appended = core.log.size().appended;
        let applied = *core.replica.applied().borrow();
        let log = (appended.saturating_sub(self.appended), applied.saturating_sub(self.applied));
        let state_bytes = {
            let state = core.replica.state();
            state.live_bytes() + state.history_bytes()
        };
        if !is_due(&core.config.tuning, state_bytes, log) {
            return;
        }
        (self.appended, self.applied) = (appended, applied);
        if core.engine.trigger().snapshot().await.is_err() {
            tracing::debug!("the engine has stopped; no snapshot is written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_state_is_not_written_for_little() {
        let tuning = Tuning { snapshot_bytes: 100, snapshot_entries: 10, ..Tuning::default() };
        for (state_bytes, bytes, entries) in
            [(0, 100, 10), (199, 100, 10), (350, 300, 30), (800, 800, 80), (1 << 40, 800, 80)]
        {
            let due = |log| is_due(&tuning, state_bytes, log);
            assert!(!due((bytes - 1, entries - 1)), "{state_bytes}");
            assert!(due((bytes, 0)) && due((0, entries)), "{state_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_no_quorum_ever_answered_is_cut_off_after_a_while() {
        let patience = Duration::from_secs(1);
        let began = Instant::now();
        assert!(!is_silent(None, began, patience), "it has only just begun");
        tokio::time::advance(patience * 2).await;
        assert!(is_silent(None, began, patience));
        assert!(!is_silent(Some(Instant::now()), began, patience));
        assert!(is_silent(Some(began), Instant::now(), patience), "one that was answered once");
    }
}
