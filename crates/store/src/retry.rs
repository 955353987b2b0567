//! Trying again until there is a leader, and no longer than was agreed.

use std::time::Duration;

use crate::member::Leadership;
use crate::runtime::{self, Instant, watch};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

/// How long to wait between attempts, and when to give up.
pub(crate) struct Retry {
    began: Instant,
    deadline: Instant,
    pause: Duration,
    leadership: watch::Receiver<Leadership>,
}

impl Retry {
    pub(crate) fn new(timeout: Duration, leadership: watch::Receiver<Leadership>) -> Retry {
        let began = Instant::now();
        Retry { began, deadline: began + timeout, pause: FIRST, leadership }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Milliseconds since the first attempt.
    pub(crate) fn waited_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits before the next attempt, less long if the leader changes; false if it is time to give
    /// up.
    pub(crate) async fn pause(&mut self) -> bool {
        let until = Instant::now() + self.pause;
        if until >= self.deadline {
            return false;
        }
        self.pause = (self.pause * 2).min(LONGEST);
        self.leadership.mark_unchanged();
        tokio::select! {
            biased;
            () = runtime::sleep_until(until) => {}
            changed = self.leadership.changed() => {
                if changed.is_err() {
                    return false;
                }
                self.pause = FIRST;
            }
        }
        true
    }
}
