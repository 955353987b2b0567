//! Takes over a pod that an earlier daemon ran: what lives goes on, what ended meanwhile is noted.

use jiff::Timestamp;
use pontoon_container::{ContainerInfo, ContainerState as RuntimeState};
use tracing::{info, warn};

use super::Worker;
use crate::pod::record::parse_container_id;
use crate::pod::spec::all_containers;
use crate::pod::state::{Run, SandboxState};

impl Worker {
    /// Compares what is remembered with what is there. Without a sandbox, all that was running is lost.
    pub(super) async fn adopt(&mut self) {
        let Some(cell) = self.cell.clone() else {
            return self.lost_unseen();
        };
        let list = match cell.list().await {
            Ok(list) => list,
            Err(error) => {
                warn!(%error, "a sandbox that was found does not answer");
                self.drop_cell().await;
                return self.lost_unseen();
            }
        };
        self.state.sandbox = SandboxState::Ready;
        // What is not known yet must not be taken for deleted: files from objects wait for the managers.
        if self.references.is_empty() || self.shared.assignments.borrow().complete {
            self.refresh_volumes().await;
        }
        for info in &list {
            self.adopt_container(info);
        }
        self.note_missing(&list);
        self.publish_ports();
        info!(containers = list.len(), "pod found again");
    }

    /// All that ran is gone, as after a power failure. That is no container's fault, and as with a kubelet that is
    /// started anew nobody waits for the end of a pause that began before.
    fn lost_unseen(&mut self) {
        if self.state.containers.is_empty() {
            return;
        }
        self.state.sandbox_lost(self.shared.now());
        for own in self.state.containers.values_mut() {
            own.crashes = 0;
        }
    }

    fn adopt_container(&mut self, info: &ContainerInfo) {
        let Some((name, restarts)) = parse_container_id(&info.id) else { return };
        if !all_containers(&self.pod).any(|container| container.name == name) {
            return;
        }
        let (name, shown) = (name.to_owned(), self.shown_id(name, restarts));
        let time =
            |at: Option<std::time::SystemTime>| at.and_then(|at| Timestamp::try_from(at).ok());
        let started_at = time(info.started_at).unwrap_or_else(|| self.shared.now());
        let own = self.state.container_mut(&name);
        if restarts < own.restarts {
            return;
        }
        let known = own.restarts == restarts && matches!(own.run, Run::Exited(_));
        if known || info.state == RuntimeState::Created {
            return;
        }
        let was_running = own.restarts == restarts && own.is_running();
        own.restarts = restarts;
        if !was_running {
            // Started in the moment in which the last daemon ended.
            own.began(shown, started_at);
        }
        match info.exit {
            Some(exit) => self.exited(&info.id, &exit),
            None => self.watch(&name),
        }
    }

    /// What is remembered as running and is not there has ended unseen.
    fn note_missing(&mut self, list: &[ContainerInfo]) {
        let running: Vec<_> = self
            .state
            .containers
            .iter()
            .filter(|(_, own)| own.is_running())
            .map(|(name, own)| (name.clone(), crate::pod::record::container_id(name, own.restarts)))
            .collect();
        for (name, id) in running {
            let found = list.iter().find(|info| info.id == id);
            if found.is_none_or(|info| info.state == RuntimeState::Created) {
                let exit = pontoon_container::Exit {
                    code: 137,
                    signal: None,
                    oom_killed: false,
                    at: std::time::SystemTime::now(),
                };
                warn!(container = name, "a container that was running is not there");
                self.exited(&id, &exit);
            }
        }
    }
}
