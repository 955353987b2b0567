//! Whether an object is one that the cluster can take, with Kubernetes' words where it is not.

mod config;
mod container;
mod endpoints;
mod faults;
mod kinds;
mod meta;
pub mod name;
mod node;
mod path;
mod pod;
mod pod_update;
mod probe;
mod resources;
mod scheduling;
mod service;
mod volume;
mod workload;

use serde_json::Value;

use crate::resource::Resource;
use crate::status::Cause;

pub use faults::Faults;
pub use path::Path;
pub use pod::MAX_GRACE_SECONDS;

/// What kind of fault a [`FieldError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    NotFound,
}

impl Reason {
    /// Kubernetes' name of it in a Status.
    pub fn code(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::NotFound => "FieldValueNotFound",
        }
    }
}

/// One fault of one field: where (`spec.containers[0].name`), of what kind, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub reason: Reason,
    /// As Kubernetes says it: `Invalid value: "A": must be …`.
    pub detail: String,
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        let reason = error.reason.code().to_owned();
        Cause { reason, message: error.detail, field: error.field }
    }
}

/// A member of the object has a type that its kind does not have there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} in version \"{version}\" cannot be handled as a {kind}: {reason}")]
pub struct WrongType {
    pub kind: &'static str,
    pub version: &'static str,
    pub reason: String,
}

/// Checks an object that is to be created, after its defaults were filled in. Fields that this
/// cluster cannot honour are faults as well.
pub fn create(resource: &Resource, object: &Value) -> Result<Vec<FieldError>, WrongType> {
    let mut faults = Faults::default();
    kinds::of(resource).create(object, &mut faults).map_err(|e| wrong_type(resource, &e))?;
    crate::unsupported::check(resource, object, &mut faults);
    Ok(faults.errors)
}

/// Checks an object that is to replace another.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Result<Vec<FieldError>, WrongType> {
    let mut faults = Faults::default();
    kinds::of(resource).update(new, old, &mut faults).map_err(|e| wrong_type(resource, &e))?;
    if new.get("spec") != old.get("spec") {
        crate::unsupported::check(resource, new, &mut faults);
    }
    Ok(faults.errors)
}

/// Checks only that every member has its type: what a new status needs.
pub fn types(resource: &Resource, object: &Value) -> Result<(), WrongType> {
    kinds::of(resource).types(object).map_err(|e| wrong_type(resource, &e))
}

/// The fields of the object that its kind does not have, as paths.
pub fn unknown_fields(resource: &Resource, object: &Value) -> Vec<String> {
    kinds::of(resource).unknown(object)
}

fn wrong_type(resource: &Resource, error: &serde_json::Error) -> WrongType {
    WrongType { kind: resource.kind, version: resource.version, reason: error.to_string() }
}

#[cfg(test)]
mod tests;
