//! What a pod's task tells people, without saying the same thing over and over.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::Worker;
use crate::pod::spec::init_containers;
use crate::report::{NodeEvent, Report};

/// The same words are not said again sooner.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);
/// How many different words are remembered.
const MOST_WORDS: usize = 100;

/// What was said and when.
#[derive(Default)]
pub(super) struct Said(BTreeMap<(&'static str, String), Timestamp>);

impl Said {
    fn is_news(&mut self, reason: &'static str, message: &str, now: Timestamp) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < SILENCE);
        let key = (reason, message.to_owned());
        if self.0.contains_key(&key) || self.0.len() >= MOST_WORDS {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

impl Worker {
    /// Tells that something happened to the pod, or to one of its containers.
    pub(super) fn event(
        &mut self,
        warning: bool,
        reason: &'static str,
        message: String,
        container: Option<&str>,
    ) {
        let now = self.shared.now();
        // Good news of a container that restarts is news each time.
        if warning && !self.said.is_news(reason, &message, now) {
            return;
        }
        let field = |name: &str| {
            let init = init_containers(&self.pod).iter().any(|c| c.name == name);
            format!("spec.{}{{{name}}}", if init { "initContainers" } else { "containers" })
        };
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.id.namespace.clone()),
            name: Some(self.id.name.clone()),
            uid: Some(self.id.uid.clone()),
            resource_version: self.pod.metadata.resource_version.clone(),
            field_path: container.map(field),
        };
        let event = NodeEvent { regarding, warning, reason, message, at: now };
        self.shared.outbox.put(Report::Event(Box::new(event)));
    }
}
