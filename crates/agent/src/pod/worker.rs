//! The task of one pod: it looks at what is wanted and known, does the next steps, tells the status, and waits for
//! the next order, note or hour. All decisions are in `plan`.

mod adopt;
mod container_spec;
mod events;
mod leave;
mod notes;
mod probes;
mod sandbox;
mod start;
mod stop;
mod survive;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span, warn};

use super::order::Order;
use super::plan::{Action, plan};
use super::record::Record;
use super::spec::{PodId, all_containers};
use super::state::{ImageState, PodState, Run, SandboxState, StopOrder};
use super::status::status;
use crate::engine::Cell;
use crate::report::Report;
use crate::shared::Shared;
use crate::volume::{PodDirs, Volume};
use events::Said;
pub(crate) use notes::Note;
pub(crate) use sandbox::{LABEL_ADDRESS, LABEL_UID};
use stop::StopTask;

/// What others may see of a pod.
#[derive(Clone)]
pub(crate) struct View {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    pub cell: Option<Arc<dyn Cell>>,
    /// The directories that its containers' root filesystems are made of.
    pub layers: Vec<PathBuf>,
    /// How often each container was restarted, and the id of the run that is running.
    pub containers: BTreeMap<String, (u32, Option<String>)>,
}

/// A pod's task seen from outside.
pub(crate) struct Handle {
    pub id: PodId,
    pub orders: watch::Sender<Order>,
    pub notes: mpsc::UnboundedSender<Note>,
    view: Arc<Mutex<Option<View>>>,
    task: AbortOnDropHandle<()>,
}

impl Handle {
    /// What is known of the pod; `None` for the first moment of its life.
    pub(crate) fn view(&self) -> Option<View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the pod is gone and its task over.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells the pod's task the newest wish, if there is anything new in it.
    pub(crate) fn order(&self, order: Order) {
        self.orders.send_if_modified(|old| {
            let new = old.differs(&order);
            if new {
                *old = order;
            }
            new
        });
    }
}

/// What is done for one container beside the pod's task; ends when it is dropped.
#[derive(Default)]
struct Tasks {
    probes: Option<AbortOnDropHandle<()>>,
    hook: Option<AbortOnDropHandle<()>>,
    stop: Option<StopTask>,
}

/// One pod's task.
pub(crate) struct Worker {
    id: PodId,
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    state: PodState,
    cell: Option<Arc<dyn Cell>>,
    volumes: BTreeMap<String, Volume>,
    /// `volumes` is complete; it is not when a pod was found again before the managers were heard.
    volumes_ready: bool,
    dirs: PodDirs,
    references: Vec<String>,
    tasks: BTreeMap<String, Tasks>,
    pulls: JoinSet<()>,
    notes: mpsc::UnboundedSender<Note>,
    told: Option<PodStatus>,
    saved: Vec<u8>,
    said: Said,
    view: Arc<Mutex<Option<View>>>,
    finished: bool,
}

/// What a new daemon found of a pod.
pub(crate) struct Found {
    pub state: PodState,
    pub cell: Option<Arc<dyn Cell>>,
}

impl Worker {
    /// Starts the task of a pod; `found` is what an earlier daemon left of it. The task ends when the pod is gone, or at
    /// `shutdown`, which leaves everything running.
    pub(crate) fn spawn(
        id: PodId,
        order: Order,
        found: Option<Found>,
        shared: Arc<Shared>,
        shutdown: CancellationToken,
    ) -> Handle {
        // Unbounded, since who tells must never wait for a pod that is busy; at most a few notes a second are told.
        let (notes, receiver) = mpsc::unbounded_channel();
        let dirs = PodDirs::new(&shared.config.data_dir, &shared.config.run_dir, &id.uid);
        let view = Arc::new(Mutex::new(None));
        let (mut state, cell) = found.map(|found| (found.state, found.cell)).unwrap_or_default();
        state.holds_address = state.ip.is_some();
        let mut worker = Self {
            id: id.clone(),
            pod: order.pod.clone(),
            state,
            cell,
            volumes: BTreeMap::new(),
            volumes_ready: false,
            dirs,
            references: order.references.clone(),
            tasks: BTreeMap::new(),
            pulls: JoinSet::new(),
            notes: notes.clone(),
            told: order.pod.status.clone(),
            saved: Vec::new(),
            said: Said::default(),
            view: view.clone(),
            finished: false,
            shared,
        };
        if let Some(stop) = &order.stop {
            worker.take_stop(stop);
        }
        let (orders, order_receiver) = watch::channel(order);
        let span = info_span!("pod", namespace = %id.namespace, name = %id.name);
        let run = async move {
            tokio::select! {
                () = worker.live(order_receiver, receiver) => {}
                () = shutdown.cancelled() => {}
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(run.instrument(span)));
        Handle { id, orders, notes, view, task }
    }

    async fn run(
        &mut self,
        orders: &mut watch::Receiver<Order>,
        notes: &mut mpsc::UnboundedReceiver<Note>,
    ) {
        if self.was_never_here() {
            return self.finish().await;
        }
        self.adopt().await;
        loop {
            let wake_at = self.settle().await;
            if self.finished {
                return;
            }
            let sleep = self.until(wake_at);
            tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => {
                        let order = orders.borrow_and_update().clone();
                        self.take_order(order).await;
                    }
                    // Whoever gave the orders is gone; so is the node's agent.
                    Err(_) => return,
                },
                Some(note) = notes.recv() => {
                    self.take_note(note).await;
                    // Others that are there already cost no extra round.
                    while let Ok(note) = notes.try_recv() {
                        self.take_note(note).await;
                    }
                }
                () = sleep => {}
            }
        }
    }

    /// A pod that is deleted and of which nothing is here: it is gone, and there is nothing to tell of it.
    fn was_never_here(&self) -> bool {
        let deleted = self.state.stop.as_ref().is_some_and(|order| order.delete);
        deleted
            && self.cell.is_none()
            && self.state == PodState { stop: self.state.stop.clone(), ..PodState::default() }
    }

    /// Does the next steps until there is none; gives the time at which to look again.
    async fn settle(&mut self) -> Option<Timestamp> {
        loop {
            let plan = plan(self.shared.now(), &self.pod, &self.state);
            self.save();
            self.tell();
            if plan.actions.is_empty() {
                return plan.wake_at;
            }
            for action in plan.actions {
                self.act(action).await;
            }
            if self.finished {
                return None;
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::PrepareSandbox => self.prepare_sandbox().await,
            Action::Pull(container) => self.pull(&container),
            Action::Start(container) => self.start(&container).await,
            Action::Stop(container) => self.stop(&container),
            Action::Fail(failure) => {
                self.event(true, "DeadlineExceeded", failure.message.clone(), None);
                self.state.failure = Some(failure);
            }
            Action::TearDown => self.tear_down().await,
            Action::Finish => self.finish().await,
        }
    }

    async fn take_order(&mut self, order: Order) {
        if let Some(stop) = &order.stop {
            self.take_stop(stop);
        }
        let fields_changed = self.pod.metadata.labels != order.pod.metadata.labels
            || self.pod.metadata.annotations != order.pod.metadata.annotations;
        // The managers' echo of our own status is no news.
        let is_news = self.pod.spec != order.pod.spec || self.references != order.references;
        self.restart_changed(&order.pod);
        self.pod = order.pod;
        if self.references != order.references || fields_changed || !self.volumes_ready {
            self.references = order.references;
            self.refresh_volumes().await;
        }
        if !is_news {
            return;
        }
        // Whatever was in the way may be there now.
        if let SandboxState::Failed { retry_at } = &mut self.state.sandbox {
            *retry_at = Timestamp::MIN;
        }
        for own in self.state.containers.values_mut() {
            if let Run::Waiting(wait) = &mut own.run {
                wait.retry_at = None;
            }
            if let ImageState::Failed { retry_at, .. } = &mut own.image {
                *retry_at = Timestamp::MIN;
            }
        }
    }

    /// A container whose image was changed is run anew with the new one.
    fn restart_changed(&mut self, new: &Pod) {
        let old = self.pod.clone();
        for container in all_containers(new) {
            let before = all_containers(&old).find(|c| c.name == container.name);
            let changed = before.is_some_and(|before| before.image != container.image);
            let own = self.state.container_mut(&container.name);
            if changed && own.is_running() {
                let name = &container.name;
                own.doomed =
                    Some(format!("Container {name} definition changed, will be restarted"));
            }
        }
    }

    fn take_stop(&mut self, stop: &StopOrder) {
        let shorter = match &self.state.stop {
            Some(before) => stop.grace.min(before.grace),
            None => stop.grace,
        };
        self.state.stop = Some(StopOrder { grace: shorter, delete: stop.delete });
        for task in self.tasks.values().filter_map(|tasks| tasks.stop.as_ref()) {
            task.shorten(shorter);
        }
    }

    /// Tells the managers the status if it is news, and others what they may see.
    fn tell(&mut self) {
        let now = self.shared.now();
        let host_ip = self.shared.host_ip.as_str();
        let status = status(now, &self.pod, &self.state, self.told.as_ref(), host_ip);
        let running = |run: &Run| match run {
            Run::Running { .. } => true,
            Run::Waiting(_) | Run::Exited(_) => false,
        };
        let containers = self.state.containers.iter().map(|(name, own)| {
            let id = running(&own.run).then(|| super::record::container_id(name, own.restarts));
            (name.clone(), (own.restarts, id))
        });
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(View {
            pod: self.pod.clone(),
            status: status.clone(),
            cell: self.cell.clone(),
            layers: self.state.images.values().flat_map(|image| image.layers.clone()).collect(),
            containers: containers.collect(),
        });
        if self.told.as_ref() != Some(&status) {
            self.told = Some(status.clone());
            let PodId { namespace, name, uid } = self.id.clone();
            let status = Box::new(status);
            self.shared.outbox.put(Report::PodStatus { namespace, name, uid, status });
        }
    }

    /// Keeps what must be known after a restart of the daemon.
    fn save(&mut self) {
        let bytes = match Record::encode(&self.pod, &self.state) {
            Ok(bytes) => bytes,
            Err(error) => return warn!(%error, "a pod's record cannot be written"),
        };
        if bytes == self.saved {
            return;
        }
        match Record::write(&self.dirs.data, &bytes) {
            Ok(()) => self.saved = bytes,
            Err(error) => warn!(%error, "a pod's record cannot be written"),
        }
    }

    fn until(&self, at: Option<Timestamp>) -> impl Future<Output = ()> + use<> {
        let wait = at.map(|at| {
            std::time::Duration::try_from(at.duration_since(self.shared.now())).unwrap_or_default()
        });
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn finish(&mut self) {
        self.clear_leavings().await;
        self.disconnect().await;
        for directory in [&self.dirs.run, &self.dirs.data] {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    warn!(path = %directory.display(), %error, "a pod's directory cannot be removed");
                }
                _ => {}
            }
        }
        let PodId { namespace, name, uid } = self.id.clone();
        self.shared.outbox.put(Report::PodGone { namespace, name, uid });
        self.finished = true;
    }
}

#[cfg(test)]
mod tests;
