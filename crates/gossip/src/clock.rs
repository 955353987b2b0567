//! Timers on a clock that only runs while this process does: time in which it was not scheduled does not count against
//! others. And the local health that widens time-outs after it happened.

use std::collections::BTreeMap;

/// Timers by deadline, in milliseconds of the lived clock.
pub(crate) struct Timers<T> {
    queue: BTreeMap<(u64, u64), T>,
    sequence: u64,
    /// How far the lived clock is behind the real one.
    lost: u64,
    slack: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new(slack: u64) -> Self {
        Self { queue: BTreeMap::new(), sequence: 0, lost: 0, slack }
    }

    /// Takes note of the real time. Gives how many milliseconds this process was held up, if it was for longer than the slack.
    pub(crate) fn observe(&mut self, now: u64) -> Option<u64> {
        let (deadline, _) = *self.queue.keys().next()?;
        let late = self.lived(now).saturating_sub(deadline);
        if late <= self.slack {
            return None;
        }
        self.lost += late;
        Some(late)
    }

    pub(crate) fn lived(&self, now: u64) -> u64 {
        now.saturating_sub(self.lost)
    }

    /// In `after` milliseconds from the real time `now`. Those of equal deadline fire in the order they were set.
    pub(crate) fn set(&mut self, now: u64, after: u64, timer: T) {
        self.sequence += 1;
        self.queue.insert((self.lived(now) + after, self.sequence), timer);
    }

    pub(crate) fn pop(&mut self, now: u64) -> Option<T> {
        let lived = self.lived(now);
        let first = self.queue.first_entry().filter(|first| first.key().0 <= lived)?;
        Some(first.remove())
    }

    /// The real time of the next one.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.keys().next().map(|(deadline, _)| deadline + self.lost)
    }
}

/// How well this process itself does: 0 is well, 8 is worst.
#[derive(Debug, Default)]
pub(crate) struct Health(u64);

impl Health {
    const WORST: u64 = 8;

    pub(crate) fn held_up(&mut self, late_ms: u64) {
        self.0 = (self.0 + 1 + late_ms / 250).min(Self::WORST);
    }

    /// A probe failed, and nobody else was heard meanwhile: perhaps it is us.
    pub(crate) fn deaf(&mut self) {
        self.0 = (self.0 + 1).min(Self::WORST);
    }

    pub(crate) fn well(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// A time-out as long as it should be now: up to three times.
    pub(crate) fn widen(&self, ms: u64) -> u64 {
        ms + ms * self.0 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_lost_does_not_count() {
        let mut timers = Timers::new(50);
        timers.set(1000, 100, "a");
        timers.set(1000, 300, "b");
        assert_eq!(timers.observe(1090), None);
        assert_eq!(timers.observe(1140), None, "within the slack");
        assert_eq!(timers.pop(1140), Some("a"));
        assert_eq!(timers.observe(5000), Some(3700), "held up between 1300 and 5000");
        assert_eq!(timers.pop(5000), Some("b"), "it is due, but no later than that");
        timers.set(5000, 100, "c");
        assert_eq!(timers.next(), Some(5100));
        assert_eq!(timers.pop(5099), None);
        assert_eq!(timers.pop(5100), Some("c"));
    }

    #[test]
    fn timers_that_were_overdue_keep_their_distance() {
        let mut timers = Timers::new(50);
        timers.set(0, 100, "probe");
        timers.set(0, 400, "verdict");
        timers.observe(2000);
        assert_eq!(timers.pop(2000), Some("probe"));
        assert_eq!(timers.pop(2000), None, "the verdict waits for its own 300 ms");
        assert_eq!(timers.next(), Some(2300));
    }

    #[test]
    fn bad_health_widens_and_heals() {
        let mut health = Health::default();
        assert_eq!(health.widen(1000), 1000);
        health.held_up(5000);
        assert_eq!(health.widen(1000), 3000);
        for _ in 0..8 {
            health.well();
        }
        health.deaf();
        assert_eq!(health.widen(1000), 1250);
    }
}
