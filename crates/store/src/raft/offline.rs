//! What the engine must find in a store that was made without it, and what it left in one.

use std::io;

use openraft::{Membership as Config, StoredMembership};

use super::types::{SnapshotMeta, Vote, log_id};
use crate::command::Entry;
use crate::log::{Kind, Log, Position};
use crate::member::{Member, MemberId};
use crate::mvcc::{Effects, State};

/// Entry bytes read at a time.
const READ_BYTES: usize = 8 << 20;

/// A snapshot's meta and a vote, encoded, with which `member` alone goes on after `position`.
pub(crate) fn alone_after(position: Position, member: &Member) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let last = log_id(position);
    let voters = vec![[member.id].into()];
    let nodes = std::collections::BTreeMap::from([(member.id, member.clone())]);
    let config = Config::new(voters, nodes).map_err(io::Error::other)?;
    let last_membership = StoredMembership::new(Some(last), config);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    // Not committed: the member has yet to elect itself, in a later term.
    let vote = Vote::new(position.term, member.id);
    let encode = |result: Result<Vec<u8>, postcard::Error>| result.map_err(io::Error::other);
    Ok((encode(postcard::to_stdvec(&meta))?, encode(postcard::to_stdvec(&vote))?))
}

/// Applies all entries of the log from `next` on; who is a member in one of them counts as a former
/// one. Answers with the last one's position, if any.
pub(crate) fn replay(log: &Log, mut next: u64, state: &mut State) -> io::Result<Option<Position>> {
    let mut last = None;
    loop {
        let records = log.read(next, u64::MAX, READ_BYTES)?;
        if records.is_empty() {
            return Ok(last);
        }
        for record in records {
            last = Some(Position { term: record.term, index: record.index });
            next = record.index + 1;
            match record.kind {
                Kind::Commands => {
                    let entry = Entry::from_encoded(record.payload);
                    let proposals = entry.proposals().map_err(io::Error::other)?;
                    for proposal in proposals.iter() {
                        state.apply(proposal, &mut Effects::default());
                    }
                }
                Kind::Members => {
                    let config: Config<MemberId, Member> =
                        postcard::from_bytes(&record.payload).map_err(io::Error::other)?;
                    state.retire(config.nodes().map(|(id, _)| *id));
                }
                Kind::Blank | Kind::Committed => {}
            }
        }
    }
}
