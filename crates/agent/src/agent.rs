//! The agent: one task a pod, the node's wires and names, its status; all after the newest assignments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeStatus, Pod, PodStatus};
use pontoon_container::{Event, Runtime, Sandbox};
use pontoon_image::ImageStore;
use pontoon_network::{Network, NetworkError, OverlayGuard, Tables};
use thiserror::Error;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::assignments::Assignments;
use crate::config::AgentConfig;
use crate::engine::{Cell, Engine};
use crate::images::{ImageSource, Images, NodeImages};
use crate::node::facts::Facts;
use crate::node::network::NodeNetwork;
use crate::node::services::Services;
use crate::node::status::{Health, is_same, labels, news, node_status};
use crate::pod::order::Order;
use crate::pod::record::Record;
use crate::pod::spec::{PodId, uses_host_network};
use crate::pod::state::Failure;
use crate::pod::worker::{Found, Handle, LABEL_ADDRESS, LABEL_UID, Note, View, Worker};
use crate::problems::{Part, Problems};
use crate::report::{Outbox, Report, Reports};
use crate::shared::Shared;
use crate::wires::Wires;

/// How often the node's status is told although nothing changed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The longest pause between attempts to remove what is left of dead sandboxes.
const LEFTOVERS_PAUSE: Duration = Duration::from_secs(60);

/// Why the agent cannot run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The packet filter cannot be reached.
    #[error("opening the packet filter: {0}")]
    Tables(#[source] NetworkError),
    /// The sandboxes of an earlier daemon cannot be looked for.
    #[error("looking for running containers: {0}")]
    Recover(#[source] pontoon_container::Error),
    /// A part of the agent broke down.
    #[error("a fault in Pontoon, please report it: {0}")]
    Fault(String),
    /// Some of the node could not be removed; all else was.
    #[error("remove what was made for the node: {}", .0.join("; "))]
    Remove(Vec<String>),
}

/// Runs what its node is assigned. Clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    config: AgentConfig,
    runtime: Runtime,
    images: Arc<NodeImages>,
    network: Arc<NodeNetwork>,
    tables: Tables,
    reports: Arc<dyn Reports>,
    outbox: Arc<Outbox>,
    problems: Arc<Problems>,
    pods: Mutex<HashMap<String, Handle>>,
    /// The pods of an earlier daemon are among `pods`.
    adopted: AtomicBool,
}

impl Agent {
    /// An agent that does nothing yet. `network` must be of the namespace in which this is called.
    pub fn new(
        config: AgentConfig,
        runtime: Runtime,
        images: ImageStore,
        source: Arc<dyn ImageSource>,
        network: Network,
        reports: Arc<dyn Reports>,
    ) -> Result<Self, AgentError> {
        let tables = Tables::new(&config.table).map_err(AgentError::Tables)?;
        let guard = OverlayGuard::new(&format!("{}-overlay", config.table), config.vxlan_port);
        let guard = guard.map_err(AgentError::Tables)?;
        let network = Arc::new(NodeNetwork::new(network, guard, config.clone()));
        let images = Arc::new(NodeImages { store: images, source });
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                runtime,
                images,
                network,
                tables,
                reports,
                outbox: Arc::default(),
                problems: Arc::default(),
                pods: Mutex::default(),
                adopted: AtomicBool::new(false),
            }),
        })
    }

    /// Makes the node like the newest assignments until `shutdown`, which leaves the pods running. Pods of an earlier
    /// daemon are taken over as they are; what is not assigned is stopped once the managers were heard. After an error,
    /// which is among the node's problems until then, it can be called again.
    pub async fn run(
        &self,
        assignments: watch::Receiver<Arc<Assignments>>,
        shutdown: CancellationToken,
    ) -> Result<(), AgentError> {
        let ran = self.try_run(assignments, &shutdown).await;
        // Whatever happened: the tasks end, and what they run goes on.
        shutdown.cancel();
        self.lock().clear();
        self.inner.adopted.store(false, Ordering::Release);
        let problem = ran.as_ref().err().map(|error| format!("no pods are looked after: {error}"));
        self.inner.problems.set(Part::Agent, problem);
        ran
    }

    async fn try_run(
        &self,
        mut assignments: watch::Receiver<Arc<Assignments>>,
        shutdown: &CancellationToken,
    ) -> Result<(), AgentError> {
        let events = self.inner.runtime.events();
        let sandboxes = self.inner.runtime.recover().await.map_err(AgentError::Recover)?;
        let shared = self.shared(assignments.clone());
        self.adopt(sandboxes, &shared, shutdown).await;
        self.inner.adopted.store(true, Ordering::Release);
        self.inner.problems.set(Part::Agent, None);
        let mut network = self.inner.network.up();
        let mut tasks = self.spawn_tasks(&shared, assignments.clone(), events, shutdown);
        let mut swept = false;
        let ended = loop {
            let wanted = assignments.borrow_and_update().clone();
            self.assign(&wanted, &shared, shutdown);
            if wanted.complete && !swept {
                self.sweep(&wanted, &shared, shutdown);
                swept = true;
            }
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                changed = assignments.changed() => if changed.is_err() { break Ok(()) },
                // They end at the shutdown, or because of a fault.
                ended = tasks.join_next(), if !shutdown.is_cancelled() => {
                    break match ended {
                        // The shutdown came while this one was looked at.
                        Some(Ok(())) if shutdown.is_cancelled() => Ok(()),
                        Some(Err(fault)) => Err(AgentError::Fault(fault.to_string())),
                        _ => Err(AgentError::Fault("a task ended before its time".to_owned())),
                    };
                }
                // Kept open by the agent itself.
                _ = network.changed() => {}
                // Pods that are gone are forgotten, and their names may come again.
                () = tokio::time::sleep(LOOK) => {}
            }
        };
        shutdown.cancel();
        while tasks.join_next().await.is_some() {}
        ended
    }

    fn shared(&self, assignments: watch::Receiver<Arc<Assignments>>) -> Arc<Shared> {
        let inner = &self.inner;
        let facts = Facts::read(&inner.config.data_dir);
        let engine: Arc<dyn Engine> = Arc::new(inner.runtime.clone());
        let images: Arc<dyn Images> = inner.images.clone();
        let wires: Arc<dyn Wires> = inner.network.clone();
        Arc::new(Shared {
            config: inner.config.clone(),
            engine,
            images,
            wires,
            outbox: inner.outbox.clone(),
            assignments,
            ports: watch::Sender::new(BTreeMap::new()),
            clock: Box::new(Timestamp::now),
            node_cpu_millis: i64::try_from(facts.cpus).unwrap_or(1).saturating_mul(1000),
            node_memory_bytes: i64::try_from(facts.memory_bytes).unwrap_or(i64::MAX),
            host_ip: inner.config.node_address.to_string(),
        })
    }

    fn spawn_tasks(
        &self,
        shared: &Arc<Shared>,
        assignments: watch::Receiver<Arc<Assignments>>,
        events: broadcast::Receiver<Event>,
        shutdown: &CancellationToken,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let services = Services {
            config: self.inner.config.clone(),
            network: self.inner.network.clone(),
            tables: self.inner.tables.clone(),
            assignments,
            ports: shared.ports.subscribe(),
            problems: self.inner.problems.clone(),
        };
        services.begin();
        tasks.spawn(services.run(shutdown.clone()));
        tasks.spawn(self.clone().tell_node(shutdown.clone()));
        tasks.spawn(self.clone().remove_leftovers(shutdown.clone()));
        tasks.spawn(crate::disk::keep(self.clone(), shutdown.clone()));
        tasks.spawn(self.clone().pass_on(events, shutdown.clone()));
        let (outbox, reports) = (self.inner.outbox.clone(), self.inner.reports.clone());
        let problems = self.inner.problems.clone();
        let stop = shutdown.clone();
        tasks.spawn(async move { outbox.run(reports.as_ref(), &problems, stop).await });
        tasks
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        // The map is whole after every single change.
        self.inner.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the pods whose sandboxes live. A sandbox that nothing is remembered of cannot be taken over.
    async fn adopt(
        &self,
        sandboxes: Vec<Sandbox>,
        shared: &Arc<Shared>,
        shutdown: &CancellationToken,
    ) {
        let records = Record::read_all(&self.inner.config.data_dir);
        let mut records: HashMap<String, (PodId, Record)> =
            records.into_iter().map(|(id, record)| (id.uid.clone(), (id, record))).collect();
        for sandbox in sandboxes {
            let uid = sandbox.labels().get(LABEL_UID).cloned().unwrap_or_default();
            let Some((id, mut record)) = records.remove(&uid) else {
                warn!(sandbox = sandbox.id(), "a sandbox without a pod is removed");
                if let Err(error) = sandbox.remove().await {
                    warn!(%error, "removing a sandbox");
                }
                continue;
            };
            let address = sandbox.labels().get(LABEL_ADDRESS).and_then(|ip| ip.parse().ok());
            if let Some(address) = address {
                self.inner.network.adopt(&uid, address);
                // A record may be older than the sandbox: it is written when the sandbox is ready.
                record.state.ip = Some(address);
            }
            let order = Order::assigned(&record.pod, &shared.assignments.borrow());
            let cell: Arc<dyn Cell> = Arc::new(sandbox);
            let found = Found { state: record.state, cell: Some(cell) };
            let handle = Worker::spawn(id, order, Some(found), shared.clone(), shutdown.clone());
            self.lock().insert(uid, handle);
        }
        // Something of these is left, and may still answer to the pod's address.
        for uid in self.inner.runtime.leftovers().into_keys() {
            if let Some(address) = records.get(&uid).and_then(|(_, record)| record.state.ip) {
                self.inner.network.adopt(&uid, address);
            }
        }
    }

    /// Gives every pod's task its newest order; begins and ends pods.
    fn assign(&self, wanted: &Assignments, shared: &Arc<Shared>, shutdown: &CancellationToken) {
        let mut pods = self.lock();
        pods.retain(|_, handle| !handle.is_finished());
        if !wanted.complete {
            return;
        }
        let mut assigned = HashMap::new();
        for pod in wanted.pods.values() {
            if let Some(id) = PodId::of(pod) {
                assigned.insert(id.uid.clone(), (id, pod));
            }
        }
        for (uid, handle) in pods.iter() {
            if !assigned.contains_key(uid) {
                let pod = handle.orders.borrow().pod.clone();
                handle.order(Order::unassigned(&pod));
            }
        }
        for (uid, (id, pod)) in assigned {
            let order = Order::assigned(pod, wanted);
            match pods.get(&uid) {
                Some(handle) => handle.order(order),
                None => {
                    if let Some(handle) = self.begin(id, order, shared, shutdown) {
                        pods.insert(uid, handle);
                    }
                }
            }
        }
    }

    /// Ends what an earlier daemon left of pods that are assigned no more and live no more: their files.
    fn sweep(&self, wanted: &Assignments, shared: &Arc<Shared>, shutdown: &CancellationToken) {
        let assigned: HashSet<String> =
            wanted.pods.values().filter_map(|pod| PodId::of(pod)).map(|id| id.uid).collect();
        let mut pods = self.lock();
        let is_left = |uid: &str| !assigned.contains(uid) && !pods.contains_key(uid);
        let data_dir = &self.inner.config.data_dir;
        let records: Vec<_> =
            Record::read_all(data_dir).into_iter().filter(|(id, _)| is_left(&id.uid)).collect();
        let known: HashSet<String> = records.iter().map(|(id, _)| id.uid.clone()).collect();
        for directory in [data_dir.join("pods"), self.inner.config.run_dir.join("pods")] {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let uid = entry.file_name().to_string_lossy().into_owned();
                if is_left(&uid) && !known.contains(&uid) {
                    info!(uid, "removing the leavings of a pod that nobody knows");
                    if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                        warn!(uid, %error, "removing the leavings of a pod");
                    }
                }
            }
        }
        for (id, record) in records {
            let (uid, order) = (id.uid.clone(), Order::unassigned(&record.pod));
            let found = Some(Found { state: record.state, cell: None });
            let handle = Worker::spawn(id, order, found, shared.clone(), shutdown.clone());
            pods.insert(uid, handle);
        }
    }

    /// Begins a pod, unless its life is over: one that has ended is not run again because it is forgotten here.
    fn begin(
        &self,
        id: PodId,
        order: Order,
        shared: &Arc<Shared>,
        shutdown: &CancellationToken,
    ) -> Option<Handle> {
        let directory = self.inner.config.data_dir.join("pods").join(&id.uid);
        let record = Record::read(&directory);
        let ends = order.stop.is_some();
        if record.is_none() && is_over(&order.pod) && !ends {
            return None;
        }
        // Begun when it can be connected; until then the node itself says what is wrong.
        let can_run = *self.inner.network.up().borrow() || uses_host_network(&order.pod);
        if !can_run && !ends {
            return None;
        }
        let found = record.map(|record| Found { state: record.state, cell: None });
        Some(Worker::spawn(id, order, found, shared.clone(), shutdown.clone()))
    }

    /// Passes the runtime's events on to the pods' tasks.
    async fn pass_on(self, mut events: broadcast::Receiver<Event>, shutdown: CancellationToken) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = shutdown.cancelled() => return,
            };
            match event {
                Ok(Event::Exited { sandbox, container, exit }) => {
                    self.note(&sandbox, Note::Exited { container_id: container, exit });
                }
                Ok(Event::SandboxDied { sandbox }) => self.note(&sandbox, Note::SandboxDied),
                Ok(Event::Started { .. }) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    warn!(lost, "events were lost; looking at every sandbox");
                    for handle in self.lock().values() {
                        drop(handle.notes.send(Note::Look));
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// A sandbox is called by its pod's uid. The pod's task may be over already.
    fn note(&self, sandbox: &str, note: Note) {
        if let Some(handle) = self.lock().get(sandbox) {
            drop(handle.notes.send(note));
        }
    }

    /// Tries again and again to remove what is left of dead sandboxes.
    async fn remove_leftovers(self, shutdown: CancellationToken) {
        let runtime = &self.inner.runtime;
        let mut pause = LOOK;
        loop {
            let left = runtime.leftovers();
            let problem = left.iter().next().map(|(id, why)| {
                let others = left.len() - 1;
                format!("{why} (of a dead pod, {id}, and {others} others); trying again")
            });
            pause = if left.is_empty() { LOOK } else { (pause * 2).min(LEFTOVERS_PAUSE) };
            self.inner.problems.set(Part::Leftovers, problem);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            runtime.remove_leftovers().await;
        }
    }

    /// Tells the node's status when it changes and every ten seconds.
    async fn tell_node(self, shutdown: CancellationToken) {
        let config = &self.inner.config;
        let mut problems = self.inner.problems.subscribe();
        let mut told: Option<(NodeStatus, Timestamp)> = None;
        let mut checked: Option<Instant> = None;
        loop {
            let now = Timestamp::now();
            let facts = Facts::read(&config.data_dir);
            if checked.is_none_or(|at| at.elapsed() >= HEARTBEAT) {
                checked = Some(Instant::now());
                self.inner.problems.set(Part::Cgroups, self.cgroup_problem().await);
            }
            let health = Health::of(&problems.borrow_and_update());
            let before = told.as_ref().map(|(status, _)| status);
            let status = node_status(now, config, &facts, &health, before);
            let is_due = told.as_ref().is_none_or(|(old, at)| {
                let age = Duration::try_from(now.duration_since(*at)).unwrap_or(HEARTBEAT);
                age >= HEARTBEAT || !is_same(old, &status)
            });
            if is_due {
                if let Some(event) = news(config, before, &status, now) {
                    self.inner.outbox.put(Report::Event(Box::new(event)));
                }
                let report =
                    Report::NodeStatus { status: Box::new(status.clone()), labels: labels(config) };
                self.inner.outbox.put(report);
                told = Some((status, now));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = problems.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Why this machine's cgroups cannot limit pods; none when they can.
    async fn cgroup_problem(&self) -> Option<String> {
        let runtime = self.inner.runtime.clone();
        let check = tokio::task::spawn_blocking(move || runtime.check_cgroups());
        match check.await {
            Ok(checked) => checked.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// What is known of a pod by its name.
    pub(crate) fn view(&self, namespace: &str, name: &str) -> Option<View> {
        let pods = self.lock();
        let mut named = pods.values().filter(|h| h.id.namespace == namespace && h.id.name == name);
        // While an older pod of that name ends, the newer one is meant.
        let newest = named.clone().find(|h| h.orders.borrow().stop.is_none());
        newest.or_else(|| named.next())?.view()
    }

    /// What is known of all pods.
    pub(crate) fn views(&self) -> Vec<View> {
        self.lock().values().filter_map(Handle::view).collect()
    }

    /// The pods that have not ended yet and nobody has told to.
    pub(crate) fn living_pods(&self) -> Vec<Arc<Pod>> {
        let pods = self.lock();
        let alive = pods.values().filter(|handle| handle.orders.borrow().stop.is_none());
        let views = alive.filter_map(Handle::view).filter(|view| view.cell.is_some());
        views.filter(|view| !is_failed(&view.status)).map(|view| view.pod).collect()
    }

    /// Ends a pod because of what it does to the node; its object stays and says so.
    pub(crate) fn evict(&self, uid: &str, failure: Failure, at_once: bool) {
        self.note(uid, Note::Evicted { failure, at_once });
    }

    /// Where what a pod's containers write over their images is.
    pub(crate) fn writable_layers(&self, uid: &str) -> PathBuf {
        self.inner.runtime.state_dir(uid)
    }

    pub(crate) fn images(&self) -> &ImageStore {
        &self.inner.images.store
    }

    /// What is wrong on this node, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.inner.problems.all().into_values().collect()
    }

    /// Whether all pods of an earlier daemon are known.
    pub(crate) fn has_adopted(&self) -> bool {
        self.inner.adopted.load(Ordering::Acquire)
    }

    pub(crate) fn config(&self) -> &AgentConfig {
        &self.inner.config
    }

    /// Removes everything of this node: sandboxes, wires, packet filter, pods' directories. For a node that leaves the
    /// cluster; `run` must be over.
    pub async fn remove_all(&self) -> Result<(), AgentError> {
        let inner = &self.inner;
        // Each step is taken whatever became of the others: what is left is little, and is tried again.
        let mut left = Vec::new();
        let mut note = |what: &str, failed: Option<String>| {
            left.extend(failed.map(|why| format!("{what}: {why}")));
        };
        match inner.runtime.recover().await {
            Ok(sandboxes) => {
                for sandbox in sandboxes {
                    let what = format!("sandbox {}", sandbox.id());
                    note(&what, sandbox.remove().await.err().map(|e| e.to_string()));
                }
            }
            Err(error) => note("running containers", Some(error.to_string())),
        }
        for (id, why) in inner.runtime.leftovers() {
            note(&format!("sandbox {id}"), Some(why));
        }
        let released = inner.runtime.release().await;
        note("the runtime's directories", released.err().map(|e| e.to_string()));
        let removed = inner.tables.remove().await;
        note("the packet filter's table", removed.err().map(|e| e.to_string()));
        let removed = inner.network.remove().await;
        note("the node's links", removed.err().map(|e| e.to_string()));
        for directory in [&inner.config.data_dir, &inner.config.run_dir] {
            let pods = directory.join("pods");
            let removed = std::fs::remove_dir_all(&pods).err();
            let failed = removed.filter(|e| e.kind() != std::io::ErrorKind::NotFound);
            note(&pods.display().to_string(), failed.map(|e| e.to_string()));
        }
        if !left.is_empty() {
            return Err(AgentError::Remove(left));
        }
        info!("nothing of the node is left");
        Ok(())
    }
}

fn is_failed(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Failed")
}

/// Whether the managers know the pod as ended.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
