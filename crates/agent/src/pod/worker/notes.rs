//! What comes to a pod's task from beside: ends of containers, pulled images, findings of probes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pontoon_container::Exit as RuntimeExit;
use rustix::fs::{Mode, OFlags};
use tracing::{debug, warn};

use super::Worker;
use crate::images::{Ensured, NoImage, PullPolicy};
use crate::logs::tail_for_message;
use crate::pod::pull_secrets::pull_secrets;
use crate::pod::record::{container_id, parse_container_id};
use crate::pod::spec::{all_containers, init_containers, init_rule, main_rule};
use crate::pod::state::{
    Exit, FIRST_PAUSE, Failure, ImageState, LONGEST_PAUSE, SandboxState, StopOrder, after, back_off,
};
use crate::probe::verdict::Kind;
use crate::probe::watch::Finding;

/// As much of a termination message as is kept, in bytes: its end.
const MOST_MESSAGE_BYTES: u64 = 4096;

/// Something that a pod's task should know.
#[derive(Debug)]
pub(crate) enum Note {
    /// A container ended; the id is the one in its sandbox.
    Exited { container_id: String, exit: RuntimeExit },
    /// The sandbox's shim is dead, and all in it.
    SandboxDied,
    /// Notes were lost: look at what is there.
    Look,
    /// An image is here, or not.
    Pulled { container: String, took: Duration, result: Result<Box<Ensured>, NoImage> },
    /// A probe's answer.
    Found { container_id: String, finding: Finding },
    /// The pod must end for the node's sake, perhaps without any grace.
    Evicted { failure: Failure, at_once: bool },
    /// A preStop hook failed; the container ends all the same.
    PreStopFailed { container_id: String, problem: String },
    /// A postStart hook is over.
    Hooked { container_id: String, problem: Option<String> },
}

impl Worker {
    pub(super) async fn take_note(&mut self, note: Note) {
        match note {
            Note::Exited { container_id, exit } => self.exited(&container_id, &exit),
            Note::SandboxDied => self.sandbox_died().await,
            Note::Look => self.look().await,
            Note::Pulled { container, took, result } => self.pulled(&container, took, result),
            Note::Found { container_id, finding } => self.found(&container_id, finding),
            Note::Evicted { failure, at_once } => self.evicted(failure, at_once),
            Note::PreStopFailed { container_id, problem } => {
                self.pre_stop_failed(&container_id, &problem);
            }
            Note::Hooked { container_id, problem } => self.hooked(&container_id, problem),
        }
    }

    /// The container whose present run has this id and is running.
    fn running(&self, id: &str) -> Option<String> {
        let (name, restarts) = parse_container_id(id)?;
        let own = self.state.containers.get(name)?;
        (own.is_running() && own.restarts == restarts).then(|| name.to_owned())
    }

    pub(super) fn exited(&mut self, id: &str, exit: &RuntimeExit) {
        let Some(name) = self.running(id) else { return };
        self.tasks.remove(&name);
        let own = self.state.container(&name);
        let started_at = match &own.run {
            crate::pod::state::Run::Running { started_at, .. } => Some(*started_at),
            _ => None,
        };
        let reason = match exit.code {
            _ if exit.oom_killed => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        let exit = Exit {
            container_id: self.shown_id(&name, own.restarts),
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message: self.termination_message(&name, own.restarts, exit.code != 0),
            started_at,
            finished_at: Timestamp::try_from(exit.at).unwrap_or_else(|_| self.shared.now()),
        };
        self.ended(&name, exit);
    }

    /// Notes the end of a run, and says so when a pause follows.
    pub(super) fn ended(&mut self, name: &str, exit: Exit) {
        let succeeded = exit.succeeded();
        let own = self.state.container_mut(name);
        own.ended(exit);
        let pause = own.pause();
        let pod = self.pod.clone();
        let init = init_containers(&pod).iter().find(|c| c.name == name);
        let main = crate::pod::spec::containers(&pod).iter().find(|c| c.name == name);
        let rule = init.map(|c| init_rule(&pod, c)).or_else(|| main.map(|c| main_rule(&pod, c)));
        let again = rule.is_some_and(|rule| rule.restarts_after(succeeded));
        if again && !pause.is_zero() && self.state.stop.is_none() {
            let message = format!("Back-off restarting failed container {name} in pod {}", self.id);
            self.event(true, "BackOff", message, Some(name));
        }
    }

    /// What the program left as its last words, by the container's policy.
    fn termination_message(&self, name: &str, restarts: u32, failed: bool) -> Option<String> {
        let container = all_containers(&self.pod).find(|c| c.name == name)?;
        let bytes = last_words(&self.dirs.termination_message(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let by_log =
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let text = if text.is_empty() && by_log && failed {
            tail_for_message(&self.dirs.log(name, restarts))
        } else {
            text.into_owned()
        };
        Some(text).filter(|text| !text.is_empty())
    }

    async fn sandbox_died(&mut self) {
        if self.cell.is_none() {
            return;
        }
        self.event(
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            None,
        );
        self.drop_cell().await;
        self.state.sandbox_lost(self.shared.now());
    }

    /// Compares what is known with what is in the sandbox.
    async fn look(&mut self) {
        let Some(cell) = self.cell.clone() else { return };
        match cell.list().await {
            Ok(list) => {
                for info in list {
                    if let Some(exit) = info.exit {
                        self.exited(&info.id, &exit);
                    }
                }
            }
            Err(error) => debug!(%error, "looking at a sandbox"),
        }
    }

    /// Fetches a container's image beside the pod's task; its note follows.
    pub(super) fn pull(&mut self, name: &str) {
        let Some(container) = all_containers(&self.pod).find(|c| c.name == name) else { return };
        let image = container.image.clone().unwrap_or_default();
        let policy = PullPolicy::parse(container.image_pull_policy.as_deref());
        self.state.container_mut(name).image = ImageState::Pulling;
        if !self.shared.images.is_here(&image, policy) && policy != PullPolicy::Never {
            self.event(false, "Pulling", format!("Pulling image \"{image}\""), Some(name));
        }
        let (keychain, faults) = pull_secrets(&self.pod, &self.shared.assignments.borrow());
        if !faults.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                faults.join("; ")
            );
            self.event(true, "FailedToRetrieveImagePullSecret", message, None);
        }
        let (images, notes) = (self.shared.images.clone(), self.notes.clone());
        let container = name.to_owned();
        while self.pulls.try_join_next().is_some() {}
        self.pulls.spawn(async move {
            let begun = tokio::time::Instant::now();
            let result = images.ensure(&image, policy, &keychain).await.map(Box::new);
            // The pod's task may be over already.
            drop(notes.send(Note::Pulled { container, took: begun.elapsed(), result }));
        });
    }

    fn pulled(&mut self, name: &str, took: Duration, result: Result<Box<Ensured>, NoImage>) {
        let Some(container) = all_containers(&self.pod).find(|c| c.name == name) else { return };
        let image = container.image.clone().unwrap_or_default();
        match result {
            Ok(ensured) => {
                let message = if ensured.fetched {
                    format!("Successfully pulled image \"{image}\" in {}ms", took.as_millis())
                } else {
                    format!("Container image \"{image}\" already present on machine")
                };
                self.event(false, "Pulled", message, Some(name));
                if let Some(why) = ensured.stale {
                    let message = format!(
                        "Using the image \"{image}\" that is here, because a newer one cannot be had: {why}"
                    );
                    self.event(true, "PullFailed", message, Some(name));
                }
                let own = self.state.container_mut(name);
                own.image = ImageState::Ready;
                own.image_id = ensured.image.id.clone();
                self.state.images.insert(name.to_owned(), ensured.image);
            }
            Err(error) => self.pull_failed(name, &image, error),
        }
    }

    fn pull_failed(&mut self, name: &str, image: &str, error: NoImage) {
        let now = self.shared.now();
        let own = self.state.container_mut(name);
        let pause = back_off(FIRST_PAUSE, LONGEST_PAUSE, own.image_failures);
        own.image_failures = own.image_failures.saturating_add(1);
        own.image = ImageState::Failed {
            failed_at: now,
            retry_at: after(now, pause),
            reason: error.reason,
            message: error.message.clone(),
        };
        let message = match error.reason {
            "ErrImagePull" => format!("Failed to pull image \"{image}\": {}", error.message),
            _ => error.message,
        };
        self.event(true, "Failed", message, Some(name));
        self.event(true, "Failed", format!("Error: {}", error.reason), Some(name));
        if error.reason == "ErrImagePull" {
            self.event(false, "BackOff", format!("Back-off pulling image \"{image}\""), Some(name));
        }
    }

    fn found(&mut self, id: &str, finding: Finding) {
        let Some(name) = self.running(id) else { return };
        let Finding { kind, verdict, problem } = finding;
        if let Some(problem) = problem {
            let message = format!("{} probe failed: {problem}", kind.word());
            self.event(true, "Unhealthy", message, Some(&name));
        }
        let stopping = self.state.stop.is_some();
        let has_readiness =
            all_containers(&self.pod).any(|c| c.name == name && c.readiness_probe.is_some());
        let own = self.state.container_mut(&name);
        match (kind, verdict) {
            (Kind::Startup, Some(true)) => {
                own.started = true;
                own.passed = true;
                own.ready = !has_readiness;
            }
            (Kind::Readiness, Some(ready)) => own.ready = ready,
            (Kind::Startup | Kind::Liveness, Some(false)) if !stopping && own.doomed.is_none() => {
                let word = kind.word().to_ascii_lowercase();
                own.doomed =
                    Some(format!("Container {name} failed {word} probe, will be restarted"));
            }
            _ => {}
        }
    }

    fn evicted(&mut self, failure: Failure, at_once: bool) {
        if self.state.failure.is_none() {
            self.event(true, "Evicted", failure.message.clone(), None);
            self.state.failure = Some(failure);
        }
        if at_once && self.state.stop.is_none() {
            let stop = StopOrder { grace: Duration::ZERO, delete: false };
            self.take_stop(&stop);
        }
    }

    fn pre_stop_failed(&mut self, id: &str, problem: &str) {
        let Some(name) = self.running(id) else { return };
        let message = format!("PreStopHook failed: {problem}");
        self.event(true, "FailedPreStopHook", message, Some(&name));
    }

    fn hooked(&mut self, id: &str, problem: Option<String>) {
        let Some(name) = self.running(id) else { return };
        if let Some(tasks) = self.tasks.get_mut(&name) {
            tasks.hook = None;
        }
        match problem {
            None => self.watch(&name),
            Some(problem) => {
                let message = format!("PostStartHook failed: {problem}");
                self.event(true, "FailedPostStartHook", message, Some(&name));
                let own = self.state.container_mut(&name);
                own.doomed = Some(format!("FailedPostStartHook of container {name}"));
            }
        }
    }

    /// The id of a run as it is shown: unique in the cluster.
    pub(super) fn shown_id(&self, name: &str, restarts: u32) -> String {
        format!("{}.{}", self.id.uid, container_id(name, restarts))
    }

    /// Forgets the sandbox and everything that was done for what is in it.
    pub(super) async fn drop_cell(&mut self) {
        self.tasks.clear();
        self.volumes.clear();
        self.volumes_ready = false;
        self.publish_ports();
        // Known until it is gone. What stays of it all the same is removed before the next one is made.
        if let Some(cell) = self.cell.clone()
            && let Err(error) = cell.remove().await
        {
            warn!(%error, "removing a sandbox");
        }
        self.cell = None;
        self.state.sandbox = SandboxState::Absent;
    }
}

/// The end of the file that a container leaves its last words in. The container decides what is in it and how much, and
/// perhaps what it is: nothing is followed, waited for or read beyond the bound.
fn last_words(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(found.len().saturating_sub(MOST_MESSAGE_BYTES)))?;
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(MOST_MESSAGE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_bounded_and_only_of_plain_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        // A sparse file far larger than the memory of most machines.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(last_words(&path).unwrap().len(), 4096);
        std::fs::write(&path, "x".repeat(5000) + "the end").unwrap();
        assert!(last_words(&path).unwrap().ends_with(b"xthe end"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [link.as_path(), pipe.as_path(), dir.path()] {
            assert!(last_words(other).is_err(), "{}", other.display());
        }
    }
}
