//! Scaling outside a rolling step: a Deployment that was resized, or is paused.

use std::cmp::Reverse;

use super::rollout::{DESIRED, MOST, Member, Rollout};

impl Rollout<'_> {
    /// Whether the Deployment was resized since its ReplicaSets were last scaled.
    pub(super) fn was_resized(&self) -> bool {
        let wanted = self.bounds.replicas.to_string();
        let active = self.all().filter(|m| m.replicas > 0);
        active.filter_map(|m| m.annotation(DESIRED)).any(|desired| *desired != wanted)
    }

    /// Takes the new size to the ReplicaSets: to the only one, or to all in proportion, so that a
    /// rolling update that is under way keeps its shape.
    pub(super) fn resize(&mut self) {
        let active: Vec<Member> = self.all().filter(|m| m.replicas > 0).cloned().collect();
        let only = match active.as_slice() {
            [] => self.new.clone().or_else(|| self.old.last().cloned()),
            [only] => Some(only.clone()),
            _ => None,
        };
        if let Some(only) = only {
            self.scale(&only, self.bounds.replicas);
        } else if self.is_saturated() {
            for member in self.old.clone() {
                if member.replicas > 0 {
                    self.scale(&member, 0);
                }
            }
        } else if self.bounds.rolling {
            self.in_proportion(active);
        }
    }

    /// Whether the new ReplicaSet has all pods that are wanted, and all available.
    fn is_saturated(&self) -> bool {
        let wanted = self.bounds.replicas;
        self.new.as_ref().is_some_and(|new| {
            let marked = new.annotation(DESIRED).is_some_and(|d| *d == wanted.to_string());
            new.replicas == wanted && marked && new.available == wanted
        })
    }

    fn in_proportion(&mut self, mut active: Vec<Member>) {
        let allowed = if self.bounds.replicas > 0 { self.bounds.most() } else { 0 };
        let total: i32 = active.iter().map(|m| m.replicas).fold(0, i32::saturating_add);
        let to_add = allowed - total;
        // The largest first; among equals the newest grows and the oldest shrinks.
        active.sort_by(|a, b| {
            let by_size = Reverse(a.replicas).cmp(&Reverse(b.replicas));
            by_size.then_with(|| {
                if to_add > 0 { b.born().cmp(&a.born()) } else { a.born().cmp(&b.born()) }
            })
        });
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        for member in &active {
            let share = self.share(member);
            let left = to_add - added;
            let share = if to_add > 0 { share.min(left).max(0) } else { share.max(left).min(0) };
            added += share;
            sizes.push(member.replicas + share);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        for (member, size) in active.iter().zip(sizes) {
            self.scale(member, size.max(0));
        }
    }

    /// How much a ReplicaSet has to grow or shrink to keep its part of the whole.
    fn share(&self, member: &Member) -> i32 {
        if self.bounds.replicas == 0 {
            return -member.replicas;
        }
        let former = member.annotation(MOST).and_then(|m| m.parse::<i64>().ok());
        let reported = || self.deployment.status.as_ref().and_then(|s| s.replicas).map(i64::from);
        let former = former.or_else(reported).filter(|n| *n > 0).unwrap_or(1);
        let scaled = i64::from(member.replicas) * i64::from(self.bounds.most());
        let size = (scaled + former / 2) / former;
        i32::try_from(size).unwrap_or(i32::MAX) - member.replicas
    }
}
