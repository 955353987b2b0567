//! The rolling update of a DaemonSet: node by node, within the bounds that it gives.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Daemons;
use crate::deployment::bounds::resolve;
use crate::plan::Plan;
use crate::pod_state;
use crate::replica_set::count;

/// The pods of one node, sorted by revision.
struct Pair<'p> {
    node: &'p str,
    old: Option<&'p Arc<Pod>>,
    new: Option<&'p Arc<Pod>>,
    /// Something on its way out is still there.
    leaving: bool,
}

impl Daemons<'_> {
    /// Takes the next step of an update, if one is under way.
    pub(super) fn update(&self, plan: &mut Plan) {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let nodes = count(self.nodes.values().filter(|f| f.run).count());
        let of = |value: Option<&IntOrString>| value.map(|v| resolve(v, nodes, true));
        let surge = of(rolling.and_then(|r| r.max_surge.as_ref())).unwrap_or(0);
        let unavailable = of(rolling.and_then(|r| r.max_unavailable.as_ref())).unwrap_or(1);
        let pairs = self.pairs();
        if surge > 0 {
            self.surge(&pairs, surge, plan);
        } else {
            self.replace(&pairs, unavailable.max(1), plan);
        }
    }

    fn pairs<'a>(&'a self) -> Vec<Pair<'a>> {
        let nodes = self.nodes.iter().filter(|(_, fit)| fit.stay);
        let pair = |(node, _): (&'a String, _)| {
            let pods: &[Arc<Pod>] = self.pods.get(node).map(Vec::as_slice).unwrap_or_default();
            let active = |current: bool| {
                let mut of = pods.iter().filter(move |p| self.mould.is_current(p) == current);
                of.find(|p| pod_state::is_active(p))
            };
            Pair {
                node,
                old: active(false),
                new: active(true),
                leaving: pods.iter().any(|p| pod_state::is_terminating(p)),
            }
        };
        nodes.map(pair).collect()
    }

    /// Deletes old pods; the new ones come when they are gone. Those that do not work go at once.
    fn replace(&self, pairs: &[Pair<'_>], unavailable: i32, plan: &mut Plan) {
        let works = |p: &&Pair<'_>| {
            p.old.is_some_and(|o| self.is_available(o))
                || p.new.is_some_and(|n| self.is_available(n))
        };
        let broken = count(pairs.iter().filter(|p| !works(p)).count());
        let mut may_go = unavailable - broken;
        for pair in pairs.iter().filter(|p| p.new.is_none()) {
            let Some(old) = pair.old else { continue };
            if !self.is_available(old) {
                self.delete_all([old].into_iter(), plan);
            } else if may_go > 0 {
                may_go -= 1;
                self.delete_all([old].into_iter(), plan);
            }
        }
    }

    /// Creates new pods beside old ones, and deletes an old one once the new one is available.
    fn surge(&self, pairs: &[Pair<'_>], surge: i32, plan: &mut Plan) {
        let doubled = pairs.iter().filter(|p| p.new.is_some() && (p.old.is_some() || p.leaving));
        let mut room = surge - count(doubled.count());
        for pair in pairs {
            match (pair.old, pair.new) {
                (Some(old), Some(new)) if self.is_available(new) || !self.is_available(old) => {
                    self.delete_all([old].into_iter(), plan);
                }
                (Some(old), None) if room > 0 || !self.is_available(old) => {
                    room -= 1;
                    self.create(pair.node, plan);
                }
                _ => {}
            }
        }
    }
}
