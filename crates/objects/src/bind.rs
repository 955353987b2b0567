//! Assigning pods to nodes.

use pontoon_model::object::Object;
use pontoon_model::resource::PODS;
use pontoon_model::status::Status;
use serde_json::{Value, json};

use crate::change::{Next, Step, Target};
use crate::clock;
use crate::failure::of_object;
use crate::objects::Objects;
use crate::reservation::Reservations;

impl Objects {
    /// Assigns a pod to a node, once. `uid` guards against a pod of the same name.
    pub async fn bind(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        node: &str,
    ) -> Result<Object, Status> {
        if node.is_empty() {
            return Err(Status::bad_request("target.name: Required value"));
        }
        let target = Target { resource: PODS, namespace: Some(namespace), name: pod };
        self.change(target, false, |current| bound(current, uid, node).map(Next::Step)).await
    }
}

fn bound(current: &Object, uid: Option<&str>, node: &str) -> Result<Step, Status> {
    let meta = &current.meta;
    let conflict = |why: String| Err(Status::conflict(PODS, &meta.name, &why));
    if let Some(uid) = uid.filter(|uid| *uid != meta.uid) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta.uid
        ));
    }
    if meta.is_terminating() {
        return conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            meta.name
        ));
    }
    let before = current.field("spec.nodeName");
    if !before.is_empty() {
        return conflict(format!("pod {} is already assigned to node \"{before}\"", meta.name));
    }
    let mut value = current.value().map_err(|e| of_object(&e))?;
    value["spec"]["nodeName"] = json!(node);
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": clock::now(),
    });
    let conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let others = conditions.into_iter().filter(|c| c["type"] != "PodScheduled");
    value["status"]["conditions"] = Value::Array(others.chain([scheduled]).collect());
    Ok(Step::Put(value, Reservations::default()))
}
