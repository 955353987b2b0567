//! What clients asked of a store and what they got, and whether a store that keeps etcd's promises could
//! have answered so. For tests only; knows no store.

mod linearize;
mod model;
mod op;
mod revisions;
mod watch;

#[cfg(test)]
mod tests;

pub use linearize::{Verdict, linearize};
pub use op::{Answer, Call, Compare, Effect, Fate, History, Kv, Op, Operation, Time};
pub use revisions::check_revisions;
pub use watch::{WatchEvent, WatchLog, check_agreement, check_watch};

/// Checks everything that a history shows; answers with what is wrong, or with the number of
/// operations and search steps.
///
/// # Errors
/// The first anomaly, in words.
pub fn check(history: &History, watches: &[WatchLog]) -> Result<u64, String> {
    check_revisions(history)?;
    for watch in watches {
        check_watch(history, watch)?;
    }
    check_agreement(watches)?;
    match linearize(history) {
        Verdict::Linearizable { steps } => Ok(steps),
        Verdict::Anomaly(what) => Err(what),
        Verdict::GaveUp { steps, at } => {
            Err(format!("no verdict after {steps} steps of the search: {at}"))
        }
    }
}
