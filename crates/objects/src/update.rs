//! Replacing objects, and what every new version goes through.

use pontoon_model::defaults;
use pontoon_model::object::Object;
use pontoon_model::resource::{NAMESPACES, Resource, SERVICES};
use pontoon_model::status::Status;
use pontoon_model::validate;
use serde_json::Value;

use crate::change::{Next, Step, Target};
use crate::create::{same_kind, strict};
use crate::failure::{of_faults, of_object, of_type};
use crate::merge::{count, merge, same_object};
use crate::objects::Objects;
use crate::options::{Sub, WriteOptions};
use crate::scale::{not_scalable, replicas_only};
use crate::service;

impl Objects {
    /// Replaces an object, or its status or scale. Fails with Conflict if the body has a
    /// resourceVersion and the object is at another.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a request names, part by part: the seam that every dialect is written against"
    )]
    pub async fn update(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
        mut body: Value,
        sub: Sub,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        served(resource, sub)?;
        if sub == Sub::Scale {
            replicas_only(&body)?;
        } else {
            same_kind(resource, &mut body)?;
            strict(resource, &body, options)?;
        }
        let target = Target { resource, namespace, name };
        let decide = |_: &Object| Ok(Next::Version(body.clone(), sub));
        self.change(target, options.dry_run, decide).await
    }

    /// What a new version makes of the object: it is checked, completed, and put in its place; or
    /// it was the last obstacle to the object's removal.
    pub(crate) async fn successor(
        &self,
        current: &Object,
        mut new: Value,
        sub: Sub,
    ) -> Result<Step, Status> {
        let resource = current.resource;
        same_object(&mut new, current)?;
        let old = current.value().map_err(|e| of_object(&e))?;
        let mut merged = merge(resource, sub, new, &old);
        if matches!(sub, Sub::None | Sub::Scale) {
            defaults::apply(resource, &mut merged);
            if *resource == *SERVICES {
                service::keep_given(&mut merged, &old);
            }
            count(resource, &mut merged, &old);
        }
        let name = current.meta.name.as_str();
        if sub == Sub::Status {
            validate::types(resource, &merged).map_err(|e| of_type(&e))?;
        } else {
            let faults = validate::update(resource, &merged, &old).map_err(|e| of_type(&e))?;
            of_faults(resource, name, faults)?;
        }
        if is_over(resource, current, &merged) {
            return Ok(Step::Remove);
        }
        let reservations = if sub == Sub::None {
            self.give(resource, name, &mut merged, Some(&old)).await?
        } else {
            crate::reservation::Reservations::default()
        };
        Ok(Step::Put(merged, reservations))
    }
}

fn served(resource: &'static Resource, sub: Sub) -> Result<(), Status> {
    let name = match sub {
        Sub::None => return Ok(()),
        Sub::Status => "status",
        Sub::Scale => return not_scalable(resource),
        Sub::Finalize => "finalize",
    };
    resource.subresource(name).map(drop).ok_or_else(Status::no_such_path)
}

/// Whether an object that is being deleted is held by nothing any more in its new version.
fn is_over(resource: &Resource, current: &Object, new: &Value) -> bool {
    let held = |pointer: &str| {
        new.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    if !current.meta.is_terminating() || held("/metadata/finalizers") {
        return false;
    }
    if *resource == *NAMESPACES {
        return !held("/spec/finalizers");
    }
    current.meta.deletion_grace_period_seconds == Some(0)
}
