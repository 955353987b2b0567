//! Images that nobody uses: their leavings go now and then, they themselves when the disk is nearly full.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use pontoon_image::{ImageError, Reference, builtin};

use crate::agent::Agent;
use crate::node::facts::Facts;

/// Above so many hundredths of the disk images are removed, down to so many: Kubernetes' thresholds.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// An image is kept so long after it came, or was used last: a pod may be about to use it.
const LEAST_AGE: SignedDuration = SignedDuration::from_mins(2);
/// How often what no name needs any more is removed.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// Remembers when images were used; anew with each daemon, as Kubernetes' nodes do.
#[derive(Default)]
pub(super) struct Collector {
    used: BTreeMap<Reference, Timestamp>,
    swept: Option<Timestamp>,
}

impl Collector {
    /// Notes what is used now, and removes what it is time for.
    pub(super) async fn collect(&mut self, agent: &Agent, facts: &Facts) -> Result<(), ImageError> {
        // While it is not known what is used nothing is removed.
        let Ok(in_use) = agent.layers_in_use() else { return Ok(()) };
        let now = Timestamp::now();
        let store = agent.images();
        let images: Vec<_> =
            store.list().into_iter().filter_map(|i| store.get(&i.reference)).collect();
        self.note(images.iter().map(|i| (&i.reference, i.layers.as_slice())), &in_use, now);
        if self.swept.is_none_or(|at| now.duration_since(at) >= SWEEP_EVERY) {
            self.swept = Some(now);
            store.collect_garbage(keeping(agent)).await?;
        }
        if percent(facts) <= HIGH_PERCENT {
            return Ok(());
        }
        for reference in self.unused(now) {
            if percent(&Facts::read(&agent.config().data_dir)) <= LOW_PERCENT {
                break;
            }
            let removed = store.remove(&reference, keeping(agent)).await?;
            tracing::info!(%reference, layers = removed.layers, "removed an image that nobody uses");
            self.used.remove(&reference);
        }
        Ok(())
    }

    fn note<'a>(
        &mut self,
        images: impl Iterator<Item = (&'a Reference, &'a [PathBuf])>,
        in_use: &HashSet<PathBuf>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.used);
        for (reference, layers) in images {
            let is_used = !layers.is_empty() && layers.iter().all(|layer| in_use.contains(layer));
            let last = before.get(reference).copied().filter(|_| !is_used).unwrap_or(now);
            self.used.insert(reference.clone(), last);
        }
    }

    /// What may be removed, that which was not used for longest first. What has no registry was loaded by hand, and
    /// nobody can be asked for it again.
    fn unused(&self, now: Timestamp) -> Vec<Reference> {
        let again =
            |r: &Reference| r.registry().is_some_and(|registry| registry != builtin::REGISTRY);
        let old = |at: Timestamp| now.duration_since(at) >= LEAST_AGE;
        let mut unused: Vec<(Timestamp, &Reference)> = self
            .used
            .iter()
            .filter(|(r, at)| again(r) && old(**at))
            .map(|(r, at)| (*at, r))
            .collect();
        unused.sort();
        unused.into_iter().map(|(_, reference)| reference.clone()).collect()
    }
}

/// Says of a layer whether it must be kept; known anew, and of all if it cannot be known.
fn keeping(agent: &Agent) -> impl Fn(&Path) -> bool + Send + 'static {
    let (agent, known) = (agent.clone(), std::sync::OnceLock::new());
    move |layer| {
        let known = known.get_or_init(|| agent.layers_in_use().ok());
        known.as_ref().is_none_or(|known| known.contains(layer))
    }
}

/// How many hundredths of the disk are taken.
fn percent(facts: &Facts) -> u64 {
    let taken = facts.disk_bytes.saturating_sub(facts.disk_available_bytes);
    (u128::from(taken) * 100 / u128::from(facts.disk_bytes.max(1))).try_into().unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_unused_for_longest_goes_first_and_some_never() {
        let layer = |text: &str| vec![PathBuf::from(text)];
        let names = ["r.example/a:1", "r.example/b:1", "r.example/c:1", "byhand:1"];
        let built_in = format!("{}/hello:1", builtin::REGISTRY);
        let all: Vec<(Reference, Vec<PathBuf>)> = names
            .into_iter()
            .chain([built_in.as_str()])
            .map(|name| (name.parse().unwrap(), layer(name)))
            .collect();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut collector = Collector::default();
        let mut note = |used: &[&str], second| {
            let used: HashSet<PathBuf> = used.iter().map(PathBuf::from).collect();
            collector.note(all.iter().map(|(r, l)| (r, l.as_slice())), &used, at(second));
            collector.unused(at(second)).iter().map(Reference::to_string).collect::<Vec<_>>()
        };
        assert_eq!(note(&names, 0), [""; 0], "all are in use");
        assert_eq!(note(&["r.example/a:1", "r.example/c:1"], 100), [""; 0], "too young");
        assert_eq!(note(&["r.example/c:1"], 150), ["r.example/b:1"]);
        assert_eq!(note(&["r.example/c:1"], 400), ["r.example/b:1", "r.example/a:1"]);
    }

    #[test]
    fn hundredths() {
        let facts = Facts { disk_bytes: 1000, disk_available_bytes: 149, ..Facts::default() };
        assert_eq!(percent(&facts), 85);
        assert_eq!(percent(&Facts::default()), 0);
    }
}
