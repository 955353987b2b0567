//! Ends a container: its hook, the signal it wants, and the kill when its grace is over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{Worker, leave};
use crate::pod::spec::{all_containers, grace};
use crate::probe::ask::{Asked, Question};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// A container gets at least this long after its hook, in seconds.
const AFTER_HOOK: Duration = Duration::from_secs(2);
/// Between kills of what does not die.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// A container on its way to its end.
pub(super) struct StopTask {
    deadline: watch::Sender<Instant>,
    _task: AbortOnDropHandle<()>,
}

impl StopTask {
    /// Makes the grace no longer than this from now.
    pub(super) fn shorten(&self, grace: Duration) {
        let earlier = Instant::now() + grace;
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
        let (deadline, until) = watch::channel(Instant::now() + grace);
        let tasks = self.tasks.entry(name.to_owned()).or_default();
        tasks.hook = None;
        let left = leave::services(self.id.uid.clone(), self.shared.assignments.clone());
        let ending = async move {
            if leaves {
                // Half of the grace is the program's own, whatever becomes of the services.
                drop(tokio::time::timeout(grace / 2, unless_passed(&until, left)).await);
            }
            end(asked, hook, signal, until).await;
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
        own.and_then(|seconds| u64::try_from(seconds).ok())
            .map_or_else(|| grace(&self.pod), Duration::from_secs)
    }
}

/// Ends the container; runs until it is dropped because the container ended.
async fn end(
    asked: Asked,
    hook: Option<Question>,
    signal: i32,
    mut deadline: watch::Receiver<Instant>,
) {
    if let Some(hook) = hook {
        tokio::select! {
            outcome = hook.ask(&asked, Duration::MAX) => {
                if let Err(problem) = outcome {
                    debug!(container = asked.container_id, problem, "preStop hook failed");
                }
            }
            () = passed(&mut deadline) => {}
        }
        // Shortens nothing: the hook may have used up all of the grace.
        let least = Instant::now() + AFTER_HOOK;
        if *deadline.borrow() < least && !is_immediate(&deadline) {
            kill(&asked, signal).await;
            sleep_until(least).await;
        }
    }
    if !is_immediate(&deadline) {
        kill(&asked, signal).await;
        passed(&mut deadline).await;
    }
    loop {
        if let Err(error) = asked.cell.kill_all(&asked.container_id, SIGKILL).await {
            debug!(container = asked.container_id, %error, "killing a container");
        }
        tokio::time::sleep(KILL_AGAIN).await;
    }
}

fn is_immediate(deadline: &watch::Receiver<Instant>) -> bool {
    *deadline.borrow() <= Instant::now()
}

async fn kill(asked: &Asked, signal: i32) {
    if let Err(error) = asked.cell.kill(&asked.container_id, signal).await {
        debug!(container = asked.container_id, %error, "signalling a container");
    }
}

/// Waits for something, but not beyond the deadline.
async fn unless_passed(deadline: &watch::Receiver<Instant>, what: impl Future<Output = ()>) {
    let mut deadline = deadline.clone();
    tokio::select! {
        () = what => {}
        () = passed(&mut deadline) => {}
    }
}

/// Waits for the deadline, also if it is brought forward meanwhile.
async fn passed(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
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
