//! The probes and the hook that follow a container's start.

use std::net::{IpAddr, Ipv4Addr};

use tokio_util::task::AbortOnDropHandle;

use super::{Note, Worker};
use crate::pod::record::container_id;
use crate::pod::spec::{all_containers, uses_host_network};
use crate::probe::ask::{Asked, Question};
use crate::probe::watch::watch;

/// A hook that takes longer has failed.
const HOOK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);

impl Worker {
    /// Runs the postStart hook of a container that has just started, and its probes after it.
    pub(super) fn follow(&mut self, name: &str) {
        let Some(asked) = self.asked(name) else { return };
        let Some(container) = all_containers(&self.pod).find(|c| c.name == name) else { return };
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return self.watch(name) };
        let question = Question::of_hook(container, hook, asked.address);
        let notes = self.notes.clone();
        let task = tokio::spawn(async move {
            let problem = question.ask(&asked, HOOK_PATIENCE).await.err();
            // The pod's task may be over already.
            drop(notes.send(Note::Hooked { container_id: asked.container_id, problem }));
        });
        let tasks = self.tasks.entry(name.to_owned()).or_default();
        tasks.hook = Some(AbortOnDropHandle::new(task));
    }

    /// Begins to ask a container's probes.
    pub(super) fn watch(&mut self, name: &str) {
        let Some(asked) = self.asked(name) else { return };
        let pod = self.pod.clone();
        let Some(container) = all_containers(&pod).find(|c| c.name == name).cloned() else {
            return;
        };
        let own = self.state.container_mut(name);
        if container.startup_probe.is_none() && !own.started {
            own.started = true;
            own.passed = true;
            own.ready = container.readiness_probe.is_none();
        }
        let started = own.started;
        let any = container.startup_probe.is_some()
            || container.liveness_probe.is_some()
            || container.readiness_probe.is_some();
        if !any {
            return;
        }
        let notes = self.notes.clone();
        let task = tokio::spawn(async move {
            let tell = |finding| {
                let container_id = asked.container_id.clone();
                drop(notes.send(Note::Found { container_id, finding }));
                std::future::ready(())
            };
            watch(&container, &asked, started, tell).await;
        });
        let tasks = self.tasks.entry(name.to_owned()).or_default();
        tasks.probes = Some(AbortOnDropHandle::new(task));
    }

    /// Whom to ask about the present run of a container.
    pub(super) fn asked(&self, name: &str) -> Option<Asked> {
        let cell = self.cell.clone()?;
        let address: IpAddr = if uses_host_network(&self.pod) {
            self.shared.config.node_address.into()
        } else {
            self.state.ip.unwrap_or(Ipv4Addr::LOCALHOST).into()
        };
        let restarts = self.state.containers.get(name)?.restarts;
        Some(Asked { cell, container_id: container_id(name, restarts), address })
    }
}
