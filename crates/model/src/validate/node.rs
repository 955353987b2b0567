//! Nodes, Leases and Namespaces: what belongs to machines and to the cluster itself.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Taint};

use super::faults::Faults;
use super::kinds::Check;
use super::name;
use super::path::Path;
use super::resources::amount_of;

const SPEC: Path<'static> = Path::root("spec");

impl Check for Node {
    fn check(&self, faults: &mut Faults) {
        let taints = self.spec.as_ref().and_then(|s| s.taints.as_ref());
        let mut seen = BTreeSet::new();
        for (i, taint) in taints.into_iter().flatten().enumerate() {
            let list = SPEC.child("taints");
            let at = list.index(i);
            check_taint(&at, taint, faults);
            if !seen.insert((&taint.key, &taint.effect)) {
                faults.duplicate(&at, taint);
            }
        }
        let status = Path::root("status");
        let amounts = self
            .status
            .as_ref()
            .map(|s| [("capacity", &s.capacity), ("allocatable", &s.allocatable)]);
        for (field, list) in amounts.into_iter().flatten() {
            for (name, amount) in list.iter().flatten() {
                let at = status.child(field);
                amount_of(&at.key(name), &amount.0, faults);
            }
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        let cidr = |node: &Self| node.spec.as_ref().and_then(|s| s.pod_cidr.clone());
        if let Some(before) = cidr(old).filter(|c| !c.is_empty())
            && cidr(self).as_ref() != Some(&before)
        {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            faults.forbidden(&SPEC.child("podCIDRs"), why);
        }
    }
}

fn check_taint(at: &Path<'_>, taint: &Taint, faults: &mut Faults) {
    faults.all_invalid(&at.child("key"), &taint.key, name::qualified_name(&taint.key));
    let value = taint.value.as_deref().unwrap_or_default();
    faults.all_invalid(&at.child("value"), value, name::label_value(value));
    let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if taint.effect.is_empty() {
        faults.required(&at.child("effect"), "");
    } else {
        faults.one_of(&at.child("effect"), &taint.effect, effects);
    }
}

impl Check for Lease {
    fn check(&self, faults: &mut Faults) {
        let seconds = self.spec.as_ref().and_then(|s| s.lease_duration_seconds);
        if let Some(seconds) = seconds.filter(|s| *s <= 0) {
            let at = SPEC.child("leaseDurationSeconds");
            faults.invalid(&at, seconds, "must be greater than 0");
        }
        let changes = self.spec.as_ref().and_then(|s| s.lease_transitions);
        faults.not_negative(&SPEC.child("leaseTransitions"), changes.map(i64::from));
    }
}

impl Check for Namespace {
    fn check(&self, faults: &mut Faults) {
        let finalizers = self.spec.as_ref().and_then(|s| s.finalizers.as_ref());
        for finalizer in finalizers.into_iter().flatten() {
            let at = SPEC.child("finalizers");
            faults.all_invalid(&at, finalizer, name::qualified_name(finalizer));
        }
    }
}
