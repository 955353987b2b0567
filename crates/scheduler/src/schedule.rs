//! The decision: pods that are alike are placed together, so that nodes are looked at once a class.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::explanation::Explanation;
use crate::filter;
use crate::fnv::{Map, hash_of};
use crate::pod_info::PodInfo;
use crate::score;
use crate::snapshot::Snapshot;
use crate::topology::Topology;

/// No search looks at fewer nodes that fit, if there are so many.
const MIN_SAMPLE: usize = 100;

/// Where one pod goes, or why it goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub outcome: Outcome,
}

/// The decision about one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node to bind it to.
    Node(String),
    Unschedulable(Arc<Explanation>),
}

/// Decides for every pod, in the order of priority and then of the list, and counts each decision
/// as taken: call [`Snapshot::remove_pod`] when a binding fails. The answer is in the list's order
/// and a function of the snapshot, the pods and the seed alone; the seed breaks ties.
pub fn schedule(snapshot: &mut Snapshot, pods: &[Arc<Pod>], seed: u64) -> Vec<Placement> {
    let mut classes: Vec<(Arc<PodInfo>, Vec<usize>)> = Vec::new();
    let mut known: Map<Arc<PodInfo>, usize> = Map::default();
    for (at, pod) in pods.iter().enumerate() {
        let info = Arc::new(PodInfo::of(pod));
        let class = *known.entry(Arc::clone(&info)).or_insert_with(|| {
            classes.push((info, Vec::new()));
            classes.len() - 1
        });
        classes[class].1.push(at);
    }
    classes.sort_by_key(|(info, _)| Reverse(info.priority));
    let mut outcomes: Vec<Option<Outcome>> = vec![None; pods.len()];
    for (info, members) in &classes {
        let mut search = Search::new(snapshot, info, members.len(), seed);
        for at in members {
            outcomes[*at] = Some(search.decide(&pods[*at]));
        }
    }
    pods.iter().zip(outcomes).filter_map(|(pod, outcome)| placement(pod, outcome?)).collect()
}

fn placement(pod: &Pod, outcome: Outcome) -> Option<Placement> {
    let (namespace, name) = key(pod);
    Some(Placement { namespace, name, uid: pod.metadata.uid.clone().unwrap_or_default(), outcome })
}

fn key(pod: &Pod) -> (String, String) {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

/// A node that fits, cheapest first; equal ones in the seed's order.
type Candidate = Reverse<(i64, u64, usize)>;

/// Nodes that are in the same domains of everything that a class of pods minds.
struct District {
    /// Any of them: it stands for all in what concerns other pods.
    first: usize,
    nodes: BinaryHeap<Candidate>,
}

/// The search for places for one class of pods.
struct Search<'a> {
    snapshot: &'a mut Snapshot,
    info: &'a Arc<PodInfo>,
    topology: Topology,
    seed: u64,
    /// Nodes that may be used: all, or the few that the pods name.
    nodes: Vec<usize>,
    fitting: BinaryHeap<Candidate>,
    /// Of coupled pods only: the nodes by domains, and where the last pod went.
    districts: Vec<District>,
    taken_from: usize,
    /// Whether `fitting` came from all of `nodes`.
    whole: bool,
    started: bool,
    /// The class fits nowhere: what does not change while nothing is placed.
    refused: Option<Arc<Explanation>>,
    /// How many pods of the class there are to place.
    members: usize,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a mut Snapshot, info: &'a Arc<PodInfo>, members: usize, seed: u64) -> Self {
        let refused = if info.gated {
            Some(Explanation::Gated)
        } else if snapshot.live.is_empty() {
            Some(Explanation::NoNodes)
        } else {
            None
        };
        let nodes = match info.named_nodes() {
            Some(names) => snapshot.indexes(&names),
            None => snapshot.live.clone(),
        };
        Self {
            topology: Topology::of(snapshot, info),
            seed: hash_of(&(seed, &info.namespace, &info.group)),
            nodes,
            fitting: BinaryHeap::new(),
            districts: Vec::new(),
            taken_from: 0,
            whole: false,
            started: false,
            refused: refused.map(Arc::new),
            members,
            snapshot,
            info,
        }
    }

    fn decide(&mut self, pod: &Pod) -> Outcome {
        let key = key(pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(node) = self.snapshot.assumed(&key, &uid) {
            return Outcome::Node(node.to_owned());
        }
        if let Some(refused) = &self.refused {
            return Outcome::Unschedulable(Arc::clone(refused));
        }
        let found = if self.info.is_coupled() { self.best_of_all() } else { self.best_fitting() };
        let Some(index) = found else {
            let explanation = Arc::new(self.explain());
            self.refused = Some(Arc::clone(&explanation));
            return Outcome::Unschedulable(explanation);
        };
        self.snapshot.assume(key, uid, index, self.info);
        self.topology.placed(&self.snapshot.nodes[index]);
        let candidate = Reverse(self.candidate(index));
        match self.districts.get_mut(self.taken_from) {
            Some(district) => district.nodes.push(candidate),
            None => self.fitting.push(candidate),
        }
        Outcome::Node(self.snapshot.nodes[index].name.clone())
    }

    /// The cheapest of the nodes that were found to fit, if it still does. Placing a pod changes
    /// the cost of its node alone, so no other has to be looked at again.
    fn best_fitting(&mut self) -> Option<usize> {
        if !self.started {
            self.started = true;
            self.gather(self.sample());
        }
        loop {
            while let Some(Reverse((_, _, index))) = self.fitting.pop() {
                if self.fits(index) {
                    return Some(index);
                }
            }
            if self.whole {
                return None;
            }
            self.gather(usize::MAX);
        }
    }

    /// The cheapest node for pods whose places depend on each other. Nodes that share all domains
    /// are alike to them, so each such district is judged once and offers its cheapest node.
    fn best_of_all(&mut self) -> Option<usize> {
        if !self.started {
            self.started = true;
            self.divide();
        }
        let floors = self.topology.floors();
        let mut best: Option<((i64, u64, usize), usize)> = None;
        for (at, district) in self.districts.iter_mut().enumerate() {
            let first = &self.snapshot.nodes[district.first];
            if self.topology.refusal(first, &floors).is_some() {
                continue;
            }
            // A node that is full stays so while this class is placed.
            while let Some(Reverse((_, _, index))) = district.nodes.peek()
                && !filter::has_room(self.info, &self.snapshot.nodes[*index])
            {
                district.nodes.pop();
            }
            let Some(Reverse((cost, tie, index))) = district.nodes.peek() else { continue };
            let offer = (cost + self.topology.cost(first), *tie, *index);
            if best.is_none_or(|(other, _)| offer < other) {
                best = Some((offer, at));
            }
        }
        let (_, at) = best?;
        self.taken_from = at;
        self.districts[at].nodes.pop().map(|Reverse((_, _, index))| index)
    }

    /// Sorts the nodes that may be used by the domains they are in.
    fn divide(&mut self) {
        let keys = self.topology.keys();
        let mut known: Map<Vec<Option<String>>, usize> = Map::default();
        for index in std::mem::take(&mut self.nodes) {
            let node = &self.snapshot.nodes[index];
            if !filter::suits(self.info, node) {
                continue;
            }
            let place = keys.iter().map(|k| node.labels.get(k).cloned()).collect();
            let at = *known.entry(place).or_insert_with(|| {
                self.districts.push(District { first: index, nodes: BinaryHeap::new() });
                self.districts.len() - 1
            });
            let candidate = self.candidate(index);
            self.districts[at].nodes.push(Reverse(candidate));
        }
    }

    /// How many fitting nodes are enough to choose from. While the group has fewer pods than that,
    /// one of them has none of its pods, so an even spread stays possible.
    fn sample(&self) -> usize {
        let nodes = self.nodes.len();
        let percent = (50usize.saturating_sub(nodes / 125)).max(5);
        let enough = (nodes * percent / 100).max(MIN_SAMPLE);
        let pods = self.snapshot.group(self.info).map_or(0, |g| g.total) + self.members;
        if pods >= enough { usize::MAX } else { enough }
    }

    fn gather(&mut self, enough: usize) {
        self.fitting.clear();
        let nodes = std::mem::take(&mut self.nodes);
        let mut seen = 0;
        let start = self.snapshot.cursor.checked_rem(nodes.len()).unwrap_or(0);
        for index in nodes[start..].iter().chain(&nodes[..start]) {
            if self.fitting.len() >= enough {
                break;
            }
            seen += 1;
            if filter::suits(self.info, &self.snapshot.nodes[*index]) && self.fits(*index) {
                let candidate = self.candidate(*index);
                self.fitting.push(Reverse(candidate));
            }
        }
        self.whole = seen == nodes.len();
        if !self.whole {
            self.snapshot.cursor = start + seen;
        }
        self.nodes = nodes;
    }

    fn fits(&self, index: usize) -> bool {
        let node = &self.snapshot.nodes[index];
        filter::has_room(self.info, node) && self.topology.refusal(node, &[]).is_none()
    }

    fn candidate(&self, index: usize) -> (i64, u64, usize) {
        let node = &self.snapshot.nodes[index];
        let group = self.snapshot.group(self.info);
        let beside = group.and_then(|g| g.nodes.get(&index)).copied().unwrap_or(0);
        (score::cost(self.info, node, beside), hash_of(&(self.seed, index)), index)
    }

    fn explain(&self) -> Explanation {
        let floors = self.topology.floors();
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for index in &self.snapshot.live {
            let node = &self.snapshot.nodes[*index];
            for reason in filter::reasons(self.info, node, &self.topology, &floors) {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        Explanation::NoFit { nodes: self.snapshot.live.len(), reasons }
    }
}
