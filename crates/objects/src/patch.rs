//! Changing objects by patches.

use pontoon_model::object::Object;
use pontoon_model::patch;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use serde_json::Value;

use crate::change::{Next, Target};
use crate::create::{same_kind, strict};
use crate::failure::{of_object, of_patch};
use crate::objects::Objects;
use crate::options::{Patch, Sub, WriteOptions};
use crate::scale::{not_scalable, replicas_only, scale_of};

impl Objects {
    /// Changes an object, or its status or scale. Tries again by itself when somebody else writes
    /// in between, unless the patch names a resourceVersion.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a request names, part by part: the seam that every dialect is written against"
    )]
    pub async fn patch(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch,
        sub: Sub,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        if sub == Sub::Scale {
            not_scalable(resource)?;
        }
        let target = Target { resource, namespace, name };
        let decide =
            |current: &Object| Ok(Next::Version(patched(current, patch, sub, options)?, sub));
        self.change(target, options.dry_run, decide).await
    }
}

fn patched(
    current: &Object,
    patch: &Patch,
    sub: Sub,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let mut value = match sub {
        Sub::Scale => scale_of(current)?,
        _ => current.value().map_err(|e| of_object(&e))?,
    };
    let applied = match patch {
        Patch::Json(operations) => patch::json(&mut value, operations),
        Patch::Merge(patch) => patch::merge(&mut value, patch),
        // A Scale has no lists.
        Patch::Strategic(patch) if sub == Sub::Scale => patch::merge(&mut value, patch),
        Patch::Strategic(patch) => patch::strategic(current.resource, &mut value, patch),
    };
    applied.map_err(|e| of_patch(&e))?;
    if sub == Sub::Scale {
        replicas_only(&value)?;
    } else {
        same_kind(current.resource, &mut value)?;
        strict(current.resource, &value, options)?;
    }
    Ok(value)
}
