//! What nodes do with the pods they are given.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pontoon_model::object::{Object, timestamp};
use serde_json::{Value, json};

use super::api::Api;
use crate::key::Key;
use crate::{Propagation, Sub};

/// The next thing that a node does to a pod.
pub(super) enum Step {
    Start(Key),
    Finish(Key),
}

pub(super) fn is_unbound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_null() && pod["metadata"]["deletionTimestamp"].is_null()
}

/// What a living node still has to do for the pod.
pub(super) fn next(key: &Key, pod: &Value, dead: &BTreeSet<String>) -> Option<Step> {
    let node = pod["spec"]["nodeName"].as_str()?;
    if dead.contains(node) {
        None
    } else if !pod["metadata"]["deletionTimestamp"].is_null() {
        Some(Step::Finish(key.clone()))
    } else if pod["status"]["phase"] != "Running" {
        // Images that begin so never become ready.
        let broken = pod["spec"]["containers"][0]["image"].as_str() == Some("broken");
        (!broken).then(|| Step::Start(key.clone()))
    } else {
        None
    }
}

impl Step {
    pub(super) fn take(self, now: Timestamp, api: &mut Api) -> Vec<(Key, Option<Object>)> {
        match self {
            Self::Finish(key) => {
                api.delete(now, &key, None, Some(0), Propagation::Background).unwrap()
            }
            Self::Start(key) => {
                let since = timestamp(now);
                let condition =
                    |t: &str| json!({"type": t, "status": "True", "lastTransitionTime": since});
                let address = format!("10.244.0.{}", api.revision % 250 + 1);
                let status = json!({
                    "phase": "Running",
                    "podIP": address,
                    "conditions": [condition("Ready"), condition("ContainersReady")],
                });
                api.patch(&key, Sub::Status, &json!({"status": status})).unwrap()
            }
        }
    }
}
