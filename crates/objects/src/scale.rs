//! `scale`: the number of replicas, told as an autoscaling/v1 Scale.

use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::selector::LabelSelector;
use pontoon_model::status::Status;
use pontoon_store::Read;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::of_object;
use crate::objects::Objects;

impl Objects {
    /// The autoscaling/v1 Scale of a Deployment or ReplicaSet.
    pub async fn scale(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Status> {
        not_scalable(resource)?;
        scale_of(&self.load(resource, Some(namespace), name, Read::Linearizable).await?)
    }
}

/// 404 unless the resource has a scale.
pub(crate) fn not_scalable(resource: &'static Resource) -> Result<(), Status> {
    resource.subresource("scale").map(drop).ok_or_else(Status::no_such_path)
}

/// The autoscaling/v1 Scale of an object: what to answer after an update or patch of its scale.
pub fn scale_of(object: &Object) -> Result<Value, Status> {
    let value = object.value().map_err(|e| of_object(&e))?;
    let selector = Option::deserialize(&value["spec"]["selector"]).ok().flatten();
    let selector = selector.and_then(|s| LabelSelector::of_typed(&s).ok()).unwrap_or_default();
    let meta = &value["metadata"];
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": value["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": value["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.to_string(),
        },
    }))
}

/// Refuses what is no Scale.
pub(crate) fn replicas_only(body: &Value) -> Result<(), Status> {
    let wanted = [("apiVersion", "autoscaling/v1"), ("kind", "Scale")];
    for (field, wanted) in wanted {
        let given = body.get(field).and_then(Value::as_str).unwrap_or_default();
        if !given.is_empty() && given != wanted {
            let message = format!("the object provided is unrecognized: {field} must be {wanted}");
            return Err(Status::bad_request(message));
        }
    }
    match body.pointer("/spec/replicas") {
        None | Some(Value::Null) => Ok(()),
        Some(replicas) if replicas.as_i64().is_some_and(|r| i32::try_from(r).is_ok()) => Ok(()),
        Some(replicas) => {
            let message = format!(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is {replicas}"
            );
            Err(Status::bad_request(message))
        }
    }
}
