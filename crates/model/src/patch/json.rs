//! RFC 6902 with bounds: a few `copy` operations must not double an object into gigabytes.

use json_patch::PatchOperation;
use serde::Deserialize;
use serde_json::Value;

use super::PatchError;

const MAX_OPERATIONS: usize = 10_000;
/// All that `copy` operations of one patch may copy, in bytes of JSON.
const MAX_COPIED: usize = 3 << 20;

pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MAX_OPERATIONS {
        return Err(PatchError::TooLarge {
            what: "the number of operations in a JSON patch",
            limit: MAX_OPERATIONS,
            found: operations,
        });
    }
    let operations = Vec::<PatchOperation>::deserialize(patch)
        .map_err(|e| PatchError::Syntax(format!("error decoding patch: {e}")))?;
    let mut work = object.clone();
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += work.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED {
                let what = "what a JSON patch copies, in bytes,";
                return Err(PatchError::TooLarge { what, limit: MAX_COPIED, found: copied });
            }
        }
        json_patch::patch_unsafe(&mut work, std::slice::from_ref(operation))
            .map_err(|e| PatchError::Apply(format!("{operation}: {}", e.kind)))?;
    }
    *object = work;
    Ok(())
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}
