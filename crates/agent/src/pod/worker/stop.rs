//! Ends a container: its hook, the signal it wants, and the kill when its grace is over.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{Note, Worker, leave};
use crate::pod::spec::{all_containers, grace, grace_seconds};
use crate::probe::ask::{Asked, Question};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// A container gets at least this long after its hook.
const AFTER_HOOK: Duration = Duration::from_secs(2);
/// Between kills of what does not die.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// When a container's grace is over.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Deadline {
    /// It was given none: it is killed without a word.
    AtOnce,
    At(Instant),
}

impl Deadline {
    fn after(grace: Duration) -> Self {
        if grace.is_zero() {
            return Self::AtOnce;
        }
        let now = Instant::now();
        // Beyond the clock there is no deadline; a shorter one may be given later.
        Self::At(now.checked_add(grace).unwrap_or_else(|| now + BEYOND))
    }
}

/// As good as never.
const BEYOND: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A container on its way to its end.
pub(super) struct StopTask {
    deadline: watch::Sender<Deadline>,
    _task: AbortOnDropHandle<()>,
}

impl StopTask {
    /// Makes the grace no longer than this from now.
    pub(super) fn shorten(&self, grace: Duration) {
        let earlier = Deadline::after(grace);
        self.deadline.send_if_modified(|deadline| {
            let shorter = earlier < *deadline;
            if shorter {
                *deadline = earlier;
            }
            shorter
        });
    }
}

impl Worker {
    pub(super) fn stop(&mut self, name: &str) {
        let own = self.state.container_mut(name);
        own.stopping = true;
        let (doomed, order) = (own.doomed.clone(), self.state.stop.clone());
        let message = match (&order, doomed) {
            (None, Some(why)) => why,
            _ => format!("Stopping container {name}"),
        };
        self.event(false, "Killing", message, Some(name));
        let Some(asked) = self.asked(name) else { return };
        let pod = self.pod.clone();
        let container = all_containers(&pod).find(|c| c.name == name);
        // One that is restarted stays in its services.
        let leaves = order.as_ref().is_some_and(|order| order.delete);
        let grace = order.map_or_else(|| self.grace_of(name), |order| order.grace);
        let lifecycle = container.and_then(|c| c.lifecycle.as_ref());
        let hook = container
            .zip(lifecycle.and_then(|l| l.pre_stop.as_ref()))
            .map(|(container, hook)| Question::of_hook(container, hook, asked.address));
        let named = lifecycle
            .and_then(|l| l.stop_signal.as_deref())
            .or_else(|| self.state.images.get(name).and_then(|image| image.stop_signal.as_deref()));
        let signal = named.and_then(signal_number).unwrap_or(SIGTERM);
        let (deadline, until) = watch::channel(Deadline::after(grace));
        let tasks = self.tasks.entry(name.to_owned()).or_default();
        tasks.hook = None;
        let notes = self.notes.clone();
        let left = leave::services(self.id.uid.clone(), self.shared.assignments.clone());
        let ending = async move {
            if leaves {
                // Half of the grace is the program's own, whatever becomes of the services.
                drop(tokio::time::timeout(grace / 2, unless_passed(&until, left)).await);
            }
            let ending = Ending { asked, signal, deadline: until };
            ending.run(hook, notes).await;
        };
        let task = AbortOnDropHandle::new(tokio::spawn(ending));
        tasks.stop = Some(StopTask { deadline, _task: task });
    }

    /// How long a container may take that is restarted: its failed probe's word, else the pod's.
    fn grace_of(&self, name: &str) -> Duration {
        let container = all_containers(&self.pod).find(|c| c.name == name);
        let own = container.and_then(|c| {
            let probe = c.liveness_probe.as_ref().or(c.startup_probe.as_ref())?;
            probe.termination_grace_period_seconds
        });
        own.and_then(grace_seconds).unwrap_or_else(|| grace(&self.pod))
    }
}

/// The end of one container.
struct Ending {
    asked: Asked,
    signal: i32,
    deadline: watch::Receiver<Deadline>,
}

impl Ending {
    /// Ends the container; runs until it is dropped because the container ended.
    async fn run(mut self, hook: Option<Question>, notes: mpsc::UnboundedSender<Note>) {
        let hooked = hook.is_some();
        if let Some(hook) = hook.filter(|_| !self.is_at_once())
            && let Err(problem) = self.ask(&hook).await
        {
            let container_id = self.asked.container_id.clone();
            // The pod's task may be over already.
            drop(notes.send(Note::PreStopFailed { container_id, problem }));
        }
        let least = Instant::now() + AFTER_HOOK;
        if !self.is_at_once() {
            self.signal().await;
            passed(&mut self.deadline).await;
        }
        if hooked && !self.is_at_once() {
            // The hook may have used up all of the grace; the program has its own part all the same.
            tokio::select! {
                () = sleep_until(least) => {}
                _ = self.deadline.wait_for(|deadline| *deadline == Deadline::AtOnce) => {}
            }
        }
        self.kill().await;
    }

    async fn ask(&mut self, hook: &Question) -> Result<(), String> {
        tokio::select! {
            outcome = hook.ask(&self.asked, Duration::MAX) => outcome,
            () = passed(&mut self.deadline) => {
                Err("it was not done when the grace period was over".to_owned())
            }
        }
    }

    fn is_at_once(&self) -> bool {
        *self.deadline.borrow() == Deadline::AtOnce
    }

    async fn signal(&self) {
        let Asked { cell, container_id, .. } = &self.asked;
        if let Err(error) = cell.kill(container_id, self.signal).await {
            debug!(container = container_id, %error, "signalling a container");
        }
    }

    async fn kill(&self) {
        let Asked { cell, container_id, .. } = &self.asked;
        loop {
            if let Err(error) = cell.kill_all(container_id, SIGKILL).await {
                debug!(container = container_id, %error, "killing a container");
            }
            tokio::time::sleep(KILL_AGAIN).await;
        }
    }
}

/// Waits for something, but not beyond the deadline.
async fn unless_passed(deadline: &watch::Receiver<Deadline>, what: impl Future<Output = ()>) {
    let mut deadline = deadline.clone();
    tokio::select! {
        () = what => {}
        () = passed(&mut deadline) => {}
    }
}

/// Waits for the deadline, also if it is brought forward meanwhile.
async fn passed(deadline: &mut watch::Receiver<Deadline>) {
    loop {
        let Deadline::At(at) = *deadline.borrow_and_update() else { return };
        tokio::select! {
            () = sleep_until(at) => return,
            changed = deadline.changed() => {
                if changed.is_err() {
                    return sleep_until(at).await;
                }
            }
        }
    }
}

/// The number of a signal by its number or name, with or without `SIG`.
fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN+") {
        return offset.parse::<i32>().ok().filter(|n| (0..=30).contains(n)).map(|n| 34 + n);
    }
    full.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_by_name_and_number() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("65", None),
            ("nonsense", None),
        ] {
            assert_eq!(signal_number(name), expected, "{name}");
        }
    }
}
