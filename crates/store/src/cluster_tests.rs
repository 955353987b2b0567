//! Stores together: killed, cut off, behind, added and removed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::testing::{Cluster, member, run};
use crate::{
    Compare, MemberError, OpResponse, OpenError, Put, Range, Read, ReadError, Role, Store, Tuning,
    Txn, WatchRequest, WriteError,
};

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

async fn get(store: &Store, key: &str) -> Option<Bytes> {
    let read = store.range(Range::key(key.to_owned()), Read::Linearizable).await;
    read.expect("it is read").kvs.first().map(|kv| kv.value.clone())
}

#[test]
fn a_store_alone_keeps_what_it_acknowledged() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        for turn in 0..3 {
            for number in 0..20 {
                let key = format!("{turn}/{number}");
                cluster.store(1).put(key, "value").await.expect("it is written");
            }
            cluster.kill(1).await;
            cluster.start(1).await;
            let read = cluster.store(1).range(Range::prefix(""), Read::Linearizable).await.unwrap();
            assert_eq!(read.count, (turn + 1) * 20);
        }
        assert_eq!(
            cluster.store(1).bootstrap(member(1)).await,
            Err(MemberError::InCluster),
            "a cluster is made once"
        );
    });
}

#[test]
fn a_store_that_is_in_no_cluster_says_so() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        cluster.start(2).await;
        let store = cluster.store(2);
        assert_eq!(store.put("a", "b").await, Err(WriteError::NotInCluster));
        assert!(store.range(Range::key("a"), Read::Linearizable).await.is_err());
        assert_eq!(store.add_member(member(3)).await, Err(MemberError::NotInCluster));
    });
}

#[test]
fn every_member_takes_writes_and_sees_those_of_others() {
    run(async {
        let cluster = Cluster::new(3, patient()).await;
        for writer in cluster.ids() {
            let key = format!("from {writer}");
            let revision = cluster.store(writer).put(key.clone(), "x").await.expect("written");
            for reader in cluster.ids() {
                assert!(get(cluster.store(reader), &key).await.is_some());
                assert!(cluster.store(reader).revision() >= revision);
            }
        }
        let too_large = vec![0; (4 << 20) + 1];
        let refused = cluster.store(2).put("large", too_large).await;
        assert!(matches!(refused, Err(WriteError::TooLarge { .. })));
        let lease = cluster.store(3).lease_grant(60, None).await.expect("granted");
        assert_eq!(cluster.store(2).lease_keepalive(lease.id).await, Ok(60));
        let put = Put::new("leased", "x").lease(lease.id);
        cluster.store(2).txn(Txn::new().then(put)).await.expect("written");
        let status = cluster.store(1).lease_status(lease.id).await.expect("it is there");
        assert_eq!(status.keys, [Bytes::from_static(b"leased")]);
        let read = Txn::new().when(Compare::present("leased")).then(Range::key("leased"));
        let read = cluster.store(2).txn(read).await.expect("read");
        assert!(
            read.succeeded && matches!(&read.responses[0], OpResponse::Range(r) if r.count == 1)
        );
        cluster.store(3).lease_revoke(lease.id).await.expect("ended");
        assert_eq!(get(cluster.store(2), "leased").await, None);
        assert!(cluster.store(2).lease_keepalive(lease.id).await.is_err());
    });
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        for turn in 0..3 {
            let leader = cluster.leader(&cluster.ids()).await;
            let before = format!("before {turn}");
            cluster.store(leader).put(before.clone(), "x").await.expect("written");
            cluster.kill(leader).await;
            let other = cluster.ids()[0];
            let after = format!("after {turn}");
            cluster.store(other).put(after.clone(), "x").await.expect("written");
            assert!(get(cluster.store(other), &before).await.is_some());
            cluster.start(leader).await;
            assert!(get(cluster.store(leader), &after).await.is_some());
        }
    });
}

#[test]
fn all_killed_at_once_and_started_again() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        for number in 0..30 {
            cluster.store(1 + number % 3).put(number.to_string(), "x").await.expect("written");
        }
        for id in cluster.ids() {
            cluster.kill(id).await;
        }
        for id in 1..=3 {
            cluster.start(id).await;
        }
        for id in 1..=3 {
            let read = cluster.store(id).range(Range::prefix(""), Read::Linearizable).await;
            assert_eq!(read.expect("read").count, 30);
        }
    });
}

#[test]
fn a_leader_that_is_cut_off_acknowledges_nothing() {
    run(async {
        let tuning = Tuning { request_timeout: Duration::from_secs(4), ..Tuning::default() };
        let cluster = Cluster::new(3, tuning).await;
        let old = cluster.leader(&cluster.ids()).await;
        cluster.store(old).put("key", "before").await.expect("written");
        cluster.net.cut(&[old]);
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != old).collect();
        let lost = cluster.store(old).put("lost", "x");
        let (lost, new) = tokio::join!(lost, cluster.leader(&others));
        assert!(lost.is_err(), "no quorum, no acknowledgement");
        cluster.store(new).put("key", "after").await.expect("the majority goes on");
        let mut leadership = cluster.store(old).leadership();
        leadership.wait_for(|now| !now.is_me).await.expect("it no longer says that it leads");
        let stale = cluster.store(old).range(Range::key("key"), Read::Linearizable).await;
        assert!(stale.is_err(), "a linearizable read is not answered from an old copy");
        cluster.net.heal();
        for id in cluster.ids() {
            // The first attempt may still find the old leader's connections broken.
            let mut read = cluster.store(id).range(Range::key("key"), Read::Linearizable).await;
            if read.is_err() {
                read = cluster.store(id).range(Range::key("key"), Read::Linearizable).await;
            }
            assert_eq!(&read.expect("read").kvs[0].value[..], b"after");
        }
    });
}

#[test]
fn a_member_far_behind_gets_a_snapshot() {
    run(async {
        let tuning = Tuning { keep_entries: 5, segment_bytes: 8192, ..patient() };
        let mut cluster = Cluster::new(3, tuning).await;
        let leader = cluster.leader(&cluster.ids()).await;
        let behind = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
        cluster.store(leader).put("first", "x").await.expect("written");
        cluster.kill(behind).await;
        for number in 0..300 {
            cluster.store(leader).put(format!("{number:03}"), vec![1; 300]).await.expect("written");
        }
        cluster.store(leader).snapshot().await.expect("a snapshot");
        cluster.store(leader).snapshot().await.expect("another is no error");
        for number in 300..400 {
            cluster.store(leader).put(format!("{number:03}"), vec![1; 300]).await.expect("written");
        }
        // What is on its way to a member is kept until the attempt has failed.
        while cluster.store(leader).status().log_bytes > 100_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.start(behind).await;
        let read =
            cluster.store(behind).range(Range::prefix(""), Read::Linearizable).await.unwrap();
        assert_eq!(read.count, 401);
        let restored = cluster.store(behind).status();
        assert!(restored.snapshot_index > 300, "{restored:?}");
        // It survives its own restart, and history came with it.
        cluster.kill(behind).await;
        cluster.start(behind).await;
        assert!(get(cluster.store(behind), "399").await.is_some());
        let old = cluster.store(behind).range(Range::prefix("").at(10), Read::Local).await;
        assert_eq!(old.expect("history").count, 9);
    });
}

#[test]
fn a_damaged_snapshot_is_passed_over_or_refused_never_believed() {
    run(async {
        let tuning = Tuning { keep_entries: 5, segment_bytes: 4096, ..patient() };
        let mut cluster = Cluster::new(1, tuning).await;
        for number in 0..300 {
            cluster.store(1).put(format!("{number:03}"), vec![1; 300]).await.expect("written");
            if number % 100 == 99 {
                cluster.store(1).snapshot().await.expect("a snapshot");
            }
        }
        cluster.kill(1).await;
        let mut snapshots: Vec<_> = std::fs::read_dir(cluster.dir(1).join("snapshots"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        snapshots.sort();
        let damage = |path: &std::path::Path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            std::fs::write(path, bytes).unwrap();
        };
        damage(&snapshots[1]);
        cluster.start(1).await;
        let read = cluster.store(1).range(Range::prefix(""), Read::Linearizable).await.unwrap();
        assert_eq!(read.count, 300, "the snapshot before and the log hold everything");
        cluster.kill(1).await;
        for entry in std::fs::read_dir(cluster.dir(1).join("snapshots")).unwrap() {
            damage(&entry.unwrap().path());
        }
        match cluster.try_start(1).await {
            Err(OpenError::Damaged { .. }) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn members_come_and_go() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        let store = cluster.store(2).clone();
        let roles = |store: &Store| {
            store.members().iter().map(|m| (m.member.id, m.role)).collect::<Vec<_>>()
        };
        let voters = |ids: &[u64]| ids.iter().map(|id| (*id, Role::Voter)).collect::<Vec<_>>();
        assert!(get(&store, "x").await.is_none());
        assert_eq!(roles(cluster.store(1)), voters(&[1, 2, 3]));
        // What is done already may be asked again.
        store.add_member(member(3)).await.expect("it is a member");
        let taken = crate::Member { name: "m1".to_owned(), ..member(9) };
        assert!(matches!(store.add_member(taken).await, Err(MemberError::Taken { id: 1, .. })));
        assert_eq!(store.remove_member(9).await, Err(MemberError::NotFound { id: 9 }));
        cluster.start(4).await;
        store.add_member(member(4)).await.expect("a fourth");
        let leader = cluster.leader(&cluster.ids()).await;
        store.remove_member(leader).await.expect("even the leader can go");
        let rest: Vec<u64> = (1..=4).filter(|id| *id != leader).collect();
        let next = cluster.leader(&rest).await;
        cluster.store(next).put("after", "x").await.expect("the others go on");
        let refused = cluster.store(next).add_member(member(leader)).await;
        assert_eq!(refused, Err(MemberError::Former { id: leader }));
        assert_eq!(roles(cluster.store(next)), voters(&rest));
        drop(store);
        let silent = rest.iter().copied().find(|id| *id != next).unwrap();
        let third = rest.iter().copied().find(|id| *id != next && *id != silent).unwrap();
        cluster.kill(silent).await;
        // Until the silence is noticed the removal would be granted: wait for it.
        loop {
            let members = cluster.store(next).members();
            let silence = members.iter().find(|m| m.member.id == silent).unwrap().silent_ms;
            if silence.is_none_or(|silence| silence > 1000) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let refused = cluster.store(next).remove_member(third).await;
        assert_eq!(refused, Err(MemberError::QuorumLost { id: third, voters: 2, alive: 1 }));
        cluster.store(next).remove_member(silent).await.expect("the silent one can go");
        cluster.store(next).put("still", "x").await.expect("two are enough");
    });
}

#[test]
fn a_number_never_comes_back() {
    run(async {
        let tuning = Tuning { snapshot_entries: 50, keep_entries: 10, ..patient() };
        let mut cluster = Cluster::new(3, tuning).await;
        let asked = cluster.store(1).clone();
        asked.remove_member(3).await.expect("one of three can go");
        cluster.kill(3).await;
        let refused = |id| Err(MemberError::Former { id });
        assert_eq!(asked.add_member(member(3)).await, refused(3), "as it was");
        let renamed = crate::Member { name: "another".to_owned(), ..member(3) };
        assert_eq!(asked.add_member(renamed).await, refused(3), "under another name");
        // It is in snapshots, too: the log that said so is gone, and a new member never sees it.
        for n in 0..200 {
            asked.put(format!("k{n}"), "v").await.expect("written");
        }
        while asked.status().snapshot_index < 150 {
            tokio::task::yield_now().await;
        }
        cluster.start(4).await;
        asked.add_member(member(4)).await.expect("another number");
        asked.remove_member(2).await.expect("two are left");
        let leader = cluster.leader(&[1, 4]).await;
        if leader == 1 {
            asked.transfer_leadership(Some(4)).await.expect("the new one leads");
        }
        for id in [1, 4] {
            for gone in [2, 3] {
                assert_eq!(cluster.store(id).add_member(member(gone)).await, refused(gone));
            }
        }
    });
}

#[test]
fn leadership_is_handed_over() {
    run(async {
        let cluster = Cluster::new(3, patient()).await;
        let leader = cluster.leader(&cluster.ids()).await;
        cluster.store(leader).transfer_leadership(None).await.expect("another takes over");
        let leader = cluster.leader(&cluster.ids()).await;
        cluster.store(leader).shutdown().await;
        assert_eq!(cluster.store(leader).put("a", "b").await, Err(WriteError::Stopped));
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let new = cluster.leader(&others).await;
        cluster.store(new).put("a", "b").await.expect("written");
    });
}

/// Adds one to a counter; true if it was certainly done, `None` if that is not known.
async fn increment(store: &Store) -> Option<bool> {
    let read = store.range(Range::key("counter"), Read::Linearizable).await.ok();
    let Some(read) = read else { return Some(false) };
    let (revision, value) = read.kvs.first().map_or((0, 0), |kv| {
        (kv.mod_revision, std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap())
    });
    let txn = Txn::new()
        .when(Compare::unchanged("counter", revision))
        .then(Put::new("counter", (value + 1).to_string()));
    match store.txn(txn).await {
        Ok(response) => Some(response.succeeded),
        Err(error) if error.is_definite() => Some(false),
        Err(_) => None,
    }
}

/// Increments until ten are done; answers with how many are, and how many may be.
async fn increment_ten_times(store: Store) -> (u64, u64) {
    let (mut done, mut unknown) = (0, 0);
    while done < 10 {
        match increment(&store).await {
            Some(true) => done += 1,
            Some(false) => {}
            None => unknown += 1,
        }
    }
    (done, unknown)
}

#[test]
fn whoever_is_killed_or_cut_off_every_increment_counts_once() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        let mut last = 0;
        for turn in 0..6 {
            let leader = cluster.leader(&cluster.ids()).await;
            let kill = turn % 2 == 0;
            // One that is cut off comes back; its clients wait for that.
            let clients: Vec<_> = cluster
                .ids()
                .into_iter()
                .filter(|id| !kill || *id != leader)
                .flat_map(|id| [id, id])
                .map(|id| tokio::spawn(increment_ten_times(cluster.store(id).clone())))
                .collect();
            let survivor = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
            let store = cluster.store(survivor).clone();
            store.put(format!("before {turn}"), "x").await.expect("written");
            if kill {
                cluster.kill(leader).await;
            } else {
                cluster.net.cut(&[leader]);
            }
            store.put(format!("after {turn}"), "x").await.expect("written");
            drop(store);
            if kill {
                cluster.start(leader).await;
            } else {
                cluster.net.heal();
            }
            let (mut done, mut unknown) = (0, 0);
            for client in clients {
                let counts = client.await.expect("no panic");
                done += counts.0;
                unknown += counts.1;
            }
            let counter = get(cluster.store(leader), "counter").await.expect("it is there");
            let counter: u64 = std::str::from_utf8(&counter).unwrap().parse().unwrap();
            let added = counter - last;
            assert!(
                (done..=done + unknown).contains(&added),
                "{added} were added, {done} acknowledged, {unknown} unknown"
            );
            last = counter;
        }
    });
}

#[test]
fn history_and_log_stay_bounded_by_themselves() {
    run(async {
        let tuning = Tuning {
            history_revisions: 100,
            snapshot_bytes: 64 << 10,
            keep_entries: 10,
            segment_bytes: 16 << 10,
            ..patient()
        };
        let cluster = Cluster::new(3, tuning).await;
        let mut written = 0;
        let bounded = |store: &Store| {
            let status = store.status();
            status.compact_revision > 1000 && status.snapshot_index > 1000
        };
        while !cluster.ids().iter().all(|id| bounded(cluster.store(*id))) {
            let puts = (0..64).map(|number| {
                cluster.store(1 + number % 3).put(format!("key {number}"), vec![b'x'; 100])
            });
            for done in futures::future::join_all(puts).await {
                done.expect("written");
                written += 1;
            }
        }
        for id in cluster.ids() {
            let read = cluster.store(id).range(Range::prefix(""), Read::Linearizable).await;
            let read = read.expect("read");
            assert_eq!((read.count, read.revision), (64, written + 1));
            let old = cluster.store(id).range(Range::prefix("").at(2), Read::Local).await;
            assert!(matches!(old, Err(ReadError::Compacted { .. })));
        }
    });
}

#[test]
fn a_lease_that_nobody_keeps_alive_ends() {
    run(async {
        let cluster = Cluster::new(3, patient()).await;
        let lease = cluster.store(2).lease_grant(1, None).await.expect("granted");
        let put = Put::new("leased", "x").lease(lease.id);
        cluster.store(2).txn(Txn::new().then(put)).await.expect("written");
        let revision = cluster.store(2).revision();
        let mut watch =
            cluster.store(3).watch(WatchRequest::key("leased").from(revision)).expect("a watch");
        let written = watch.next().await.unwrap().unwrap();
        assert!(written.events[0].is_create());
        let ended = watch.next().await.unwrap().unwrap();
        assert_eq!(ended.events[0].kind, crate::EventKind::Delete);
        assert_eq!(
            cluster.store(1).lease_status(lease.id).await.map(|status| status.keys),
            Err(WriteError::LeaseNotFound { id: lease.id })
        );
    });
}

#[test]
fn a_full_disk_refuses_writes_and_they_go_on_when_there_is_space() {
    run(async {
        let tuning = Tuning { request_timeout: Duration::from_millis(500), ..Tuning::default() };
        let cluster = Cluster::new(1, tuning).await;
        let store = cluster.store(1).clone();
        store.put("before", "x").await.expect("written");
        store.core_for_tests().log.shared().faults.leave_space(20);
        let unknown = store.put("during", "x").await;
        assert!(matches!(unknown, Err(WriteError::Timeout { .. })), "{unknown:?}");
        assert!(matches!(store.put("refused", "x").await, Err(WriteError::DiskFull { .. })));
        assert!(store.status().disk_full);
        let local = store.range(Range::key("before"), Read::Local).await.expect("reads go on");
        assert_eq!(local.count, 1);
        store.core_for_tests().log.shared().faults.free();
        let mut health = store.core_for_tests().health.clone();
        health.wait_for(|health| *health == crate::log::Health::Good).await.unwrap();
        store.put("after", "x").await.expect("written");
        let read = store.range(Range::prefix(""), Read::Linearizable).await.unwrap();
        assert_eq!(read.count, 3, "what was on its way was not lost");
    });
}

#[test]
fn nobody_else_may_look_into_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let mode = std::fs::metadata(cluster.dir(1)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "secrets are in there");
    });
}

#[test]
fn a_directory_is_opened_once() {
    run(async {
        let mut cluster = Cluster::new(1, patient()).await;
        assert!(matches!(cluster.try_start(1).await, Err(OpenError::InUse { .. })));
    });
}

/// Set for the child process of the test below.
const CHILD: &str = "PONTOON_STORE_TEST_CHILD";

/// Writes numbered keys and prints each number when it was acknowledged, until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    run(async move {
        let transport = Arc::new(Nobody);
        let store =
            Store::open(crate::StoreConfig::new(dir, 1), transport).await.expect("it opens");
        store.bootstrap(member(1)).await.ok();
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            async move {
                for number in 0_u64.. {
                    let key = format!("{}/{writer}/{number}", std::process::id());
                    store.put(key.clone(), vec![b'v'; 500]).await.expect("written");
                    println!("\nACK {key}");
                }
            }
        });
        futures::future::join_all(writers).await;
    });
}

struct Nobody;

#[async_trait::async_trait]
impl crate::Transport for Nobody {
    async fn connect(&self, _to: &crate::Member) -> std::io::Result<crate::BoxedStream> {
        Err(std::io::ErrorKind::HostUnreachable.into())
    }
}

#[test]
fn sigkill_at_any_moment_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for turn in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cluster_tests::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks = || {
            lines
                .by_ref()
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("ACK ").map(str::to_owned))
        };
        for _ in 0..40 + turn * 37 {
            acknowledged.insert(acks().expect("the child writes"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(std::iter::from_fn(acks));
    }
    let path = dir.path().to_owned();
    run(async move {
        let store =
            Store::open(crate::StoreConfig::new(path, 1), Arc::new(Nobody)).await.expect("opens");
        let read = store.range(Range::prefix(""), Read::Linearizable).await.expect("read");
        let found: BTreeSet<String> =
            read.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        assert!(acknowledged.len() > 200);
    });
}
