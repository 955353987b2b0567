//! What is known of a pod on this node. What must outlive the daemon is in the part that is written to disk.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::images::ImageHere;

/// The first pause before a container that failed again is restarted.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest such pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A container that ran for so long has not failed "again".
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// One run of a container that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub container_id: String,
    /// 0 to 255; 128 and the signal's number when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

impl Exit {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == 0
    }

    fn was_stable(&self) -> bool {
        self.started_at.is_some_and(|start| self.finished_at.duration_since(start) >= STABLE_AFTER)
    }
}

/// Why a container is not running and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// `ContainerCreating`, `PodInitializing`, `ErrImagePull`, `CreateContainerConfigError`, ...; empty: nothing is in
    /// the way.
    pub reason: String,
    pub message: Option<String>,
    /// The next attempt.
    pub retry_at: Option<Timestamp>,
}

/// The current run of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Run {
    Waiting(Wait),
    Running { container_id: String, started_at: Timestamp },
    Exited(Exit),
}

/// Where a container's image is on its way here. Known anew after a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum ImageState {
    #[default]
    Unknown,
    Pulling,
    Ready,
    Failed {
        failed_at: Timestamp,
        retry_at: Timestamp,
        reason: &'static str,
        message: String,
    },
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub run: Run,
    /// The run before this one.
    pub previous: Option<Exit>,
    pub restarts: u32,
    /// Ends in a row without a long run between them; decides the next pause.
    pub crashes: u32,
    pub image_id: String,
    /// The sandbox in which it last ran is gone: an init container's success no longer counts.
    pub lost: bool,
    /// It has started once in this sandbox: what waits for a sidecar need not wait again.
    pub passed: bool,
    #[serde(skip)]
    pub image: ImageState,
    #[serde(skip)]
    pub image_failures: u32,
    #[serde(skip)]
    pub start_failures: u32,
    /// The startup probe has succeeded, or there is none, and postStart is over.
    pub started: bool,
    /// The readiness probe says so, or there is none.
    pub ready: bool,
    /// A probe or a hook has decided that this run must end.
    #[serde(skip)]
    pub doomed: Option<String>,
    /// It was told to end.
    #[serde(skip)]
    pub stopping: bool,
}

impl Default for ContainerState {
    fn default() -> Self {
        Self {
            run: Run::Waiting(Wait::default()),
            previous: None,
            restarts: 0,
            crashes: 0,
            image_id: String::new(),
            lost: false,
            passed: false,
            image: ImageState::Unknown,
            image_failures: 0,
            start_failures: 0,
            started: false,
            ready: false,
            doomed: None,
            stopping: false,
        }
    }
}

impl ContainerState {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. })
    }

    /// The end of the current run, if it is over.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.run {
            Run::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Notes that the container ended.
    pub(crate) fn ended(&mut self, exit: Exit) {
        self.crashes = if exit.was_stable() { 1 } else { self.crashes.saturating_add(1) };
        self.run = Run::Exited(exit);
        self.image = ImageState::Unknown;
        self.started = false;
        self.ready = false;
        self.doomed = None;
        self.stopping = false;
    }

    /// When a container whose run is over may be started again: at once the first time, then after 10 s,
    /// doubling up to 5 min, and at once again after a run of 10 min.
    pub(crate) fn restart_at(&self) -> Option<Timestamp> {
        let exit = self.exit()?;
        Some(after(exit.finished_at, self.pause()))
    }

    /// The pause before the next restart; zero the first time.
    pub(crate) fn pause(&self) -> Duration {
        match self.crashes {
            0 | 1 => Duration::ZERO,
            more => back_off(FIRST_PAUSE, LONGEST_PAUSE, more - 2),
        }
    }

    /// Notes that the container runs.
    pub(crate) fn began(&mut self, container_id: String, started_at: Timestamp) {
        self.run = Run::Running { container_id, started_at };
        self.lost = false;
        self.start_failures = 0;
        self.image_failures = 0;
    }

    /// Makes room for the next run: the last end becomes the previous one.
    pub(crate) fn next_run(&mut self) {
        if let Run::Exited(exit) = &self.run {
            self.previous = Some(exit.clone());
            self.restarts = self.restarts.saturating_add(1);
            self.run = Run::Waiting(Wait::default());
        }
    }
}

/// `first` doubled `times` times, at most `longest`.
pub(crate) fn back_off(first: Duration, longest: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest)
}

/// The moment `wait` after `at`.
pub(crate) fn after(at: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| at.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The pod's shared namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum SandboxState {
    /// There is none; the last attempt to make one may have failed.
    #[default]
    Absent,
    Failed {
        retry_at: Timestamp,
    },
    Ready,
}

/// The order to end a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StopOrder {
    /// How long its containers may take.
    pub grace: Duration,
    /// Whether the pod goes away, or only its containers (it failed, and its object stays).
    pub delete: bool,
}

/// Why a pod as a whole has failed, for its status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub reason: String,
    pub message: String,
}

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodState {
    pub containers: BTreeMap<String, ContainerState>,
    pub ip: Option<Ipv4Addr>,
    pub start_time: Option<Timestamp>,
    pub failure: Option<Failure>,
    /// The images of its containers, by container.
    #[serde(default)]
    pub images: BTreeMap<String, ImageHere>,
    /// It has, or may have had under an earlier daemon, an address of the node, which is nobody else's until it is given
    /// back; `ip` stays when it is.
    #[serde(skip)]
    pub holds_address: bool,
    #[serde(skip)]
    pub sandbox: SandboxState,
    #[serde(skip)]
    pub sandbox_failures: u32,
    #[serde(skip)]
    pub stop: Option<StopOrder>,
}

impl PodState {
    /// The container's state; one that was never seen has the state of a new one.
    pub(crate) fn container(&self, name: &str) -> ContainerState {
        self.containers.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> &mut ContainerState {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// The sandbox and all that ran in it are gone: runs that were under way have ended unseen.
    pub(crate) fn sandbox_lost(&mut self, now: Timestamp) {
        self.sandbox = SandboxState::Absent;
        for state in self.containers.values_mut() {
            state.lost = true;
            state.passed = false;
            if let Run::Running { container_id, started_at } = &state.run {
                let exit = Exit {
                    container_id: container_id.clone(),
                    code: 137,
                    signal: None,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message: Some("The container was lost with its sandbox".to_owned()),
                    started_at: Some(*started_at),
                    finished_at: now,
                };
                state.ended(exit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(start: i64, end: i64) -> Exit {
        Exit {
            container_id: "c".into(),
            code: 1,
            signal: None,
            reason: "Error".into(),
            message: None,
            started_at: Timestamp::from_second(start).ok(),
            finished_at: Timestamp::from_second(end).unwrap(),
        }
    }

    #[test]
    fn the_pause_doubles_from_ten_seconds_to_five_minutes() {
        let mut state = ContainerState::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                state.ended(exit(0, 1));
                let pause = state.pause().as_secs();
                state.next_run();
                pause
            })
            .collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(state.restarts, 9);
    }

    #[test]
    fn ten_minutes_of_running_forget_the_past() {
        let mut state = ContainerState { crashes: 6, ..ContainerState::default() };
        state.ended(exit(0, 600));
        assert_eq!(state.restart_at(), Timestamp::from_second(600).ok());
        state.ended(exit(0, 599));
        assert_eq!(state.restart_at(), Timestamp::from_second(609).ok());
    }

    #[test]
    fn a_lost_sandbox_ends_what_ran_in_it() {
        let mut state = PodState::default();
        state.container_mut("a").began("id".into(), Timestamp::UNIX_EPOCH);
        state.sandbox_lost(Timestamp::from_second(5).unwrap());
        let ended = state.container("a");
        assert_eq!(ended.exit().map(|exit| exit.code), Some(137));
        assert!(ended.lost);
    }
}
