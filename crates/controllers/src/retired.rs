//! The names that the last pods of each owner had.

use std::collections::{BTreeMap, VecDeque};

/// How many names are remembered of one owner.
const REMEMBERED: usize = 256;

/// Names of pods that are gone, by the uid of what controlled them. A plan picks the first free
/// name of a fixed sequence; without this memory a name would come back as soon as its pod went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retired(BTreeMap<String, VecDeque<String>>);

impl Retired {
    pub(crate) fn add(&mut self, owner: &str, name: &str) {
        let names = self.0.entry(owner.to_owned()).or_default();
        if names.len() == REMEMBERED {
            names.pop_front();
        }
        names.push_back(name.to_owned());
    }

    pub(crate) fn contains(&self, owner: &str, name: &str) -> bool {
        self.0.get(owner).is_some_and(|names| names.iter().any(|n| n == name))
    }

    pub(crate) fn forget(&mut self, owner: &str) {
        self.0.remove(owner);
    }
}
