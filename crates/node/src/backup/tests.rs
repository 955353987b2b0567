//! Backups that become managers, and managers that go on alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pontoon_store::{BoxedStream, Store, StoreConfig, Transport};

use super::*;
use crate::config::testing as config;
use crate::join::found;

/// A store alone calls nobody.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, _: &StoreMember) -> io::Result<BoxedStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

fn record(number: u8, name: &str, role: Role) -> NodeRecord {
    NodeRecord {
        name: name.to_owned(),
        member: u64::from(number),
        store: u64::from(number) + 100,
        role,
        learner: false,
        address: [10, 0, 0, number].into(),
        request: String::new(),
    }
}

/// What lies on the disk of the manager a of a cluster with another manager and a worker; and a backup.
async fn manager(config: &Config) -> (Membership, PathBuf) {
    let ranges = ("10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap());
    let (cluster, membership) = found("a", [10, 0, 0, 1].into(), ranges).unwrap();
    make_dir(&config.data_dir).unwrap();
    membership.save(&config.membership_file()).unwrap();
    let opened = StoreConfig::new(config.store_dir(), membership.store);
    let store = Store::open(opened, Arc::new(Nobody)).await.unwrap();
    let me = StoreMember {
        id: membership.store,
        name: "a".to_owned(),
        address: SocketAddr::new(membership.advertise, MANAGER_PORT),
    };
    store.bootstrap(me).await.unwrap();
    let mut txn = Txn::new().then(Put::new(CLUSTER_KEY, encode(&cluster)));
    let others = [record(2, "b", Role::Manager), record(3, "w", Role::Worker)];
    for node in [membership.record()].iter().chain(&others) {
        txn = txn
            .then(Put::new(node_key(&node.name), encode(node)))
            .then(Put::new(address_key(node.address), node.name.clone()))
            .then(Put::new(resource::NODES.key(None, &node.name), "{}"));
    }
    store.txn(txn).await.unwrap();
    let file = config.data_dir.with_file_name("backup");
    let mut stream = store.snapshot_stream().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    fs::write(&file, bytes).unwrap();
    drop(stream);
    store.shutdown().await;
    (membership, file)
}

/// The names of the nodes, of the node objects, and of whose addresses are known.
fn nodes(state: &DetachedState) -> [Vec<String>; 3] {
    let keys = |prefix: Bytes| {
        let found = state.range(&Range::prefix(prefix.clone())).unwrap().kvs;
        let name = |key: &[u8]| String::from_utf8(key[prefix.len()..].to_vec()).unwrap();
        found.iter().map(|kv| name(&kv.key)).collect()
    };
    let addresses = address_key([10, 0, 0, 1].into());
    let addresses = addresses.slice(..addresses.len() - "10.0.0.1".len());
    [keys(NODES_PREFIX.into()), keys(resource::NODES.prefix(None).into()), keys(addresses)]
}

#[tokio::test]
async fn forcing_that_was_cut_short_is_ended_by_the_next_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (former, _) = manager(&config).await;
    assert!(!was_cut_short(&config, &former));
    let (forced, before) =
        (config.data_dir.join("store.forced"), config.data_dir.join("store.before-force"));
    let work = |config: &Config| {
        let (config, former) = (config.clone(), former.clone());
        tokio::task::spawn_blocking(move || force_new_cluster(&config, &former).unwrap())
    };
    let first = work(&config).await.unwrap();
    assert_eq!(first.member, former.member, "others know it by that");
    assert_eq!(store_member(&config.store_dir()).unwrap(), first.store);
    assert_eq!(store_member(&before).unwrap(), former.store, "what was there is kept");
    // The power fails between the exchange and the writing of the membership.
    former.save(&config.membership_file()).unwrap();
    fs::rename(&before, &forced).unwrap();
    for _ in 0..2 {
        assert!(was_cut_short(&config, &former));
        let again = work(&config).await.unwrap();
        assert_eq!(store_member(&config.store_dir()).unwrap(), first.store);
        assert_eq!(again.store, first.store, "the store was made already");
        assert_eq!(store_member(&before).unwrap(), former.store, "what was there is kept");
        assert!(!forced.exists() && !was_cut_short(&config, &again));
        let loaded = Membership::load(&config.membership_file()).unwrap().unwrap();
        assert_eq!((loaded.store, &loaded.cluster), (first.store, &former.cluster));
        // It fails once more, just before the membership is written.
        former.save(&config.membership_file()).unwrap();
    }
    let state = DetachedState::from_store(&config.store_dir()).unwrap();
    assert_eq!(nodes(&state), [["a", "w"], ["a", "w"], ["10.0.0.1", "10.0.0.3"]]);
}

#[tokio::test]
async fn a_backup_becomes_a_manager_of_an_old_name_or_a_new_one_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (former, file) = manager(&config(dir.path())).await;
    let restored = |name: &str, node: &str, address: Option<[u8; 4]>| {
        let data_dir = dir.path().join(name).join("deep/data");
        let (file, node) = (file.clone(), node.to_owned());
        let made = restore(&Restore { file, data_dir, node, address: address.map(IpAddr::from) });
        made.map(|_| ()).map_err(|refusal| refusal.message)
    };
    let found = |name: &str| {
        let data_dir = dir.path().join(name).join("deep/data");
        let membership = Membership::load(&membership_in(&data_dir)).unwrap().unwrap();
        let store = store_in(&data_dir);
        assert_eq!(store_member(&store).unwrap(), membership.store);
        (membership, nodes(&DetachedState::from_store(&store).unwrap()))
    };
    restored("same", "a", None).unwrap();
    let (membership, names) = found("same");
    assert_eq!((&membership.cluster, membership.member), (&former.cluster, former.member));
    assert_ne!(membership.store, former.store);
    assert_eq!(names, [["a", "w"], ["a", "w"], ["10.0.0.1", "10.0.0.3"]]);
    let again = restored("same", "a", None).unwrap_err();
    assert!(again.contains("belongs to a node already"), "{again}");
    // In a directory of which somebody else has use, nothing is changed.
    let foreign = dir.path().join("foreign/deep/data");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("letters"), "").unwrap();
    let other = restored("foreign", "a", None).unwrap_err();
    assert!(other.contains("letters") && !lock_in(&foreign).exists(), "{other}");
    // A daemon that is in no cluster has taken this one, and ended.
    let idle = dir.path().join("idle/deep/data");
    fs::create_dir_all(idle.join("images")).unwrap();
    fs::create_dir_all(etcd_client_in(&idle)).unwrap();
    let held = lock(&idle).unwrap();
    let used = restored("idle", "a", None).unwrap_err();
    assert!(used.contains("a daemon uses") && !store_in(&idle).exists(), "{used}");
    drop(held);
    restored("idle", "a", None).unwrap();
    assert!(idle.join("images").exists() && !etcd_client_in(&idle).exists());
    // Another name at the address of a manager that is gone, and at a new one.
    for (name, address) in [("taken", [10, 0, 0, 2]), ("new", [10, 0, 0, 9])] {
        restored(name, "z", Some(address)).unwrap();
        let (membership, [nodes, objects, addresses]) = found(name);
        assert_eq!(membership.advertise, IpAddr::from(address));
        assert_eq!(
            (nodes, objects),
            (["w", "z"].map(str::to_owned).to_vec(), vec!["w".to_owned()])
        );
        let mut known = [membership.advertise.to_string(), "10.0.0.3".to_owned()];
        known.sort();
        assert_eq!(addresses, known);
    }
    assert_eq!(verify(&dir.path().join("new/deep/data")).unwrap()["good"], true);
    let nowhere = verify(&dir.path().join("none")).unwrap_err().message;
    assert!(
        nowhere.contains("there is no store") && !dir.path().join("none").exists(),
        "{nowhere}"
    );
    let unknown = restored("unknown", "z", None).unwrap_err();
    assert!(unknown.contains("--advertise-addr") && unknown.contains("a, b, w"), "{unknown}");
    let worker = restored("worker", "z", Some([10, 0, 0, 3])).unwrap_err();
    assert!(worker.contains("the worker w"), "{worker}");
}

#[tokio::test]
async fn restoring_that_was_cut_short_is_done_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (_, file) = manager(&config(dir.path())).await;
    let data_dir = dir.path().join("restored");
    let restored = |node: &str, address: Option<[u8; 4]>| {
        let (file, data_dir, node) = (file.clone(), data_dir.clone(), node.to_owned());
        let made = restore(&Restore { file, data_dir, node, address: address.map(IpAddr::from) });
        made.map(|_| ()).map_err(|refusal| refusal.message)
    };
    let name = || Membership::load(&membership_in(&data_dir)).unwrap().unwrap().node;
    restored("a", None).unwrap();
    // The power fails before the membership has its place; before that, before the store has.
    let unfinished = membership_in(&store_in(&data_dir));
    fs::rename(membership_in(&data_dir), &unfinished).unwrap();
    restored("z", Some([10, 0, 0, 9])).unwrap();
    assert_eq!(name(), "z");
    fs::rename(membership_in(&data_dir), &unfinished).unwrap();
    fs::rename(store_in(&data_dir), data_dir.join(RESTORED)).unwrap();
    restored("a", None).unwrap();
    assert_eq!(name(), "a");
    let entries = fs::read_dir(&data_dir).unwrap();
    let names: BTreeSet<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["lock", "node.json", "store"].map(OsString::from)));
    assert!(!unfinished.exists());
    // A store that nobody says is unfinished is touched by nobody.
    fs::remove_file(membership_in(&data_dir)).unwrap();
    let kept = restored("a", None).unwrap_err();
    assert!(kept.contains("belongs to a node already"), "{kept}");
}
