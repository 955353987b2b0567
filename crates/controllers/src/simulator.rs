//! A cluster in memory that carries out plans: an API server, a scheduler, nodes that run what
//! they are given, and controllers whose caches lag. Which of them goes next is drawn from a seed.

mod api;
mod kubelet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use pontoon_model::object::Object;
use pontoon_model::resource;
use pontoon_scheduler::{Outcome, Snapshot, schedule};
use serde_json::{Value, json};

use crate::cache::{Cache, Liveness};
use crate::key::Key;
use crate::pod_state;
use crate::{ALL, Change};

pub(crate) use api::Api;

/// More steps than any of the tests needs: what does not settle is a bug.
const MOST_STEPS: usize = 200_000;

/// Panics if something does not hold that always should.
pub(crate) type Invariant = Box<dyn Fn(&World)>;

/// The whole.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) cache: Cache,
    pub(crate) now: Timestamp,
    snapshot: Snapshot,
    /// Changes that informers have not told yet, by resource: each resource lags for itself.
    backlog: BTreeMap<&'static str, VecDeque<(Key, Option<Object>)>>,
    queues: Vec<BTreeSet<Key>>,
    timers: BTreeSet<(Timestamp, usize, Key)>,
    dead: BTreeSet<String>,
    random: u64,
    /// Whether the cache learns of a plan's own writes before the informers tell.
    pub(crate) reads_own_writes: bool,
    /// Holds after every step.
    pub(crate) invariant: Option<Invariant>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            api: Api::default(),
            cache: Cache::default(),
            now: "2026-11-23T10:00:00Z".parse().unwrap(),
            snapshot: Snapshot::new(),
            backlog: BTreeMap::new(),
            queues: vec![BTreeSet::new(); ALL.len()],
            timers: BTreeSet::new(),
            dead: BTreeSet::new(),
            random: seed,
            reads_own_writes: true,
            invariant: None,
        }
    }

    /// A world with nodes `a`, `b`, … and the namespace `default`.
    pub(crate) fn with_nodes(seed: u64, nodes: usize) -> Self {
        let mut world = Self::new(seed);
        world.create(resource::NAMESPACES, None, namespace("default"));
        for name in ('a'..='z').take(nodes) {
            world.add_node(&name.to_string());
        }
        world.settle(30);
        world
    }

    pub(crate) fn add_node(&mut self, name: &str) {
        self.create(
            resource::NODES,
            None,
            json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {
                    "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }),
        );
        self.set_alive(name, true);
    }

    /// Switches a node's power.
    pub(crate) fn set_alive(&mut self, node: &str, alive: bool) {
        self.set_liveness(node, if alive { Liveness::Alive } else { Liveness::Lost });
    }

    /// Says how a node lives; unless it is well it does nothing to its pods.
    pub(crate) fn set_liveness(&mut self, node: &str, liveness: Liveness) {
        if liveness == Liveness::Alive {
            self.dead.remove(node);
        } else {
            self.dead.insert(node.to_owned());
        }
        let change = self.cache.set_liveness(node, liveness);
        self.enqueue(change);
    }

    pub(crate) fn create(&mut self, r: &'static resource::Resource, ns: Option<&str>, body: Value) {
        let created = self.api.create(self.now, r, ns, body).unwrap();
        self.tell(created);
    }

    /// What a user does with `kubectl patch`.
    pub(crate) fn patch(&mut self, key: &Key, patch: Value) {
        let told = self.api.patch(key, crate::Sub::Whole, &patch).unwrap();
        self.tell(told);
    }

    pub(crate) fn delete(&mut self, key: &Key, propagation: crate::Propagation) {
        let told = self.api.delete(self.now, key, None, None, propagation).unwrap();
        self.tell(told);
    }

    fn tell(&mut self, told: Vec<(Key, Option<Object>)>) {
        for (key, object) in told {
            self.backlog.entry(key.resource.plural).or_default().push_back((key, object));
        }
    }

    pub(crate) fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from((self.random >> 33) % below as u64).unwrap()
    }

    /// Runs until nothing is left to do, going on to the next timer within so many seconds.
    pub(crate) fn settle(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        for _ in 0..MOST_STEPS {
            if !self.step() {
                let Some((due, _, _)) = self.timers.first().cloned() else { break };
                if due > end {
                    break;
                }
                self.now = self.now.max(due);
                while self.timers.first().is_some_and(|(due, _, _)| *due <= self.now) {
                    let (_, controller, key) = self.timers.pop_first().unwrap();
                    self.queues[controller].insert(key);
                }
            }
            self.check();
        }
        assert!(self.is_idle(), "does not settle: {:?}", self.queues);
        self.now = end;
        self.assert_settled();
    }

    /// Runs so many steps, if there are as many, and stops in the midst of things.
    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.check();
        }
    }

    fn check(&mut self) {
        if let Some(invariant) = self.invariant.take() {
            invariant(self);
            self.invariant = Some(invariant);
        }
    }

    fn is_idle(&self) -> bool {
        self.queues.iter().all(BTreeSet::is_empty) && self.backlog.values().all(VecDeque::is_empty)
    }

    /// Every reconciler, run for everything again, has nothing to do.
    fn assert_settled(&self) {
        for controller in ALL {
            for change in self.cache.changes() {
                for key in (controller.keys)(&change, &self.cache) {
                    let plan = (controller.reconcile)(self.now, &key, &self.cache);
                    assert!(plan.is_empty(), "{} {key}: {:#?}", controller.name, plan.actions);
                }
            }
        }
    }

    /// One thing, whichever is drawn. Whether there was one.
    fn step(&mut self) -> bool {
        let mut choices: Vec<Choice> = Vec::new();
        for (resource, backlog) in &self.backlog {
            if !backlog.is_empty() {
                choices.push(Choice::Inform(resource));
            }
        }
        for (at, queue) in self.queues.iter().enumerate() {
            if !queue.is_empty() {
                choices.push(Choice::Reconcile(at));
            }
        }
        if self.api.pods().any(|(_, p)| kubelet::is_unbound(p)) {
            choices.push(Choice::Schedule);
        }
        let dead = &self.dead;
        choices.extend(
            self.api.pods().filter_map(|(k, p)| kubelet::next(k, p, dead)).map(Choice::Run),
        );
        if choices.is_empty() {
            return false;
        }
        let at = self.draw(choices.len());
        match choices.swap_remove(at) {
            Choice::Inform(resource) => self.inform(resource),
            Choice::Reconcile(controller) => self.reconcile(controller),
            Choice::Schedule => return self.schedule() || !choices.is_empty(),
            Choice::Run(step) => {
                let told = step.take(self.now, &mut self.api);
                self.tell(told);
            }
        }
        true
    }

    fn inform(&mut self, resource: &str) {
        let Some((key, object)) = self.backlog.get_mut(resource).and_then(VecDeque::pop_front)
        else {
            return;
        };
        if key.is(resource::NODES) {
            match &object {
                Some(node) => self.snapshot.upsert_node(&node.typed::<Node>().unwrap()),
                None => self.snapshot.remove_node(&key.name),
            }
        } else if key.is(resource::PODS) {
            match &object {
                Some(pod) => self.snapshot.upsert_pod(&pod.typed::<Pod>().unwrap()),
                None => self.snapshot.remove_pod(key.namespace(), &key.name),
            }
        }
        let namespace = key.namespace.as_deref();
        let change = self.cache.apply(key.resource, namespace, &key.name, object).unwrap();
        self.enqueue(change);
    }

    fn enqueue(&mut self, change: Option<Change>) {
        let Some(change) = change else { return };
        for (at, controller) in ALL.iter().enumerate() {
            if controller.watches.contains(&change.key.resource) {
                let keys = (controller.keys)(&change, &self.cache);
                self.queues[at].extend(keys);
            }
        }
    }

    fn reconcile(&mut self, at: usize) {
        let keys: Vec<Key> = self.queues[at].iter().cloned().collect();
        let key = keys[self.draw(keys.len())].clone();
        self.queues[at].remove(&key);
        let plan = (ALL[at].reconcile)(self.now, &key, &self.cache);
        let again = (ALL[at].reconcile)(self.now, &key, &self.cache);
        assert_eq!(plan, again, "{} {key} is a function of the state", ALL[at].name);
        if let Some(after) = plan.requeue_after {
            let due = self.now + SignedDuration::try_from(after).unwrap();
            self.timers.insert((due, at, key.clone()));
        }
        for action in &plan.actions {
            let Ok(told) = self.api.carry_out(self.now, action) else {
                self.queues[at].insert(key);
                return;
            };
            if self.reads_own_writes {
                for object in told.iter().filter_map(|(_, o)| o.clone()) {
                    let change = self.cache.apply_written(object).unwrap();
                    self.enqueue(change);
                }
            }
            self.tell(told);
        }
    }

    /// Whether a pod was bound.
    fn schedule(&mut self) -> bool {
        let unbound = self.api.pods().filter(|(_, p)| kubelet::is_unbound(p));
        let pods: Vec<Arc<Pod>> =
            unbound.map(|(_, p)| Arc::new(serde_json::from_value(p.clone()).unwrap())).collect();
        let seed = self.draw(1_000) as u64;
        let mut bound = false;
        for placement in schedule(&mut self.snapshot, &pods, seed) {
            if let Outcome::Node(node) = placement.outcome {
                let key = Key::new(resource::PODS, Some(&placement.namespace), &placement.name);
                let told = self.api.bind(&key, &node);
                self.tell(told);
                bound = true;
            }
        }
        bound
    }

    /// The pods of the API itself, typed.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.api.pods().map(|(_, p)| serde_json::from_value(p.clone()).unwrap()).collect()
    }

    /// How many pods are ready on each node.
    pub(crate) fn ready_by_node(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for pod in self.pods().iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p))
        {
            let node = pod_state::node(pod).unwrap_or_default().to_owned();
            *counts.entry(node).or_default() += 1;
        }
        counts
    }
}

enum Choice {
    Inform(&'static str),
    Reconcile(usize),
    Schedule,
    Run(kubelet::Step),
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]},
           "status": {"phase": "Active"}})
}
