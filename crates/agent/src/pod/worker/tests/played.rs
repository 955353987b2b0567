//! The parts that are played: a runtime that only notes what it is asked, images that are there or not, wires.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use pontoon_container::{
    ContainerInfo, ContainerSpec, ContainerState, Error, ExecSession, ExecSpec, Exit, Result,
    SandboxSpec, Stats,
};
use pontoon_image::Keychain;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{Found, Handle, Note, Worker};
use crate::assignments::Assignments;
use crate::config::AgentConfig;
use crate::engine::{Cell, Engine, Ran};
use crate::images::{Ensured, ImageHere, Images, NoImage, PullPolicy};
use crate::pod::order::Order;
use crate::pod::record::Record;
use crate::pod::spec::PodId;
use crate::problems::Problems;
use crate::report::{Outbox, Report, ReportError, Reports};
use crate::shared::Shared;
use crate::wires::{WireError, Wires};

pub(super) fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "d", "uid": "u-1"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

type Calls = watch::Sender<Vec<String>>;

fn note_call(calls: &Calls, call: String) {
    calls.send_modify(|calls| calls.push(call));
}

/// One runtime with one sandbox at most.
pub(super) struct PlayedEngine {
    calls: Arc<Calls>,
    containers: Mutex<BTreeMap<String, (ContainerInfo, ContainerSpec)>>,
    notes: Mutex<Option<mpsc::UnboundedSender<Note>>>,
    ignores_term: AtomicBool,
    answer: AtomicI32,
    refused: AtomicU32,
    faults: AtomicU32,
    stuck: AtomicU32,
    me: std::sync::Weak<Self>,
}

impl PlayedEngine {
    fn new(calls: Arc<Calls>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            calls,
            containers: Mutex::default(),
            notes: Mutex::default(),
            ignores_term: AtomicBool::new(false),
            answer: AtomicI32::new(0),
            refused: AtomicU32::new(0),
            faults: AtomicU32::new(0),
            stuck: AtomicU32::new(0),
            me: me.clone(),
        })
    }

    fn call(&self, call: String) {
        note_call(&self.calls, call);
    }

    pub(super) fn ignore_term(&self) {
        self.ignores_term.store(true, Ordering::Relaxed);
    }

    /// The exit code of every command from now on.
    pub(super) fn answer(&self, code: i32) {
        self.answer.store(code, Ordering::Relaxed);
    }

    pub(super) fn refuse_sandboxes(&self, count: u32) {
        self.refused.store(count, Ordering::Relaxed);
    }

    /// So many of the next steps panic.
    pub(super) fn break_down(&self, times: u32) {
        self.faults.store(times, Ordering::Relaxed);
    }

    /// So often what is left of a sandbox cannot be removed.
    pub(super) fn get_stuck(&self, times: u32) {
        self.stuck.store(times, Ordering::Relaxed);
    }

    fn perhaps_break_down(&self) {
        let next = |n: u32| n.checked_sub(1);
        let left = self.faults.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        assert!(left.is_err(), "a fault that is played");
    }

    pub(super) fn refusals_left(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn environment(&self, container: &str) -> Vec<(String, String)> {
        self.containers.lock().unwrap()[container].1.env.clone()
    }

    pub(super) fn state(&self, container: &str) -> Option<ContainerState> {
        self.containers.lock().unwrap().get(container).map(|(info, _)| info.state)
    }

    pub(super) fn end_unseen(&self, container: &str, code: i32) -> Exit {
        let exit = Exit { code, signal: None, oom_killed: false, at: SystemTime::UNIX_EPOCH };
        let mut containers = self.containers.lock().unwrap();
        if let Some((info, _)) = containers.get_mut(container) {
            info.state = ContainerState::Stopped;
            info.exit = Some(exit);
        }
        exit
    }

    fn end(&self, container: &str, code: i32) {
        let exit = self.end_unseen(container, code);
        if let Some(notes) = self.notes.lock().unwrap().as_ref() {
            let note = Note::Exited { container_id: container.to_owned(), exit };
            drop(notes.send(note));
        }
    }
}

#[async_trait]
impl Engine for PlayedEngine {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Arc<dyn Cell>> {
        let refuse = |n: u32| n.checked_sub(1);
        if self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse).is_ok() {
            return Err(Error::ShimStart { sandbox: spec.id, reason: "refused".into() });
        }
        self.call(format!("sandbox {}", spec.id));
        self.containers.lock().unwrap().clear();
        Ok(self.me.upgrade().unwrap())
    }

    async fn clear(&self, sandbox: &str) -> Result<()> {
        let next = |n: u32| n.checked_sub(1);
        match self.stuck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Err(Error::SandboxExists(sandbox.to_owned())),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Cell for PlayedEngine {
    fn pid(&self) -> u32 {
        1
    }

    fn netns(&self) -> PathBuf {
        "/proc/1/ns/net".into()
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        self.call(format!("create {}", spec.id));
        let info = ContainerInfo {
            id: spec.id.clone(),
            state: ContainerState::Created,
            pid: Some(7),
            uid: 0,
            exit: None,
            started_at: None,
            finished_at: None,
        };
        self.containers.lock().unwrap().insert(spec.id.clone(), (info.clone(), spec));
        Ok(info)
    }

    async fn start(&self, container: &str) -> Result<ContainerInfo> {
        let info = {
            let mut containers = self.containers.lock().unwrap();
            let (info, _) = containers.get_mut(container).unwrap();
            info.state = ContainerState::Running;
            info.clone()
        };
        self.call(format!("start {container}"));
        Ok(info)
    }

    async fn kill(&self, container: &str, signal: i32) -> Result<()> {
        self.call(format!("kill {container} {signal}"));
        if !self.ignores_term.load(Ordering::Relaxed) {
            self.end(container, 128 + signal);
        }
        Ok(())
    }

    async fn kill_all(&self, container: &str, signal: i32) -> Result<()> {
        self.call(format!("kill all {container} {signal}"));
        self.end(container, 128 + signal);
        Ok(())
    }

    async fn delete(&self, container: &str) -> Result<()> {
        self.perhaps_break_down();
        self.call(format!("delete {container}"));
        self.containers.lock().unwrap().remove(container);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerInfo>> {
        Ok(self.containers.lock().unwrap().values().map(|(info, _)| info.clone()).collect())
    }

    async fn exec(&self, container: &str, _: ExecSpec) -> Result<ExecSession> {
        Err(Error::InvalidId(container.to_owned()))
    }

    async fn run(&self, container: &str, argv: Vec<String>) -> Result<Ran> {
        self.call(format!("run {container} {}", argv.join(" ")));
        Ok(Ran { code: self.answer.load(Ordering::Relaxed), output: String::new() })
    }

    async fn stats(&self, _: &str) -> Result<Stats> {
        Ok(Stats::default())
    }

    async fn remove(&self) -> Result<()> {
        self.call("remove u-1".to_owned());
        self.containers.lock().unwrap().clear();
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct PlayedImages(AtomicBool, Mutex<Vec<Keychain>>);

impl PlayedImages {
    pub(super) fn lose(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn find(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// With what the images were asked for.
    pub(super) fn keychains(&self) -> Vec<Keychain> {
        self.1.lock().unwrap().clone()
    }
}

#[async_trait]
impl Images for PlayedImages {
    fn is_here(&self, _: &str, _: PullPolicy) -> bool {
        false
    }

    async fn ensure(
        &self,
        name: &str,
        _: PullPolicy,
        keychain: &Keychain,
    ) -> std::result::Result<Ensured, NoImage> {
        self.1.lock().unwrap().push(keychain.clone());
        if self.0.load(Ordering::Relaxed) {
            return Err(NoImage { reason: "ErrImagePull", message: format!("{name} not found") });
        }
        let mut image = ImageHere::default();
        image.defaults.entrypoint = vec!["/run".into()];
        Ok(Ensured { image, fetched: true, stale: None })
    }
}

struct PlayedWires(Arc<Calls>);

#[async_trait]
impl Wires for PlayedWires {
    fn gateway(&self) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(10, 244, 1, 1))
    }

    fn allocate(&self, _: &str) -> std::result::Result<Ipv4Addr, WireError> {
        Ok(Ipv4Addr::new(10, 244, 1, 2))
    }

    async fn attach(
        &self,
        _: PathBuf,
        uid: &str,
        _: Ipv4Addr,
    ) -> std::result::Result<(), WireError> {
        note_call(&self.0, format!("attach {uid}"));
        Ok(())
    }

    async fn detach(&self, uid: &str) {
        note_call(&self.0, format!("detach {uid}"));
    }
}

struct Heard(mpsc::UnboundedSender<Report>);

#[async_trait]
impl Reports for Heard {
    async fn report(&self, reports: Vec<Report>) -> std::result::Result<(), ReportError> {
        for report in reports {
            drop(self.0.send(report));
        }
        Ok(())
    }
}

/// Everything around one pod.
pub(super) struct Stage {
    pub(super) engine: Arc<PlayedEngine>,
    pub(super) images: Arc<PlayedImages>,
    shared: Arc<Shared>,
    assignments: watch::Sender<Arc<Assignments>>,
    calls: watch::Receiver<Vec<String>>,
    reports: mpsc::UnboundedReceiver<Report>,
    seen: Vec<Report>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (calls, call_receiver) = watch::channel(Vec::new());
        let calls = Arc::new(calls);
        let assignments =
            watch::Sender::new(Arc::new(Assignments { complete: true, ..Assignments::default() }));
        let (heard, reports) = mpsc::unbounded_channel();
        let (stop, outbox) = (CancellationToken::new(), Arc::new(Outbox::default()));
        let (deliver, stopped) = (outbox.clone(), stop.clone());
        tokio::spawn(
            async move { deliver.run(&Heard(heard), &Problems::default(), stopped).await },
        );
        let (engine, images) =
            (PlayedEngine::new(calls.clone()), Arc::new(PlayedImages::default()));
        let address = Ipv4Addr::new(192, 168, 0, 1);
        let begun = Instant::now();
        let clock = move || {
            let passed = SignedDuration::try_from(begun.elapsed()).unwrap();
            // Whole milliseconds, as the runtime's timers have.
            let passed = SignedDuration::from_millis(i64::try_from(passed.as_millis()).unwrap());
            Timestamp::UNIX_EPOCH + passed
        };
        let shared = Arc::new(Shared {
            config: AgentConfig::new(
                "n1",
                address,
                dir.path().join("data"),
                dir.path().join("run"),
            ),
            engine: engine.clone(),
            images: images.clone(),
            wires: Arc::new(PlayedWires(calls)),
            outbox,
            assignments: assignments.subscribe(),
            ports: watch::Sender::new(BTreeMap::new()),
            clock: Box::new(clock),
            node_cpu_millis: 1000,
            node_memory_bytes: 1 << 30,
            host_ip: address.to_string(),
        });
        let calls = call_receiver;
        Self { engine, images, shared, assignments, calls, reports, seen: vec![], dir, stop }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.now()
    }

    pub(super) fn begin(&self, pod: &Pod) -> Handle {
        self.spawn(pod, None)
    }

    /// As a new daemon would.
    pub(super) fn take_over(&self, uid: &str, pod: &Pod) -> Handle {
        let record = Record::read(&self.pod_directory(uid)).unwrap();
        let cell: Arc<dyn Cell> = self.engine.clone();
        self.spawn(pod, Some(Found { state: record.state, cell: Some(cell) }))
    }

    /// As a daemon would after the machine lost its power: only what was written down is left.
    pub(super) fn switch_on(&self, uid: &str, pod: &Pod) -> Handle {
        let record = Record::read(&self.pod_directory(uid)).unwrap();
        self.spawn(pod, Some(Found { state: record.state, cell: None }))
    }

    fn spawn(&self, pod: &Pod, found: Option<Found>) -> Handle {
        let order = Order::assigned(&Arc::new(pod.clone()), &self.assignments.borrow());
        let id = PodId::of(pod).unwrap();
        let handle = Worker::spawn(id, order, found, self.shared.clone(), self.stop.clone());
        *self.engine.notes.lock().unwrap() = Some(handle.notes.clone());
        handle
    }

    pub(super) fn order(&self, handle: &Handle, pod: &Pod) {
        handle.order(Order::assigned(&Arc::new(pod.clone()), &self.assignments.borrow()));
    }

    pub(super) fn add_config_map(&self, name: &str, key: &str, value: &str) {
        let map = json!({"metadata": {"resourceVersion": "1"}, "data": {key: value}});
        self.assignments.send_modify(|all| {
            let key = ("d".to_owned(), name.to_owned());
            let map = Arc::new(serde_json::from_value(map.clone()).unwrap());
            Arc::make_mut(all).config_maps.insert(key, map);
        });
    }

    pub(super) fn add_pull_secret(&self, name: &str, config: &str) {
        let data = json!({".dockerconfigjson": ByteString(config.as_bytes().to_vec())});
        let secret = json!({"metadata": {"resourceVersion": "1"},
            "type": "kubernetes.io/dockerconfigjson", "data": data});
        self.assignments.send_modify(|all| {
            let key = ("d".to_owned(), name.to_owned());
            let secret = Arc::new(serde_json::from_value(secret.clone()).unwrap());
            Arc::make_mut(all).secrets.insert(key, secret);
        });
    }

    pub(super) fn exit(&self, _: &Handle, container: &str, code: i32) {
        let exit = self.engine.end_unseen(container, code);
        let at = SystemTime::from(self.now());
        let notes = self.engine.notes.lock().unwrap();
        let note = Note::Exited { container_id: container.to_owned(), exit: Exit { at, ..exit } };
        notes.as_ref().unwrap().send(note).unwrap();
    }

    pub(super) fn pod_directory(&self, uid: &str) -> PathBuf {
        self.dir.path().join("data/pods").join(uid)
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Waits until the runtime was asked for this.
    pub(super) async fn called(&mut self, call: &str) {
        self.calls.wait_for(|calls| calls.iter().any(|c| c == call)).await.unwrap();
    }

    pub(super) async fn started(&mut self, container: &str) {
        self.called(&format!("start {container}")).await;
    }

    /// Waits for a report and gives it.
    async fn report<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> T {
        loop {
            let report = self.reports.recv().await.expect("the stage is open");
            let found = wanted(&report);
            self.seen.push(report);
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub(super) async fn status(&mut self, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let wanted = |report: &Report| match report {
            Report::PodStatus { status, .. } if wanted(status) => Some((**status).clone()),
            _ => None,
        };
        self.report(wanted).await
    }

    pub(super) async fn event(&mut self, reason: &str) {
        self.report(|report| match report {
            Report::Event(event) if event.reason == reason => Some(()),
            _ => None,
        })
        .await;
    }

    pub(super) async fn gone(&mut self) {
        self.report(|report| matches!(report, Report::PodGone { .. }).then_some(())).await;
    }

    pub(super) fn told_nothing_but_the_end(&self) -> bool {
        self.seen.iter().all(|report| matches!(report, Report::PodGone { .. }))
    }

    /// The reasons of all events so far.
    pub(super) fn events(&mut self) -> Vec<String> {
        while let Ok(report) = self.reports.try_recv() {
            self.seen.push(report);
        }
        let events = self.seen.iter().filter_map(|report| match report {
            Report::Event(event) => Some(event.reason.to_owned()),
            _ => None,
        });
        events.collect()
    }
}
