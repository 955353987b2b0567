//! Garbage: what is left of owners that are gone, and the two other ways for an owner to go,
//! dependents first (foreground) or dependents freed (orphan).

use jiff::Timestamp;
use pontoon_model::object::OwnerReference;
use pontoon_model::{names, resource};

use crate::cache::{Cache, Change};
use crate::edit;
use crate::entry::Entry;
use crate::key::Key;
use crate::plan::{Absent, Action, Plan, Propagation};

/// The object itself, its owners that may wait for it, and its dependents if it is gone.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    let mut keys = Vec::new();
    if let Some(new) = &change.new {
        let meta = new.meta();
        if !meta.owner_references.is_empty() || meta.is_terminating() {
            keys.push(change.key.clone());
        }
    }
    let Some(old) = &change.old else { return keys };
    let replaced = change.new.as_ref().is_none_or(|new| new.meta().uid != old.meta().uid);
    if replaced {
        keys.extend(cache.dependents(&old.meta().uid).map(|(key, _)| key.clone()));
    }
    let owners = old.meta().owner_references.iter().filter_map(|o| cache.by_uid(&o.uid));
    let waiting = owners.filter(|(_, owner)| owner.meta().is_terminating());
    keys.extend(waiting.map(|(key, _)| key.clone()));
    keys
}

/// Deletes the object if all its owners are gone; carries on its own deletion if that waits.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(entry) = cache.entry(key) else { return plan };
    let has = |finalizer: &str| entry.meta().finalizers.iter().any(|f| f == finalizer);
    if !entry.meta().is_terminating() {
        judge(key, entry, cache, &mut plan);
    } else if has(names::FINALIZER_ORPHAN) {
        free_dependents(key, entry, cache, &mut plan);
    } else if has(names::FINALIZER_FOREGROUND) {
        delete_dependents(key, entry, cache, &mut plan);
    }
    plan
}

/// How an owner that an object names stands.
#[derive(PartialEq, Eq)]
enum Standing {
    /// It is there to stay, or is of a kind that we cannot know.
    Solid,
    /// It waits for its dependents to go.
    Waiting,
    Gone,
}

fn standing(owner: &OwnerReference, cache: &Cache) -> Standing {
    if resource::of_kind(&owner.api_version, &owner.kind).is_none() {
        return Standing::Solid;
    }
    match cache.by_uid(&owner.uid) {
        None => Standing::Gone,
        Some((_, entry)) => {
            let meta = entry.meta();
            let foreground = meta.finalizers.iter().any(|f| f == names::FINALIZER_FOREGROUND);
            if meta.is_terminating() && foreground { Standing::Waiting } else { Standing::Solid }
        }
    }
}

fn judge(key: &Key, entry: &Entry, cache: &Cache, plan: &mut Plan) {
    let owners = &entry.meta().owner_references;
    let of = |wanted: Standing| owners.iter().filter(move |o| standing(o, cache) == wanted);
    let solid: Vec<OwnerReference> = of(Standing::Solid).cloned().collect();
    if owners.is_empty() || solid.len() == owners.len() {
        return;
    }
    if !solid.is_empty() {
        // It goes on to live for the owners that remain.
        plan.push(edit::owners(entry, key, &solid));
        return;
    }
    let waited_for = of(Standing::Waiting).next().is_some();
    let propagation = if waited_for && cache.dependents(&entry.meta().uid).next().is_some() {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    plan.push(Action::Delete {
        key: key.clone(),
        uid: entry.meta().uid.clone(),
        grace_seconds: None,
        propagation,
        only_if_absent: of(Standing::Gone).filter_map(|o| absent(key, o)).collect(),
    });
}

/// What must not be found in the store for the owner to be gone.
fn absent(dependent: &Key, owner: &OwnerReference) -> Option<Absent> {
    let resource = resource::of_kind(&owner.api_version, &owner.kind)?;
    let namespace = dependent.namespace.as_deref().filter(|_| resource.namespaced);
    Some(Absent { key: Key::new(resource, namespace, &owner.name), uid: Some(owner.uid.clone()) })
}

fn free_dependents(key: &Key, entry: &Entry, cache: &Cache, plan: &mut Plan) {
    let uid = &entry.meta().uid;
    for (dependent, theirs) in cache.dependents(uid) {
        let owners = theirs.meta().owner_references.iter().filter(|o| o.uid != *uid);
        let owners: Vec<OwnerReference> = owners.cloned().collect();
        plan.push(edit::owners(theirs, dependent, &owners));
    }
    if plan.is_empty() {
        plan.push(edit::without_finalizer(entry, key, names::FINALIZER_ORPHAN));
    }
}

fn delete_dependents(key: &Key, entry: &Entry, cache: &Cache, plan: &mut Plan) {
    let uid = &entry.meta().uid;
    let mut blocked = false;
    for (dependent, theirs) in cache.dependents(uid) {
        let owners = &theirs.meta().owner_references;
        blocked |= owners.iter().any(|o| o.uid == *uid && o.block_owner_deletion == Some(true));
        if !theirs.meta().is_terminating() {
            judge(dependent, theirs, cache, plan);
        }
    }
    if !blocked {
        plan.push(edit::without_finalizer(entry, key, names::FINALIZER_FOREGROUND));
    }
}
