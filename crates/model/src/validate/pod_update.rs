//! What of a pod may change once it exists: next to nothing.

use k8s_openapi::api::core::v1::{Container, PodSpec, Toleration};

use super::faults::Faults;
use super::path::Path;

const RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(new: &PodSpec, old: &PodSpec, faults: &mut Faults) {
    const SPEC: Path<'static> = Path::root("spec");
    let count = |list: &Option<Vec<Container>>| list.as_ref().map_or(0, Vec::len);
    if new.containers.len() != old.containers.len() {
        faults.forbidden(&SPEC.child("containers"), "pod updates may not add or remove containers");
        return;
    }
    if count(&new.init_containers) != count(&old.init_containers) {
        let at = SPEC.child("initContainers");
        faults.forbidden(&at, "pod updates may not add or remove containers");
        return;
    }
    deadline(new.active_deadline_seconds, old.active_deadline_seconds, faults);
    let kept = |t: &Toleration| new.tolerations.iter().flatten().any(|n| tolerates_same(n, t));
    if !old.tolerations.iter().flatten().all(kept) {
        let at = SPEC.child("tolerations");
        faults
            .forbidden(&at, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    if &with_the_changeable_of(new, old) != old {
        faults.forbidden(&SPEC, RULE);
    }
}

fn deadline(new: Option<i64>, old: Option<i64>, faults: &mut Faults) {
    const AT: Path<'static> = Path::root("spec.activeDeadlineSeconds");
    match (new, old) {
        (None, Some(_)) => {
            faults.invalid(&AT, 0, "must not update from a positive integer to nil value")
        }
        (Some(new), Some(old)) if new > old => {
            faults.invalid(
                &AT,
                new,
                &format!("must be less than or equal to previous value {old}"),
            );
        }
        _ => {}
    }
}

fn tolerates_same(a: &Toleration, b: &Toleration) -> bool {
    let identity =
        |t: &Toleration| (t.key.clone(), t.operator.clone(), t.value.clone(), t.effect.clone());
    identity(a) == identity(b)
}

/// The new specification with everything that may change as it was.
fn with_the_changeable_of(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (new, old) in spec.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    let old_init = old.init_containers.iter().flatten();
    for (new, old) in spec.init_containers.iter_mut().flatten().zip(old_init) {
        new.image.clone_from(&old.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}
