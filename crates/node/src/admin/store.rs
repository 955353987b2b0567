//! Requests about the replicated state, on a manager.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pontoon_store::{MemberFiles, MemberHash, Range, Read, Store};
use serde_json::{Value, json};

use crate::backup::CONFIRMED;
use crate::cluster::CLUSTER_KEY;
use crate::daemon::Shared;
use crate::rpc::{Body, Refusal, chain};

/// How often check sums are asked for again while members are not compacted to the same revision: one of them
/// was about to be.
const TRIES: usize = 5;

/// How long a quorum may take to answer until a snapshot is taken of what this manager has. Longer than any election.
const QUORUM_PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of a snapshot, of which the head tells how many there are.
pub(super) async fn snapshot(shared: &Arc<Shared>) -> Result<Response<Body>, Refusal> {
    let store = store(shared).await?;
    let confirmed = is_current(&store).await;
    let stream = store.snapshot_stream().await;
    let stream = stream.map_err(|e| {
        Refusal::unavailable(format!("take a snapshot of the state: {}", chain(&e)))
    })?;
    let bytes = HeaderValue::from(stream.remaining());
    let frames = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk.map(Frame::data), stream))
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames.boxed())));
    let confirmed = HeaderValue::from_static(if confirmed { "true" } else { "false" });
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes);
    response.headers_mut().insert(CONFIRMED, confirmed);
    Ok(response)
}

/// Waits until this manager has all that a quorum has; false if none answers.
async fn is_current(store: &Store) -> bool {
    let key = Range { count_only: true, ..Range::key(CLUSTER_KEY) };
    let asked = store.range(key, Read::Linearizable);
    matches!(tokio::time::timeout(QUORUM_PATIENCE, asked).await, Ok(Ok(_)))
}

/// What all managers find on their disks, and the check sums of their copies.
pub(super) async fn verify(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    let store = store(shared).await?;
    let files = store.files().await;
    let mut hashes = Vec::new();
    for _ in 0..TRIES {
        let asked = store.hashes().await;
        hashes = asked.map_err(|e| {
            let advice = "the files of this manager alone are checked with --offline while its daemon is off";
            Refusal::unavailable(format!("compare the managers' copies: {}; {advice}", chain(&e)))
        })?;
        if can_be_compared(&hashes) {
            break;
        }
    }
    Ok(report(&files, &hashes))
}

fn can_be_compared(hashes: &[MemberHash]) -> bool {
    let mut compacted =
        hashes.iter().filter_map(|answer| Some(answer.hash.as_ref().ok()?.compact_revision));
    let first = compacted.next();
    compacted.all(|revision| Some(revision) == first)
}

fn report(files: &[MemberFiles], hashes: &[MemberHash]) -> Value {
    let sums: Vec<_> = hashes.iter().filter_map(|answer| answer.hash.as_ref().ok()).collect();
    let same = sums.windows(2).all(|two| two[0] == two[1]);
    let mut managers: Vec<Value> = hashes.iter().map(describe).collect();
    for (manager, answer) in managers.iter_mut().zip(hashes) {
        let found = files.iter().find(|files| files.member.id == answer.member.id);
        add_files(manager, found);
    }
    let whole = managers.iter().all(|manager| manager["problems"] == json!([]));
    json!({ "good": whole && same, "copiesAgree": same, "managers": managers })
}

fn describe(answer: &MemberHash) -> Value {
    let mut about = json!({ "name": answer.member.name, "address": answer.member.address });
    match &answer.hash {
        Ok(hash) => {
            about["hash"] = json!(format!("{:08x}", hash.hash));
            about["revision"] = json!(hash.revision);
            about["compactRevision"] = json!(hash.compact_revision);
            about["problems"] = json!([]);
        }
        Err(problem) => about["problems"] = json!([format!("no check sum: {problem}")]),
    }
    about
}

/// Adds what a manager found on its disk to what is said of it.
fn add_files(about: &mut Value, found: Option<&MemberFiles>) {
    let mut problems = Vec::new();
    match found.map(|found| &found.files) {
        Some(Ok(files)) => {
            about["logBytes"] = json!(files.log_bytes);
            about["snapshots"] = json!(files.snapshots);
            about["snapshotBytes"] = json!(files.snapshot_bytes);
            problems.extend(files.problems.iter().cloned());
        }
        Some(Err(problem)) => problems.push(format!("its files were not read: {problem}")),
        None => problems.push("it has just become a manager; verify again".to_owned()),
    }
    if let Some(told) = about["problems"].as_array_mut() {
        told.extend(problems.into_iter().map(Value::from));
    }
}

async fn store(shared: &Arc<Shared>) -> Result<Store, Refusal> {
    shared.with_member(async |member| Ok(member.manager()?.store.clone())).await
}

#[cfg(test)]
mod tests {
    use pontoon_store::{FileReport, Member, StateHash};

    use super::*;

    fn member(id: u64) -> Member {
        Member { id, name: format!("m{id}"), address: ([127, 0, 0, 1], 2377).into() }
    }

    fn hash(id: u64, hash: u32) -> MemberHash {
        let hash = Ok(StateHash { hash, revision: 9, compact_revision: 1 });
        MemberHash { member: member(id), hash }
    }

    fn files(id: u64, problems: &[&str]) -> MemberFiles {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        let report =
            FileReport { log_files: 1, log_bytes: 5, snapshots: 1, snapshot_bytes: 7, problems };
        MemberFiles { member: member(id), files: Ok(report) }
    }

    #[test]
    fn all_is_good_only_if_every_manager_says_so() {
        let whole = [files(1, &[]), files(2, &[])];
        let good = report(&whole, &[hash(1, 4), hash(2, 4)]);
        assert!(good["good"] == true && good["copiesAgree"] == true, "{good}");
        let silent = MemberHash { member: member(2), hash: Err("it did not answer".to_owned()) };
        let unread = MemberFiles { member: member(2), files: Err("it did not answer".to_owned()) };
        for (what, bad) in [
            ("copies differ", report(&whole, &[hash(1, 4), hash(2, 5)])),
            ("one is silent", report(&whole, &[hash(1, 4), silent])),
            (
                "a file is damaged",
                report(&[files(1, &[]), files(2, &["bad"])], &[hash(1, 4), hash(2, 4)]),
            ),
            ("files were not read", report(&[files(1, &[]), unread], &[hash(1, 4), hash(2, 4)])),
            ("one is not among them", report(&[files(1, &[])], &[hash(1, 4), hash(2, 4)])),
        ] {
            assert_eq!(bad["good"], false, "{what}: {bad}");
        }
    }
}
