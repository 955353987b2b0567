//! Who holds the replicated state: members, their roles, and which of them leads.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The number of a member. Never reused, and refused if it was: a member that lost its disk comes back under a new one.
pub type MemberId = u64;

/// A manager that holds a copy of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number, unique for the life of the cluster.
    pub id: MemberId,
    /// The node's name.
    pub name: String,
    /// Where other members reach it.
    pub address: SocketAddr,
}

/// What a member's copy counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Part of the quorum.
    Voter,
    /// Receives the state, does not count yet.
    Learner,
}

/// A change of members, as it is asked of the leader; each can be asked again without harm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    /// Learner first, voter when it has caught up.
    Add(Member),
    AddLearner(Member),
    Promote(MemberId),
    /// Another name or address for a number that is known.
    Update(Member),
    Remove(MemberId),
}

/// A member as this store knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who it is.
    pub member: Member,
    /// Voter or learner.
    pub role: Role,
    /// True for the leader.
    pub is_leader: bool,
    /// Known only on the leader: the last log index the member has stored.
    pub matched: Option<u64>,
    /// Known only on the leader: milliseconds since the member last answered.
    pub silent_ms: Option<u64>,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; `None` while there is none or it is not known.
    pub leader: Option<MemberId>,
    /// True if it is this member.
    pub is_me: bool,
    /// The election term, which only grows: a fencing number.
    pub term: u64,
}

impl Leadership {
    /// True if this member leads since `before`; it may have lost the leadership meanwhile and won it again.
    pub(crate) fn begins_after(&self, before: &Leadership) -> bool {
        self.is_me && !(before.is_me && before.term == self.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leadership_begins_with_its_term() {
        let of = |is_me: bool, term: u64| Leadership { leader: Some(1), is_me, term };
        assert!(of(true, 2).begins_after(&of(false, 2)));
        assert!(of(true, 4).begins_after(&of(true, 2)), "another led between the two");
        assert!(!of(true, 2).begins_after(&of(true, 2)));
        assert!(!of(false, 4).begins_after(&of(true, 2)));
    }
}
