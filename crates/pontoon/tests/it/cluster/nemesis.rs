//! Three managers under faults while clients and watchers use etcd's API: all that was answered is held against what
//! the store promises.
//!
//! A run makes faults for a minute, and each kind at least once. `PONTOON_NEMESIS_SECONDS=3600` makes them for longer;
//! `PONTOON_NEMESIS_SEED=N` makes those of the run that printed this number, as far as chance is ours.

mod client;
mod door;
mod faults;
mod record;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use pontoon_api_etcd::proto::{
    CompactionRequest, HashKvRequest, HashKvResponse, HeaderResponse, RangeRequest, RangeResponse,
};
use pontoon_history::{Call, Fate, History, Op, WatchLog};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World, machines_with, text, wait};
use client::{Client, GROUPS, KEPT, PREFIX};
use door::{Door, prefix_end, revision};
use faults::{Nemesis, SMALL_DISK};
use record::{Record, concerned};
use watcher::Watcher;

const NAMES: [&str; 3] = ["a", "b", "c"];
const CLIENTS: u64 = 9;
/// Seconds of faults.
const SECONDS: u64 = 60;
/// The small disk: room for what a store holds in a run.
const SMALL: &str = "size=256m";
/// Acknowledged writes and answered calls without which a run shows nothing.
const WRITES_MIN: u64 = 500;
const ANSWERS_MIN: usize = 1500;
/// How long one call of the test itself may take.
const CALL: Duration = Duration::from_secs(5);

/// A number of the environment.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(u64::from_str(&value).unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Addresses of the machines, as their bridge has them.
fn addresses(world: &World) -> BTreeMap<&'static str, Ipv4Addr> {
    let list = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
    let list: Value = serde_json::from_str(&list).unwrap();
    let all = list["machines"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|machine| machine["name"] == name).unwrap();
    NAMES.into_iter().map(|name| (name, text(&of(name)["address"]).parse().unwrap())).collect()
}

/// Three managers that serve etcd's API, one of them on a small disk.
fn managers() -> Option<World> {
    let world = machines_with(&NAMES, "PONTOON_ETCD_LISTEN", "0.0.0.0")?;
    let store = world.data_dir(SMALL_DISK).join("store");
    fs::create_dir_all(&store).unwrap();
    let mount = ["mount", "-t", "tmpfs", "-o", SMALL, "small", store.to_str().unwrap()];
    world.inside(SMALL_DISK, &mount).expect_ok();
    world.on("a", &["init"]).expect_ok();
    for name in ["b", "c"] {
        world.join(name, "a", "manager").expect_ok();
    }
    world.wait_for_nodes("a", NAMES.len());
    Some(world)
}

/// What all who take part share.
struct Run<'w> {
    world: &'w World,
    runtime: Runtime,
    door: Arc<Door>,
    record: Arc<Record>,
    random: StdRng,
    /// The revision up to which watchers are to see all.
    goal: watch::Sender<Option<u64>>,
}

#[test]
fn nothing_is_lost_and_nothing_seen_wrong_while_managers_fail() {
    let Some(world) = managers() else { return };
    let seed = number("PONTOON_NEMESIS_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000);
    println!("PONTOON_NEMESIS_SEED={seed}");
    let mut run = Run::new(&world, seed);
    let length = Duration::from_secs(number("PONTOON_NEMESIS_SECONDS").unwrap_or(SECONDS));
    let prefixes = [PREFIX.to_owned(), PREFIX.to_owned(), client::prefix(0), client::prefix(1)];
    let watchers: Vec<_> = prefixes.into_iter().map(|prefix| run.watcher(prefix)).collect();
    let (did, compactions) = run.under_faults(length);
    world.wait_for_nodes("a", NAMES.len());
    run.read_all();
    let newest = run.same_everywhere();
    run.goal.send_replace(Some(newest));
    let mut logs: Vec<WatchLog> = watchers.into_iter().map(|one| run.end(one)).collect();
    let late = run.watcher(PREFIX.to_owned());
    logs.push(run.end(late));
    let failures = run.record.failures();
    let (refused, writes) = (run.record.refused(), run.record.acknowledged());
    let history = run.record.take();
    let unknown = history.operations.iter().filter(|o| o.fate == Fate::Unknown).count();
    let answered = history.operations.len() - unknown;
    println!("faults: {did:?}; {compactions} compactions; failures of calls: {failures:?}");
    println!(
        "{answered} calls answered, {unknown} of unknown fate, {refused} refused; {writes} writes; {} connections",
        run.door.connections()
    );
    for log in &logs {
        let (told, gaps) = (log.events.len(), log.compacted.len());
        println!("a watcher of {}: {told} events, {gaps} times behind a compaction", log.prefix);
    }
    verdict(seed, &history, &logs);
    let late = logs.last().unwrap();
    assert!(!late.compacted.is_empty(), "history was compacted, and a late watcher not told");
    assert!(compactions > 0, "nothing was compacted");
    assert!(unknown > 0, "no fault hit a call");
    assert!(
        writes >= WRITES_MIN && answered >= ANSWERS_MIN,
        "too little was done to show anything"
    );
    assert!(logs.iter().all(|log| !log.events.is_empty()), "a watcher saw nothing");
}

/// Fails with what is wrong, the number that makes the faults again, and the calls that it is about.
fn verdict(seed: u64, history: &History, watches: &[WatchLog]) {
    let Err(anomaly) = pontoon_history::check(history, watches) else { return };
    let file = std::env::temp_dir().join(format!("pontoon-nemesis-{seed}.txt"));
    let mut all = concerned(history, &anomaly);
    println!("{all}");
    all.extend(history.operations.iter().map(|operation| format!("{operation:?}\n")));
    all.extend(watches.iter().map(|watch| format!("{watch:?}\n")));
    fs::write(&file, all).unwrap();
    panic!("PONTOON_NEMESIS_SEED={seed}: {anomaly}\nall that was seen is in {}", file.display());
}

impl<'w> Run<'w> {
    fn new(world: &'w World, seed: u64) -> Self {
        let files: PathBuf = world.machine_dir("a").join("etcd-client");
        world.on("a", &["etcd-env", "--dir", files.to_str().unwrap()]).expect_ok();
        let addresses = addresses(world);
        let addresses = NAMES.iter().map(|name| IpAddr::V4(addresses[name])).collect();
        let door = Arc::new(Door::new(addresses, &files));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (goal, _) = watch::channel(None);
        let random = StdRng::seed_from_u64(seed);
        Run { world, runtime, door, record: Arc::new(Record::new()), random, goal }
    }

    /// Another row of chance.
    fn chance(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.random.random())
    }

    fn watcher(&mut self, prefix: String) -> JoinHandle<WatchLog> {
        let watcher = Watcher { door: Arc::clone(&self.door), random: self.chance(), prefix };
        self.runtime.spawn(watcher.run(self.goal.subscribe()))
    }

    /// What a watcher saw, which has to come to its end.
    fn end(&self, watcher: JoinHandle<WatchLog>) -> WatchLog {
        let ended = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, watcher).await });
        ended.expect("the watcher sees everything up to the newest revision").unwrap()
    }

    fn client(&mut self, group: u64) -> Client {
        Client::new(Arc::clone(&self.door), Arc::clone(&self.record), self.chance(), group)
    }

    /// Clients ask and the nemesis is at it for so long; answers what it did, and how often history was compacted.
    fn under_faults(&mut self, length: Duration) -> (String, u64) {
        let stop = CancellationToken::new();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = self.client(number % GROUPS);
                self.runtime.spawn(client.run(stop.clone()))
            })
            .collect();
        let random = self.chance();
        let mut nemesis = Nemesis::new(self.world, &self.runtime, Arc::clone(&self.record), random);
        let mut compactions = 0;
        nemesis.run(length, |random| compactions += u64::from(self.compact(random)));
        let did = format!("{:?}", nemesis.did);
        drop(nemesis);
        stop.cancel();
        for client in clients {
            self.runtime.block_on(client).unwrap();
        }
        (did, compactions)
    }

    /// Forgets history up to a revision that is not long ago; true if that was done.
    fn compact(&self, random: &mut StdRng) -> bool {
        let newest = self.record.newest();
        let revision = newest.saturating_sub(random.random_range(0..200));
        let request =
            CompactionRequest { revision: i64::try_from(revision).unwrap(), physical: false };
        let manager = random.random_range(0..self.door.managers());
        let done = async {
            let connection = self.door.connect(manager).await?;
            let path = "/etcdserverpb.KV/Compact";
            let asked = connection.client.call::<HeaderResponse>(path, &request);
            tokio::time::timeout(CALL, asked).await.ok()?.ok()
        };
        self.runtime.block_on(done).is_some()
    }

    /// Reads every key that was ever named, as clients do.
    fn read_all(&mut self) {
        let mut sets: BTreeMap<String, Vec<Op>> = BTreeMap::new();
        for key in self.record.keys().into_iter().filter(|key| !key.starts_with(KEPT)) {
            let (group, _) = key.rsplit_once('/').unwrap();
            sets.entry(group.to_owned()).or_default().push(Op::Get(key));
        }
        let mut reader = self.client(0);
        for gets in sets.into_values() {
            let call = Call::Txn(vec![], gets, vec![]);
            wait("all keys are read", || {
                self.runtime.block_on(reader.ask(call.clone(), CALL)).then_some(())
            });
        }
    }

    /// Every manager has every acknowledged write to the keys that are written once, and the same state at
    /// the newest revision, which it answers.
    fn same_everywhere(&self) -> u64 {
        let newest = wait("the newest revision is read", || {
            let found = self.kept(0, 0, false)?;
            Some(revision(found.header.as_ref()))
        });
        let wanted = self.record.kept();
        assert!(!wanted.is_empty(), "nothing was written to the keys that are written once");
        let mut sums = BTreeSet::new();
        for (manager, name) in NAMES.iter().enumerate() {
            let found =
                wait(&format!("{name} has revision {newest}"), || self.kept(manager, newest, true));
            let there = found.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap());
            let there: BTreeSet<String> = there.collect();
            let lost: Vec<_> = wanted.difference(&there).collect();
            assert!(lost.is_empty(), "{name} lost acknowledged writes: {lost:?}");
            let hash = wait(&format!("{name} tells its hash"), || self.hash(manager, newest));
            sums.insert((hash.hash, hash.hash_revision));
        }
        assert_eq!(sums.len(), 1, "the managers differ at revision {newest}: {sums:?}");
        newest
    }

    /// The keys that are written once, as a manager has them at a revision.
    fn kept(&self, manager: usize, at: u64, serializable: bool) -> Option<RangeResponse> {
        let request = RangeRequest {
            key: KEPT.into(),
            range_end: prefix_end(KEPT).into(),
            revision: i64::try_from(at).unwrap(),
            serializable,
            keys_only: true,
            ..Default::default()
        };
        self.runtime.block_on(async {
            let connection = self.door.connect(manager).await?;
            tokio::time::timeout(CALL, connection.range(request)).await.ok()?.ok()
        })
    }

    fn hash(&self, manager: usize, at: u64) -> Option<HashKvResponse> {
        let request = HashKvRequest { revision: i64::try_from(at).unwrap() };
        self.runtime.block_on(async {
            let connection = self.door.connect(manager).await?;
            let asked = connection.client.call("/etcdserverpb.Maintenance/HashKV", &request);
            tokio::time::timeout(CALL, asked).await.ok()?.ok()
        })
    }
}
