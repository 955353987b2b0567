//! What a Deployment's status says, in the words that `kubectl rollout status` waits for.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::{Member, Rollout};
use crate::edit;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

impl Rollout<'_> {
    /// Patches the status if it differs from what is.
    pub(super) fn sync_status(&mut self) {
        let former = self.deployment.status.clone().unwrap_or_default();
        let mut status = self.counts(&former);
        self.judge_availability(&mut status);
        self.judge_progress(&former, &mut status);
        if self.touched {
            return;
        }
        let meta = &self.deployment.metadata;
        let patch = edit::status(self.key, meta, self.deployment.status.as_ref(), &status);
        self.plan.actions.extend(patch);
    }

    fn counts(&self, former: &DeploymentStatus) -> DeploymentStatus {
        let of = |m: &Member, f: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
            m.rs.status.as_ref().map_or(0, f)
        };
        let available: i32 = self.all().map(|m| of(m, |s| s.available_replicas.unwrap_or(0))).sum();
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: Some(self.all().map(Member::reported).sum()),
            updated_replicas: Some(self.new.as_ref().map_or(0, Member::reported)),
            ready_replicas: Some(
                self.all().map(|m| of(m, |s| s.ready_replicas.unwrap_or(0))).sum(),
            ),
            available_replicas: Some(available),
            unavailable_replicas: Some((self.total() - available).max(0)),
            ..former.clone()
        }
    }

    fn judge_availability(&self, status: &mut DeploymentStatus) {
        let enough = status.available_replicas.unwrap_or(0) >= self.bounds.fewest_available();
        let (value, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        self.set(status, AVAILABLE, (value, reason, message.to_owned()), false);
    }

    fn judge_progress(&mut self, former: &DeploymentStatus, status: &mut DeploymentStatus) {
        let deadline = self.spec.progress_deadline_seconds.unwrap_or(600);
        let current = condition(former, PROGRESSING).cloned();
        if self.spec.paused == Some(true) {
            if current.as_ref().is_none_or(|c| c.reason.as_deref() != Some(TIMED_OUT)) {
                let said = ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
                self.set(status, PROGRESSING, said, false);
            }
            return;
        }
        let reason = current.as_ref().and_then(|c| c.reason.as_deref());
        if reason == Some("DeploymentPaused") {
            let said = ("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
            self.set(status, PROGRESSING, said, false);
        } else if self.is_complete(status) {
            let said = self.say("has successfully progressed.");
            self.set(status, PROGRESSING, ("True", COMPLETE, said), false);
        } else if reason != Some(COMPLETE) || status.replicas != status.updated_replicas {
            if current.is_none() || has_progressed(former, status) {
                let said = self.say("is progressing.");
                self.set(status, PROGRESSING, ("True", "ReplicaSetUpdated", said), true);
            } else if let Some(left) = self.deadline_in(current.as_ref(), deadline) {
                self.plan.again_in(left);
            } else if reason != Some(TIMED_OUT) {
                let said = self.say("has timed out progressing.");
                self.set(status, PROGRESSING, ("False", TIMED_OUT, said), false);
            }
        }
    }

    /// The time until a rollout that shows no progress has failed; `None` once it has. A rollout
    /// that was complete and has lost pods has no deadline until something is changed.
    fn deadline_in(&self, current: Option<&DeploymentCondition>, seconds: i32) -> Option<Duration> {
        let far = Duration::from_secs(3_600);
        let current = current?;
        if current.reason.as_deref() == Some(COMPLETE) || seconds == i32::MAX {
            return Some(far);
        }
        let since = current.last_update_time.as_ref()?.0;
        let left = SignedDuration::from_secs(i64::from(seconds)) - self.now.duration_since(since);
        (left > SignedDuration::ZERO).then(|| left.unsigned_abs())
    }

    fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = Some(self.bounds.replicas);
        status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    }

    fn say(&self, what: &str) -> String {
        match &self.new {
            Some(new) => format!("ReplicaSet \"{}\" {what}", new.key.name),
            None => format!("Deployment \"{}\" {what}", self.key.name),
        }
    }

    /// Sets a condition. One that says the same stays as it is, unless `renew` wants it to tell
    /// that something has happened again.
    fn set(
        &self,
        status: &mut DeploymentStatus,
        type_: &str,
        said: (&str, &str, String),
        renew: bool,
    ) {
        let (value, reason, message) = said;
        let now = Some(Time(self.now));
        let conditions = status.conditions.get_or_insert_default();
        let mut fresh = DeploymentCondition {
            type_: Some(type_.to_owned()),
            status: Some(value.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: now.clone(),
            last_update_time: now,
        };
        let at = conditions.iter().position(|c| c.type_.as_deref() == Some(type_));
        let Some(at) = at else {
            conditions.push(fresh);
            return;
        };
        let current = &mut conditions[at];
        if current.status == fresh.status {
            if current.reason == fresh.reason && current.message == fresh.message && !renew {
                return;
            }
            fresh.last_transition_time = current.last_transition_time.take();
        }
        *current = fresh;
    }
}

fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_.as_deref() == Some(type_))
}

/// Whether more is updated, ready or available, or less is left of the old, than before.
fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}
