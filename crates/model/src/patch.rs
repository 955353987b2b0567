//! Changing an object by a patch: RFC 6902, RFC 7386 and Kubernetes' strategic merge patch.

mod json;
mod merge_keys;
mod strategic;

use serde_json::Value;

use crate::resource::Resource;

/// A patch that cannot be applied, in words for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not well formed.
    #[error("{0}")]
    Syntax(String),
    /// It is well formed but does not fit the object: a test failed, a path does not exist.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Apply(String),
    /// It would make the object, or the work, larger than allowed.
    #[error("{what} is limited to {limit}, the patch has {found}")]
    TooLarge { what: &'static str, limit: usize, found: usize },
}

/// Applies an RFC 6902 patch: a list of operations, all or none.
pub fn json(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    json::apply(object, patch)
}

/// Applies an RFC 7386 merge patch.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Syntax("a merge patch must be a JSON object".to_owned()));
    }
    json_patch::merge(object, patch);
    Ok(())
}

/// Applies a strategic merge patch: lists are merged by the keys that the kind's fields have, and
/// `$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…` are obeyed.
pub fn strategic(resource: &Resource, object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    strategic::apply(resource, object, patch)
}

#[cfg(test)]
mod tests;
