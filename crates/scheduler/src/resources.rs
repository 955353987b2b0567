//! Amounts of what a node has and a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pontoon_model::quantity;

/// Amounts of resources, of a node or of a pod. Sums saturate, so that no request wraps round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    /// Places for pods; a pod takes one.
    pub pods: i64,
    /// Whatever else nodes offer by name, in whole units.
    pub extended: BTreeMap<String, i64>,
}

type List = BTreeMap<String, Quantity>;

impl Resources {
    /// Reads a resource list. A quantity that does not parse counts as nothing: the API validates.
    pub fn of_list(list: Option<&List>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => amounts.cpu_millis = cpu_millis(quantity),
                "memory" => amounts.memory_bytes = units(quantity),
                "ephemeral-storage" => amounts.ephemeral_bytes = units(quantity),
                "pods" => amounts.pods = units(quantity),
                _ => {
                    amounts.extended.insert(name.clone(), units(quantity));
                }
            }
        }
        amounts
    }

    /// What a node can give to pods: its allocatable, or its capacity while none is reported.
    pub fn of_node(node: &Node) -> Self {
        let status = node.status.as_ref();
        let list = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        Self::of_list(list)
    }

    /// What a pod asks for: the larger of its containers together and its greatest init step,
    /// plus overhead, as Kubernetes counts it; restartable init containers run beside the rest.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let mut running = Self::default();
        for container in &spec.containers {
            running.add(&requests(container));
        }
        let mut beside = Self::default();
        let mut greatest = Self::default();
        for init in spec.init_containers.iter().flatten() {
            let asked = requests(init);
            if init.restart_policy.as_deref() == Some("Always") {
                beside.add(&asked);
                greatest.raise(&beside);
            } else {
                let mut step = beside.clone();
                step.add(&asked);
                greatest.raise(&step);
            }
        }
        running.add(&beside);
        running.raise(&greatest);
        if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
            running.replace(&Self::of_list(Some(whole)));
        }
        running.add(&Self::of_list(spec.overhead.as_ref()));
        running.pods = 1;
        running
    }

    pub fn add(&mut self, other: &Self) {
        self.each(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.each(other, i64::saturating_sub);
        self.extended.retain(|_, amount| *amount != 0);
    }

    fn raise(&mut self, other: &Self) {
        self.each(other, i64::max);
    }

    /// Takes the other's amounts where it names one (pod-level requests replace the sum).
    fn replace(&mut self, other: &Self) {
        self.each(other, |mine, theirs| if theirs > 0 { theirs } else { mine });
    }

    fn each(&mut self, other: &Self, op: impl Fn(i64, i64) -> i64) {
        self.cpu_millis = op(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = op(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = op(self.ephemeral_bytes, other.ephemeral_bytes);
        self.pods = op(self.pods, other.pods);
        for (name, amount) in &other.extended {
            let mine = self.extended.entry(name.clone()).or_default();
            *mine = op(*mine, *amount);
        }
    }

    /// Whether `asked` fits beside `used` within these amounts.
    pub fn has_room(&self, used: &Self, asked: &Self) -> bool {
        let fits =
            |has: i64, used: i64, asked: i64| asked == 0 || asked <= has.saturating_sub(used);
        fits(self.pods, used.pods, asked.pods)
            && fits(self.cpu_millis, used.cpu_millis, asked.cpu_millis)
            && fits(self.memory_bytes, used.memory_bytes, asked.memory_bytes)
            && fits(self.ephemeral_bytes, used.ephemeral_bytes, asked.ephemeral_bytes)
            && asked.extended.iter().all(|(name, amount)| {
                let of = |r: &Self| r.extended.get(name).copied().unwrap_or(0);
                fits(of(self), of(used), *amount)
            })
    }

    /// Every reason why `asked` does not fit, in kube-scheduler's words.
    pub fn shortages(&self, used: &Self, asked: &Self) -> Vec<String> {
        let short = |has: i64, used: i64, asked: i64| asked > 0 && asked > has.saturating_sub(used);
        let mut reasons = Vec::new();
        if short(self.pods, used.pods, asked.pods) {
            reasons.push("Too many pods".to_owned());
        }
        let named = [
            ("cpu", self.cpu_millis, used.cpu_millis, asked.cpu_millis),
            ("memory", self.memory_bytes, used.memory_bytes, asked.memory_bytes),
            (
                "ephemeral-storage",
                self.ephemeral_bytes,
                used.ephemeral_bytes,
                asked.ephemeral_bytes,
            ),
        ];
        for (name, has, used, asked) in named {
            if short(has, used, asked) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        for (name, amount) in &asked.extended {
            let of = |r: &Self| r.extended.get(name).copied().unwrap_or(0);
            if short(of(self), of(used), *amount) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        reasons
    }
}

/// A container's requests; a limit stands in for a request that is not given.
fn requests(container: &Container) -> Resources {
    let Some(resources) = &container.resources else { return Resources::default() };
    let mut list = resources.limits.clone().unwrap_or_default();
    list.extend(resources.requests.clone().unwrap_or_default());
    Resources::of_list(Some(&list))
}

fn cpu_millis(quantity: &Quantity) -> i64 {
    quantity::cpu_millis(&quantity.0).unwrap_or(0)
}

fn units(quantity: &Quantity) -> i64 {
    quantity::bytes(&quantity.0).unwrap_or(0)
}
