//! The steps of an update: rolling within bounds, or all at once after all are gone.

use k8s_openapi::api::core::v1::Pod;

use super::rollout::{Member, Rollout};
use crate::pod_state;

impl Rollout<'_> {
    /// One step of a rolling update: grow the new, or shrink the old; not both from one state,
    /// since the second would be decided on numbers that the first changes.
    pub(super) fn roll(&mut self) {
        if self.grow_new() {
            return;
        }
        self.shrink_old();
    }

    /// How large the new ReplicaSet may be now, if it had `replicas`.
    pub(super) fn new_size(&self, replicas: i32) -> i32 {
        let wanted = self.bounds.replicas;
        if !self.bounds.rolling {
            return wanted;
        }
        // Pods that an old ReplicaSet was told to delete but has not yet are still too many.
        let others = self.old.iter().map(|m| m.replicas.max(m.present));
        let others = others.fold(0, i32::saturating_add);
        let room = self.bounds.most() - others - replicas;
        if room <= 0 { replicas } else { replicas + room.min(wanted - replicas) }
    }

    pub(super) fn grow_new(&mut self) -> bool {
        let Some(new) = self.new.clone() else { return false };
        let wanted = self.bounds.replicas;
        let size = if new.replicas > wanted { wanted } else { self.new_size(new.replicas) };
        self.scale(&new, size)
    }

    fn shrink_old(&mut self) {
        let new_unavailable = self.new.as_ref().map_or(0, |n| n.replicas - n.available);
        let least = self.bounds.fewest_available();
        let may_go = self.total() - least - new_unavailable;
        if may_go <= 0 {
            return;
        }
        // Pods that do not work go first: they help nobody.
        let mut old = self.old.clone();
        let mut gone = 0;
        for member in &mut old {
            let useless = (member.replicas - member.available).min(may_go - gone).max(0);
            member.replicas -= useless;
            gone += useless;
        }
        let mut spare = (self.available() - least).min(may_go - gone);
        for member in &mut old {
            let down = member.replicas.min(spare).max(0);
            member.replicas -= down;
            spare -= down;
        }
        for (before, after) in self.old.clone().iter().zip(old) {
            if before.replicas != after.replicas {
                self.scale(before, after.replicas);
            }
        }
    }

    /// Recreate: takes the old ReplicaSets to nothing. Whether there was something to take.
    pub(super) fn stop_old(&mut self) -> bool {
        let active: Vec<Member> = self.old.iter().filter(|m| m.replicas > 0).cloned().collect();
        for member in &active {
            self.scale(member, 0);
        }
        !active.is_empty()
    }

    /// Whether pods of an old revision still run, be it on their way out.
    pub(super) fn old_pods_run(&self) -> bool {
        self.old.iter().any(|member| {
            let uid = member.rs.metadata.uid.as_deref().unwrap_or_default();
            self.cache.controlled::<Pod>(uid).any(|pod| !pod_state::is_finished(pod))
        })
    }
}
