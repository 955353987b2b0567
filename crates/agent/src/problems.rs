//! What is wrong on this node: at most one sentence for each of its parts, for the node's status and for people.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tracing::{info, warn};

/// Who has a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The agent as a whole does not run.
    Agent,
    /// Dead sandboxes that cannot be removed.
    Leftovers,
    /// Pods cannot be limited, and so not made.
    Cgroups,
    /// Pods cannot be connected.
    Network,
    /// Pods cannot look up names.
    Names,
    /// The managers do not hear what becomes of pods.
    Reports,
}

/// The problems by part.
pub(crate) type All = BTreeMap<Part, String>;

/// What is wrong now; whoever wants to know of changes listens.
#[derive(Debug, Default)]
pub(crate) struct Problems(watch::Sender<All>);

impl Problems {
    /// Says what is wrong with a part, or that nothing is any more.
    pub(crate) fn set(&self, part: Part, problem: Option<String>) {
        self.0.send_if_modified(|all| {
            if all.get(&part) == problem.as_ref() {
                return false;
            }
            match problem {
                Some(problem) => {
                    warn!(?part, problem, "a problem of this node");
                    all.insert(part, problem);
                }
                None => {
                    info!(?part, "a problem of this node is over");
                    all.remove(&part);
                }
            }
            true
        });
    }

    /// All of them.
    pub(crate) fn all(&self) -> All {
        self.0.borrow().clone()
    }

    /// Tells every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<All> {
        self.0.subscribe()
    }
}
