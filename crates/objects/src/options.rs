//! What a request asks for beside its object.

use std::time::Duration;

use pontoon_model::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

/// How the resourceVersion of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    NotOlderThan,
    Exact,
}

/// Which objects a list has, and how fresh and how many.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: Option<LabelSelector>,
    pub fields: Option<FieldSelector>,
    /// At most this many; 0 is all.
    pub limit: u64,
    /// From the list before; goes on at that list's revision.
    pub continue_token: Option<String>,
    /// `None` is the newest state (linearizable); `Some(0)` is whatever this node knows.
    pub resource_version: Option<u64>,
    pub resource_version_match: Option<VersionMatch>,
}

/// What becomes of fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// They are kept; the API adds warnings from `pontoon_model::validate::unknown_fields`.
    #[default]
    Warn,
    /// The write is refused.
    Strict,
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
}

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sub {
    /// Everything but the status.
    #[default]
    None,
    /// The status only.
    Status,
    /// `spec.replicas`, told as an autoscaling/v1 Scale.
    Scale,
    /// A namespace's `spec.finalizers`; the namespace goes once they are empty.
    Finalize,
}

/// A change to an object, in one of three languages.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge patch.
    Strategic(Value),
}

/// What becomes of the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without this owner.
    Orphan,
}

/// How an object is deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// For pods: seconds to end in. `None` is the pod's own; 0 removes it from the store at once.
    pub grace_seconds: Option<i64>,
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only the object in this version.
    pub resource_version: Option<u64>,
    /// `None` is Background, or what the object's finalizers already say.
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

/// Which changes a watch tells.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Changes after this revision. `None` and `Some(0)` tell the present state first, as Added.
    pub resource_version: Option<u64>,
    pub labels: Option<LabelSelector>,
    pub fields: Option<FieldSelector>,
    /// Tell of progress now and then, so that a client can resume without a new list.
    pub bookmarks: bool,
    /// End after this time.
    pub timeout: Option<Duration>,
    /// Tell the present state first, then a bookmark with `k8s.io/initial-events-end`.
    pub send_initial: bool,
}
