//! Whether enough managers are there to agree on anything, in words for the one who asks: a manager that knows that they
//! are not says so at once instead of waiting for a leader that cannot come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_gossip::{Member, Status};
use pontoon_store::{MemberId, Role, Store};
use tokio::sync::watch;

use crate::rpc::Refusal;

/// A manager that has just started does not know yet who is there.
const GRACE: Duration = Duration::from_secs(10);

/// What a manager knows of its quorum. Clones are the same one.
#[derive(Clone)]
pub struct Quorum {
    store: Store,
    me: MemberId,
    members: watch::Receiver<Arc<Vec<Member>>>,
    /// Whether the leader answers.
    contact: watch::Receiver<bool>,
    began: Instant,
}

impl Quorum {
    /// The quorum of this store's managers, which gossip sees as `members`.
    #[must_use]
    pub fn new(
        store: Store,
        me: MemberId,
        members: watch::Receiver<Arc<Vec<Member>>>,
        contact: watch::Receiver<bool>,
    ) -> Self {
        Self { store, me, members, contact, began: Instant::now() }
    }

    /// What is wrong and what to do, while a leader neither answers nor can be elected.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        if *self.contact.borrow() || self.began.elapsed() < GRACE {
            return None;
        }
        self.count().lost()
    }

    /// The same when a request has waited in vain: no time is given to whoever may still come.
    #[must_use]
    pub fn lost_meanwhile(&self) -> Option<String> {
        if *self.contact.borrow() { None } else { self.count().lost() }
    }

    /// What is to be known of the number of managers while all is well: two are no better than one.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let count = self.count();
        if count.managers == 2 { tolerance(2) } else { None }
    }

    /// Goes on while a quorum may answer.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self) -> Result<(), Refusal> {
        self.lost().map_or(Ok(()), |words| Err(Refusal::unavailable(words)))
    }

    fn count(&self) -> Count {
        let gossip = self.members.borrow();
        let is_there = |name: &str| gossip.iter().any(|m| m.name == name && is_alive(m));
        let voters = self.store.members();
        let voters: Vec<_> = voters.into_iter().filter(|m| m.role == Role::Voter).collect();
        let silent = voters.iter().map(|voter| &voter.member);
        let silent = silent.filter(|voter| voter.id != self.me && !is_there(&voter.name));
        Count { managers: voters.len(), silent: silent.map(|voter| voter.name.clone()).collect() }
    }
}

/// How many managers have a vote, and which of them do not answer.
struct Count {
    managers: usize,
    silent: Vec<String>,
}

impl Count {
    fn lost(&self) -> Option<String> {
        let (all, there) = (self.managers, self.managers - self.silent.len());
        let needed = all / 2 + 1;
        if there >= needed {
            return None;
        }
        let missing = needed - there;
        let which = match missing == self.silent.len() {
            true => self.silent.join(" and "),
            false => format!("{missing} of {}", self.silent.join(", ")),
        };
        Some(format!(
            "{all} managers, {there} reachable; {needed} are needed for a majority, and until then the cluster's state \
             can be neither read nor changed (pods run on): start {which} again"
        ))
    }
}

/// What a cluster that is left with so few managers cannot bear.
#[must_use]
pub(crate) fn tolerance(managers: usize) -> Option<String> {
    match managers {
        1 => Some(
            "one manager is left: without it nothing can be changed, and its disk holds the only copy of the state; \
             `pontoon node promote NAME` makes more, three or five are best"
                .to_owned(),
        ),
        2 => Some(
            "two managers do not go on without either of them; have three or five (`pontoon node promote NAME`)"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Whether gossip finds a node there.
#[must_use]
pub(crate) fn is_alive(member: &Member) -> bool {
    matches!(member.status, Status::Alive | Status::Suspect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(managers: usize, silent: &[&str]) -> Option<String> {
        let silent = silent.iter().map(|name| (*name).to_owned()).collect();
        Count { managers, silent }.lost()
    }

    #[test]
    fn a_lost_majority_is_told_with_who_is_missed() {
        assert_eq!(lost(1, &[]), None);
        assert_eq!(lost(2, &[]), None);
        assert_eq!(lost(3, &["c"]), None);
        let words = lost(2, &["b"]).unwrap();
        assert!(words.starts_with("2 managers, 1 reachable; 2 are needed"), "{words}");
        assert!(words.ends_with("start b again"), "{words}");
        assert!(lost(3, &["b", "c"]).unwrap().ends_with("start 1 of b, c again"));
        assert!(lost(4, &["b", "c", "d"]).unwrap().ends_with("start 2 of b, c, d again"));
        assert!(lost(5, &["b", "c", "d"]).unwrap().contains("3 are needed"));
    }

    #[test]
    fn few_managers_are_warned_of() {
        assert!(tolerance(1).unwrap().contains("one manager"));
        assert!(tolerance(2).unwrap().contains("two managers"));
        assert_eq!(tolerance(3), None);
    }
}
