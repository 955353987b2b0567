//! Deleting objects: at once, or by way of a deletionTimestamp.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use pontoon_model::names::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use pontoon_model::object::Object;
use pontoon_model::resource::{NAMESPACES, PODS, Resource};
use pontoon_model::status::Status;
use pontoon_model::validate::MAX_GRACE_SECONDS;
use serde_json::{Value, json};

use crate::change::{Next, Step, Target};
use crate::clock;
use crate::failure::of_object;
use crate::list::List;
use crate::merge::bump;
use crate::namespace::deletable;
use crate::objects::Objects;
use crate::options::{DeleteOptions, ListOptions, Propagation};
use crate::reservation::Reservations;

/// What a pod that does not say gets to end in, in seconds.
const DEFAULT_GRACE: i64 = 30;
/// How many objects of a collection are deleted at a time.
const AT_A_TIME: usize = 32;

impl Objects {
    /// Deletes an object, or begins to: pods on a node, objects with finalizers and namespaces get
    /// a deletionTimestamp first. Answers with the object as it is then or was last.
    pub async fn delete(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Status> {
        deletable(resource, name)?;
        let target = Target { resource, namespace, name };
        let decide = |current: &Object| decide(current, options).map(Next::Step);
        self.change(target, options.dry_run, decide).await
    }

    /// Deletes the objects that the list options select; answers with them.
    pub async fn delete_collection(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        selected: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let list = self.list(resource, namespace, selected).await?;
        let deletions = futures::stream::iter(list.items.clone()).map(|object| async move {
            let (namespace, name) = (object.meta.namespace.as_deref(), object.meta.name.as_str());
            match self.delete(resource, namespace, name, options).await {
                Err(status) if !status.is_not_found() => Err(status),
                _ => Ok(()),
            }
        });
        let mut deletions = deletions.buffer_unordered(AT_A_TIME);
        while let Some(done) = deletions.next().await {
            done?;
        }
        Ok(list)
    }

    /// Evicts a pod: a deletion that may be refused with 429. There are no disruption budgets yet
    /// that could refuse it.
    pub async fn evict(
        &self,
        namespace: &str,
        pod: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Status> {
        self.delete(PODS, Some(namespace), pod, options).await
    }
}

fn decide(current: &Object, options: &DeleteOptions) -> Result<Step, Status> {
    preconditions(current, options)?;
    let mut value = current.value().map_err(|e| of_object(&e))?;
    propagate(&mut value, options.propagation);
    if *current.resource == *NAMESPACES {
        return Ok(namespace(current, value));
    }
    let grace = if *current.resource == *PODS { pod_grace(&value, options) } else { 0 };
    let held = !finalizers(&value).is_empty();
    if grace == 0 && !held {
        return Ok(Step::Remove);
    }
    let changed = mark(current, &mut value, grace)
        || finalizers(&value)
            != current.meta.finalizers.iter().map(String::as_str).collect::<Vec<_>>();
    if !changed {
        return Ok(Step::Keep);
    }
    Ok(Step::Put(value, Reservations::default()))
}

fn preconditions(current: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let meta = &current.meta;
    let conflict = |why: String| Err(Status::conflict(current.resource, &meta.name, &why));
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta.uid) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta.uid
        ));
    }
    if let Some(version) = options.resource_version.filter(|v| *v != meta.resource_version) {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            meta.resource_version
        ));
    }
    Ok(())
}

/// A namespace goes when its content has gone; until then it is Terminating.
fn namespace(current: &Object, mut value: Value) -> Step {
    let kept = value["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    if current.meta.is_terminating() {
        let over = !kept && finalizers(&value).is_empty();
        return if over { Step::Remove } else { Step::Keep };
    }
    if !kept && finalizers(&value).is_empty() {
        return Step::Remove;
    }
    value["metadata"]["deletionTimestamp"] = json!(clock::now());
    value["status"]["phase"] = json!("Terminating");
    Step::Put(value, Reservations::default())
}

fn finalizers(value: &Value) -> Vec<&str> {
    let list = value["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// How dependents are dealt with is told to the garbage collector by finalizers.
fn propagate(value: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FINALIZER_FOREGROUND),
        Propagation::Orphan => Some(FINALIZER_ORPHAN),
    };
    let other = |f: &&str| ![FINALIZER_FOREGROUND, FINALIZER_ORPHAN].contains(f);
    let mut list: Vec<String> =
        finalizers(value).into_iter().filter(other).map(str::to_owned).collect();
    list.extend(wanted.map(str::to_owned));
    if list.is_empty() {
        if let Some(meta) = value["metadata"].as_object_mut() {
            meta.remove("finalizers");
        }
    } else {
        value["metadata"]["finalizers"] = json!(list);
    }
}

/// The seconds that a pod gets: none if no node has it or if it has ended.
fn pod_grace(value: &Value, options: &DeleteOptions) -> i64 {
    let bound = value["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let ended = ["Succeeded", "Failed"].iter().any(|phase| value["status"]["phase"] == *phase);
    let own = value["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(DEFAULT_GRACE);
    match options.grace_seconds.unwrap_or(own) {
        _ if !bound || ended => 0,
        0 => 0,
        grace if grace < 0 => 1,
        // An object written before there was a bound.
        grace => grace.min(MAX_GRACE_SECONDS),
    }
}

/// Marks the object as being deleted, or to be deleted sooner. False if it is already as said.
fn mark(current: &Object, value: &mut Value, grace: i64) -> bool {
    if let Some(deadline) = current.meta.deletion_timestamp {
        let before = current.meta.deletion_grace_period_seconds.unwrap_or(0);
        if grace >= before {
            return false;
        }
        // What has passed of the longer period counts for the shorter.
        let sooner = SignedDuration::from_secs(before - grace);
        let at = deadline.checked_sub(sooner).unwrap_or(deadline).max(Timestamp::now());
        value["metadata"]["deletionTimestamp"] = json!(pontoon_model::object::timestamp(at));
    } else {
        value["metadata"]["deletionTimestamp"] = json!(clock::in_seconds(grace));
        if value["metadata"]["generation"].is_i64() {
            bump(value);
        }
    }
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    true
}
