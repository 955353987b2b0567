//! Where the store gets time, chance and tasks from. It is tokio; in tests a simulated host can stand
//! in for it, with a clock of its own, chance from a seed, and a death that ends all its tasks.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use openraft::impls::TokioRuntime;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Interval, MissedTickBehavior, Sleep, Timeout};

#[cfg(test)]
use crate::simulation::host;
#[cfg(test)]
pub(crate) use crate::simulation::watch;
#[cfg(not(test))]
pub(crate) use tokio::sync::watch;

/// The real thing: a process on a machine.
#[cfg(not(test))]
mod host {
    use std::future::Future;
    use std::time::Duration;

    use openraft::async_runtime::AsyncRuntime;
    use openraft::impls::TokioRuntime;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    pub(super) type Rng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    pub(super) type Watch = <TokioRuntime as AsyncRuntime>::Watch;

    pub(super) fn now() -> Instant {
        Instant::now()
    }

    pub(super) fn until(at: Instant) -> Instant {
        at
    }

    pub(super) fn lasting(time: Duration) -> Duration {
        time
    }

    pub(super) fn rng() -> Rng {
        TokioRuntime::thread_rng()
    }

    pub(super) fn number() -> u64 {
        rand::random()
    }

    pub(super) fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(future)
    }

    pub(super) fn spawn_blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        tokio::task::spawn_blocking(work)
    }
}

/// A moment on this member's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(tokio::time::Instant);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(host::now())
    }

    /// Time since then; zero if it is still to come.
    pub(crate) fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, time: Duration) -> Instant {
        Instant(self.0 - time)
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl openraft::Instant for Instant {
    fn now() -> Instant {
        Instant::now()
    }
}

/// Starts a task.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    host::spawn(future)
}

/// Runs what blocks away from the tasks.
pub(crate) fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    host::spawn_blocking(work)
}

pub(crate) fn sleep(time: Duration) -> Sleep {
    tokio::time::sleep(host::lasting(time))
}

pub(crate) fn sleep_until(at: Instant) -> Sleep {
    tokio::time::sleep_until(host::until(at.0))
}

/// Has a sleep that is kept end at another time.
pub(crate) fn reset(sleep: std::pin::Pin<&mut Sleep>, at: Instant) {
    sleep.reset(host::until(at.0));
}

pub(crate) fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    tokio::time::timeout(host::lasting(time), future)
}

pub(crate) fn timeout_at<F: Future>(at: Instant, future: F) -> Timeout<F> {
    tokio::time::timeout_at(host::until(at.0), future)
}

/// Ticks, the first at once; one that comes late moves those after it.
pub(crate) fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(host::lasting(every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A random number.
pub(crate) fn number() -> u64 {
    host::number()
}

/// The runtime as the consensus engine sees it.
pub(crate) struct Runtime(TokioRuntime);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = host::Rng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = host::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        sleep(duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Instant,
        future: F,
    ) -> Timeout<F> {
        timeout_at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> host::Rng {
        host::rng()
    }

    fn new(threads: usize) -> Runtime {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(work: F) -> Result<T, std::io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking(work).await.map_err(std::io::Error::other)
    }
}
