//! A simulated host: one life of one process. It has a clock, chance, a disk, and tasks that stop when it
//! is paused and end when it dies.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::async_runtime::AsyncRuntime;
use openraft::impls::TokioRuntime;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::dice::Dice;
use super::disk::Disk;

thread_local! {
    /// The host whose code runs now.
    static HERE: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

fn here() -> Option<Arc<Host>> {
    HERE.with_borrow(Clone::clone)
}

/// The disk of the host whose code runs.
pub(super) fn disk_here() -> Option<Arc<Disk>> {
    HERE.with_borrow(|host| host.as_ref().map(|host| Arc::clone(&host.disk)))
}

/// True for code that runs on a simulated host.
pub(crate) fn is_simulated() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// A monotonic clock that may run too fast or too slow.
#[derive(Debug)]
pub(crate) struct Clock {
    pieces: Mutex<Vec<Piece>>,
}

/// From `at` on the clock ran at `ppm` millionths of the true speed, and showed `shows` then.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: Instant,
    shows: Instant,
    ppm: u64,
}

const TRUE: u64 = 1_000_000;

fn scaled(time: Duration, by: u64, of: u64) -> Duration {
    let nanos = time.as_nanos() * u128::from(by) / u128::from(of);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
}

impl Clock {
    pub(crate) fn new() -> Arc<Clock> {
        let now = Instant::now();
        Arc::new(Clock { pieces: Mutex::new(vec![Piece { at: now, shows: now, ppm: TRUE }]) })
    }

    fn pieces(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Piece {
        *self.pieces().last().expect("there always is one")
    }

    /// What it shows at a true time that is not before the last change of speed.
    fn shows(&self, now: Instant) -> Instant {
        let Piece { at, shows, ppm } = self.last();
        shows + scaled(now.saturating_duration_since(at), ppm, TRUE)
    }

    /// The true time at which it will show `shown`.
    fn true_time(&self, shown: Instant) -> Instant {
        let Piece { at, shows, ppm } = self.last();
        match shown.saturating_duration_since(shows) {
            Duration::ZERO => at,
            left => at + scaled(left, TRUE, ppm) + Duration::from_nanos(u64::from(ppm != TRUE)),
        }
    }

    /// Lets the clock run at `ppm` millionths of the true speed from now on.
    pub(crate) fn run_at(&self, ppm: u64) {
        let now = Instant::now();
        let shows = self.shows(now);
        self.pieces().push(Piece { at: now, shows, ppm });
    }

    /// The true time at which `time` has passed on this clock since the true time `from`, if it has.
    pub(crate) fn after(&self, from: Instant, time: Duration) -> Option<Instant> {
        let pieces = self.pieces();
        let mut left = time;
        for (piece, next) in pieces.iter().zip(pieces.iter().skip(1).map(Some).chain([None])) {
            let start = piece.at.max(from);
            if next.is_some_and(|next| next.at <= start) {
                continue;
            }
            let needs = scaled(left, TRUE, piece.ppm);
            match next {
                Some(next) if start + needs > next.at => {
                    left = left.saturating_sub(scaled(next.at - start, piece.ppm, TRUE));
                }
                _ => return Some(start + needs),
            }
        }
        None
    }
}

/// One life of a process on a machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: u64,
    pub(crate) disk: Arc<Disk>,
    pub(crate) clock: Arc<Clock>,
    dice: Mutex<Dice>,
    dead: AtomicBool,
    /// Died without a word to those it was connected with, as by power loss.
    pub(crate) silent: AtomicBool,
    pub(crate) died: Notify,
    paused: Mutex<Option<Vec<Waker>>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Host {
    pub(crate) fn new(id: u64, disk: Arc<Disk>, clock: Arc<Clock>, dice: Dice) -> Arc<Host> {
        Arc::new(Host {
            id,
            disk,
            clock,
            dice: Mutex::new(dice),
            dead: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            died: Notify::new(),
            paused: Mutex::new(None),
            tasks: Mutex::default(),
        })
    }

    /// Starts a task on this host.
    pub(crate) fn spawn<F>(self: &Arc<Host>, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let task = OnHost { host: Arc::clone(self), inner: Box::pin(future) };
        let handle = tokio::spawn(task);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() > 512 {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(handle.abort_handle());
        handle
    }

    /// Ends the process between one instruction and the next.
    pub(crate) fn die(&self, silent: bool) {
        self.silent.fetch_or(silent, Ordering::Relaxed);
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        self.died.notify_waiters();
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.resume();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Returns when the host has died.
    pub(crate) async fn death(&self) {
        let died = self.died.notified();
        if !self.is_dead() {
            died.await;
        }
    }

    /// Stops the process (SIGSTOP); its clock and its connections go on.
    pub(crate) fn pause(&self) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.get_or_insert_default();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        let waiting = self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct OnHost<F> {
    host: Arc<Host>,
    inner: Pin<Box<F>>,
}

/// Puts back what was here before, a panic included.
struct Before(Option<Arc<Host>>);

impl Drop for Before {
    fn drop(&mut self) {
        let before = self.0.take();
        HERE.with_borrow_mut(|here| *here = before);
    }
}

impl<F: Future> Future for OnHost<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if this.host.is_dead() {
            return Poll::Pending;
        }
        if let Some(waiting) =
            this.host.paused.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let host = Arc::clone(&this.host);
        let _before = Before(HERE.with_borrow_mut(|here| here.replace(host)));
        let polled = this.inner.as_mut().poll(cx);
        // What it says as it dies is not heard.
        if this.host.is_dead() { Poll::Pending } else { polled }
    }
}

/// Chance on a host, or of the thread elsewhere.
pub(crate) enum Rng {
    Host(Arc<Host>),
    Thread(<TokioRuntime as AsyncRuntime>::ThreadLocalRng),
}

impl rand10::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Rng::Host(host) => Ok(host.dice().next()),
            Rng::Thread(rng) => rng.try_next_u64(),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

pub(crate) use super::watch::InOrder as Watch;

pub(crate) fn now() -> Instant {
    let now = Instant::now();
    HERE.with_borrow(|host| host.as_ref().map_or(now, |host| host.clock.shows(now)))
}

pub(crate) fn until(at: Instant) -> Instant {
    HERE.with_borrow(|host| host.as_ref().map_or(at, |host| host.clock.true_time(at)))
}

pub(crate) fn lasting(time: Duration) -> Duration {
    let ppm = HERE.with_borrow(|host| host.as_ref().map_or(TRUE, |host| host.clock.last().ppm));
    scaled(time, TRUE, ppm)
}

pub(crate) fn rng() -> Rng {
    here().map_or_else(|| Rng::Thread(TokioRuntime::thread_rng()), Rng::Host)
}

pub(crate) fn number() -> u64 {
    here().map_or_else(rand::random, |host| host.dice().next())
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match here() {
        Some(host) => host.spawn(future),
        None => tokio::spawn(future),
    }
}

pub(crate) fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match here() {
        Some(host) => host.spawn(async move {
            tokio::time::sleep(super::disk::latency()).await;
            work()
        }),
        None => tokio::task::spawn_blocking(work),
    }
}

/// A choice of the host whose code runs.
pub(super) fn choice(range: std::ops::Range<u64>) -> u64 {
    here().map_or(range.start, |host| host.dice().between(range))
}

/// The host whose code runs dies of power loss.
pub(super) fn lose_power() {
    if let Some(host) = here() {
        host.die(true);
    }
}
