//! Writers and askers that never rest while machines fail, and what they met.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::world::{World, answering_pod};

/// Requests in one go of an asker.
const BURST: usize = 20;
/// Loads so far: each writes under names of its own.
static LOADS: AtomicUsize = AtomicUsize::new(0);

/// What is done all the time at one machine, until it is stopped.
pub(super) struct Load<'w> {
    world: &'w World,
    at: &'static str,
    asker: String,
    stop: AtomicBool,
    /// From here on no request may fail.
    strict: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Those of the strict time.
    strictly_answered: AtomicUsize,
    strictly_failed: AtomicUsize,
}

impl<'w> Load<'w> {
    /// Writes go through the machine `at`, requests come from the pod `asker`.
    pub(super) fn new(world: &'w World, at: &'static str, asker: &str) -> Self {
        Self {
            world,
            at,
            asker: asker.to_owned(),
            stop: AtomicBool::new(false),
            strict: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            strictly_answered: AtomicUsize::new(0),
            strictly_failed: AtomicUsize::new(0),
        }
    }

    /// Keeps writing and asking while `f` runs. Answers what it answers and the longest time in which no write was
    /// acknowledged.
    pub(super) fn during<T>(&self, f: impl FnOnce() -> T) -> (T, Duration) {
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&self.stop);
            let writer = scope.spawn(|| self.write());
            scope.spawn(|| self.ask());
            let done = f();
            self.stop.store(true, Ordering::Relaxed);
            (done, writer.join().unwrap())
        })
    }

    fn write(&self) -> Duration {
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            match self.world.write(self.at, &format!("load-{load}-{number}"), 10) {
                Ok(()) => {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
                Err(_) => std::thread::yield_now(),
            }
        }
        gap.max(last.elapsed())
    }

    fn ask(&self) {
        let times = BURST.to_string();
        let get = ["/pontoon", "hello", "get", "http://hello/", "--times", &times];
        while !self.stop.load(Ordering::Relaxed) {
            let strict = self.strict.load(Ordering::Relaxed);
            let words = [&["exec", &self.asker, "--"][..], &get[..]].concat();
            let done = self.world.on(self.at, &words);
            let answered = done.out.lines().filter_map(answering_pod).count();
            let failed = done.out.lines().filter(|line| line.starts_with("error:")).count();
            self.answered.fetch_add(answered, Ordering::Relaxed);
            self.failed.fetch_add(failed, Ordering::Relaxed);
            if strict {
                self.strictly_answered.fetch_add(answered, Ordering::Relaxed);
                self.strictly_failed.fetch_add(failed, Ordering::Relaxed);
            }
        }
    }

    /// From the next burst on no request may fail.
    pub(super) fn be_strict(&self) {
        self.strict.store(true, Ordering::Relaxed);
    }

    /// Requests that were answered, and that failed, so far.
    pub(super) fn asked(&self) -> (usize, usize) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// The same since no request may fail.
    pub(super) fn strictly_asked(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (load(&self.strictly_answered), load(&self.strictly_failed))
    }
}

/// Ends the threads also when a test fails, or its scope would wait for them for ever.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
