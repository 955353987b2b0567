//! What waits in a connection for entries while the other end is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::append::{AppendSession, Idle, WINDOW};
use super::types::{LogEntry, Types, Vote, log_id};
use super::wire::frames;
use crate::command::Entry;
use crate::log::Position;

const REQUEST: usize = 100_000;

fn request(index: u64) -> AppendEntriesRequest<Types> {
    let payload = EntryPayload::Normal(Entry::from_encoded(Bytes::from(vec![1; REQUEST])));
    let entry = LogEntry::new(log_id(Position { term: 1, index }), payload);
    AppendEntriesRequest {
        vote: Vote::new(1, 1),
        prev_log_id: None,
        entries: vec![entry],
        leader_commit: None,
    }
}

/// Requests without end, and how many were taken.
fn requests()
-> (impl futures::Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let requests = futures::stream::iter(0..).map(move |index| {
        counted.fetch_add(1, Ordering::Relaxed);
        request(index)
    });
    (requests, taken)
}

/// Reads until nothing comes any more without another request.
async fn read_what_there_is(
    session: &mut (impl futures::Stream + Unpin),
    far: &mut DuplexStream,
) -> usize {
    let (mut read, mut bytes) = (0, vec![0; 1 << 20]);
    loop {
        assert!(futures::poll!(session.next()).is_pending(), "nothing was answered");
        match futures::poll!(std::pin::pin!(far.read(&mut bytes))) {
            std::task::Poll::Ready(count) => read += count.expect("it is connected"),
            std::task::Poll::Pending => return read,
        }
    }
}

#[tokio::test]
async fn a_connection_keeps_few_requests_for_a_slow_member() {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let (requests, taken) = requests();
    let mut slot = None;
    let idle = Idle::new(frames(Box::new(near)));
    let mut session = AppendSession::new(&mut slot, idle, requests);
    // One that reads nothing costs what fits into the wires and one request.
    for _ in 0..100 {
        assert!(futures::poll!(session.next()).is_pending());
    }
    let unread = taken.load(Ordering::Relaxed);
    assert!((1..=2).contains(&unread), "{unread} requests wait");
    // One that reads and answers nothing is sent no more than so many.
    let read = read_what_there_is(&mut session, &mut far).await;
    assert_eq!(taken.load(Ordering::Relaxed), WINDOW);
    assert!(read >= WINDOW * REQUEST, "{read}");
}
