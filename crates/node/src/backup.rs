//! Backup and disaster: what is done to the state when there is no cluster to ask. A restored state, and
//! one that a single manager was left with, go on as a cluster with that manager alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use pontoon_model::resource;
use pontoon_store::{
    DeleteRange, DetachedState, Member as StoreMember, OpenError, Put, Range, SnapshotSummary,
    StoreReport, Txn, store_member,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::cluster::{CLUSTER_KEY, Cluster, NODES_PREFIX, NodeRecord, decode, encode};
use crate::cluster::{address_key, gone_key, new_id, node_key, remember_gone};
use crate::config::{Config, MANAGER_PORT, etcd_client_in, lock_in, membership_in, store_in};
use crate::gossip_keys::GossipKey;
use crate::identity::Role;
use crate::join::{check_name, first_membership};
use crate::lock::lock;
use crate::membership::Membership;
use crate::rpc::{Refusal, chain};

/// How long a store that is being closed may hold on to its files, and how often that is looked at.
const CLOSING_TRIES: u32 = 200;
const CLOSING_PAUSE: Duration = Duration::from_millis(50);

/// Where a new store is made before it is exchanged for the one there is, and where that is kept.
const FORCED: &str = "store.forced";
const BEFORE_FORCE: &str = "store.before-force";

/// Where a restored store is made, its membership in it, before it gets its place.
const RESTORED: &str = "store.restored";

/// The header of a snapshot that says whether a quorum confirmed that nothing acknowledged is missing in it.
pub const CONFIRMED: &str = "pontoon-confirmed";

/// A backup to be made the state of a new manager.
pub struct Restore {
    /// The snapshot file.
    pub file: PathBuf,
    /// The data directory to be made.
    pub data_dir: PathBuf,
    /// The node's name.
    pub node: String,
    /// Its address; that which the node of this name had, unless given.
    pub address: Option<IpAddr>,
}

/// Reads all of a snapshot file and says what is in it.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn inspect(file: &Path) -> Result<Value, Refusal> {
    let summary = pontoon_store::inspect_snapshot(file).map_err(|e| unusable(file, &e))?;
    Ok(summarize(file, &summary))
}

fn summarize(file: &Path, summary: &SnapshotSummary) -> Value {
    json!({
        "file": file,
        "bytes": summary.bytes,
        "revision": summary.revision,
        "compactRevision": summary.compact_revision,
        "keys": summary.keys,
        "hash": format!("{:08x}", summary.hash),
    })
}

/// The message of an error about a backup, without the way back that only a member has.
fn unusable(file: &Path, error: &OpenError) -> Refusal {
    let OpenError::Damaged { offset, reason, .. } = error else {
        return unreadable(error);
    };
    Refusal::bad_request(format!(
        "{} is no snapshot that can be used: at byte {offset}: {reason}; use another backup",
        file.display()
    ))
}

/// The message of an error of files, with what to do where they are another user's.
fn unreadable(error: &OpenError) -> Refusal {
    let advice = match error {
        OpenError::Io { source, .. } => as_root(source),
        _ => "",
    };
    Refusal::bad_request(format!("{}{advice}", chain(error)))
}

/// Makes the data directory of a new manager of a backup. Durable when this returns; what was cut short before is done
/// anew.
///
/// # Errors
/// When the backup is damaged, or the directory belongs to a node already.
pub fn restore(restore: &Restore) -> Result<Value, Refusal> {
    check_name(&restore.node)?;
    let dir = &restore.data_dir;
    let mut held = if exists(dir)? { Some(take(dir)?) } else { None };
    let state =
        DetachedState::from_snapshot(&restore.file).map_err(|e| unusable(&restore.file, &e))?;
    let found = json!({ "revision": state.revision(), "keys": state.keys() });
    let (state, membership, member) = alone(state, &restore.node, restore.address)?;
    make_dir(dir)?;
    if held.is_none() {
        held = Some(take(dir)?);
    }
    // What `etcd-env` wrote for an earlier node here; it writes it anew when it is asked.
    remove_dir(&etcd_client_in(dir))?;
    place(dir, (state, &membership, &member))?;
    drop(held);
    Ok(json!({
        "node": membership.node,
        "cluster": membership.cluster,
        "address": membership.advertise,
        "dataDir": restore.data_dir,
        "revision": found["revision"],
        "keys": found["keys"],
    }))
}

/// Puts a restored store and its membership where a daemon looks for them. The membership comes with the store and goes
/// to its own place last: a store with a membership in it is one whose restoring was cut short, and no other is.
fn place(
    data_dir: &Path,
    (state, membership, member): (DetachedState, &Membership, &StoreMember),
) -> Result<(), Refusal> {
    let (store, new) = (store_in(data_dir), data_dir.join(RESTORED));
    remove_dir(&new)?;
    let rename =
        |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| disk("rename", from, &e));
    if store.exists() {
        // In one step, so that it is never found without its membership.
        rename(&store, &new)?;
        remove_dir(&new)?;
    }
    state.into_store(&new, member).map_err(|e| Refusal::unavailable(chain(&e)))?;
    membership.save(&membership_in(&new)).map_err(|e| Refusal::internal(&e))?;
    rename(&new, &store)?;
    let sync = |dir: &Path| sync_dir(dir).map_err(|e| disk("sync", dir, &e));
    sync(data_dir)?;
    rename(&membership_in(&store), &membership_in(data_dir))?;
    sync(data_dir)?;
    sync(&store)
}

/// Takes a directory that is to become a node's, so that no daemon begins in it meanwhile.
///
/// # Errors
/// When it has another use: a daemon's, a node's, or that of files which nobody here knows.
fn take(dir: &Path) -> Result<File, Refusal> {
    let shown = dir.display();
    // Whatever a daemon has begun to use has this file.
    if !lock_in(dir).symlink_metadata().is_ok_and(|file| file.is_file()) {
        let entries = fs::read_dir(dir).map_err(|e| disk("read", dir, &e))?;
        let mut names = entries.flatten().map(|entry| entry.file_name());
        if let Some(other) = names.find(|name| name != "lost+found") {
            return Err(Refusal::conflict(format!(
                "restore: {shown} holds {}, and no daemon has ever used it: give an empty or a new directory with \
                 --data-dir",
                other.display()
            )));
        }
    }
    let held = lock(dir).map_err(|error| match error {
        TryLockError::WouldBlock => Refusal::conflict(format!(
            "restore: a daemon uses {shown}: stop it, restore, and start it again"
        )),
        TryLockError::Error(error) => disk("lock", dir, &error),
    })?;
    let store = store_in(dir);
    let is_unfinished = exists(&membership_in(&store))?;
    for path in [store, membership_in(dir)] {
        if exists(&path)? && !(is_unfinished && path == store_in(dir)) {
            return Err(Refusal::conflict(format!(
                "restore: {} exists: this directory belongs to a node already; give another with --data-dir, \
                 or move that one away",
                path.display()
            )));
        }
    }
    Ok(held)
}

/// Makes this manager the only one of its cluster, with the state it has. The daemon must have stopped being
/// a member. What was there before is kept beside it. Durable when this returns.
///
/// # Errors
/// When the state on the disk cannot be used; nothing is changed then.
pub(crate) fn force_new_cluster(
    config: &Config,
    former: &Membership,
) -> Result<Membership, Refusal> {
    let (store, new) = (config.store_dir(), config.data_dir.join(FORCED));
    let before = config.data_dir.join(BEFORE_FORCE);
    let membership = if was_cut_short(config, former) {
        // The store is this node's already, and says as whose.
        made_for(&detach(&store)?, &former.node)?
    } else {
        let (state, membership, member) = alone(detach(&store)?, &former.node, None)?;
        remove_dir(&new)?;
        state.into_store(&new, &member).map_err(|e| Refusal::unavailable(chain(&e)))?;
        // In one step: there is never no store. Wherever what follows is cut short, the store's files say whose they
        // are until the membership is written, and the same command ends the work.
        renameat_with(CWD, &new, CWD, &store, RenameFlags::EXCHANGE)
            .map_err(|e| disk("exchange", &store, &e.into()))?;
        membership
    };
    if whose(&new) == Some(former.store) {
        remove_dir(&before)?;
        fs::rename(&new, &before).map_err(|e| disk("rename", &new, &e))?;
    }
    // The membership must not be found after a power loss without the store that it is of.
    sync_dir(&config.data_dir).map_err(|e| disk("sync", &config.data_dir, &e))?;
    membership.save(&config.membership_file()).map_err(|e| Refusal::internal(&e))?;
    Ok(membership)
}

/// Whether forcing a new cluster was cut short after the stores were exchanged and before the membership was
/// written: then the store is another member's than the membership says, and that member's store lies beside it.
pub(crate) fn was_cut_short(config: &Config, membership: &Membership) -> bool {
    let is_other = whose(&config.store_dir()).is_some_and(|member| member != membership.store);
    let is_former = |name| whose(&config.data_dir.join(name)) == Some(membership.store);
    is_other && [FORCED, BEFORE_FORCE].into_iter().any(is_former)
}

/// The member that a store is of, if there is one.
fn whose(store: &Path) -> Option<u64> {
    store_member(store).ok()
}

/// The membership of the manager that a forced store was made for.
fn made_for(state: &DetachedState, name: &str) -> Result<Membership, Refusal> {
    let cluster = cluster_of(state)?;
    let node = state.range(&Range::key(node_key(name))).map_err(|e| Refusal::internal(&e))?;
    let node = node.kvs.first().ok_or_else(|| {
        Refusal::bad_request(format!("the store that was forced does not know the node {name}"))
    })?;
    first_membership(&cluster, &decode(&node.value)?)
}

fn cluster_of(state: &DetachedState) -> Result<Cluster, Refusal> {
    let found = state.range(&Range::key(CLUSTER_KEY)).map_err(|e| Refusal::internal(&e))?;
    let cluster = found.kvs.first().ok_or_else(|| {
        Refusal::bad_request("there is no cluster in this state: it is not that of a manager")
    })?;
    decode(&cluster.value)
}

/// The state in a store that is being closed.
fn detach(store: &Path) -> Result<DetachedState, Refusal> {
    for _ in 0..CLOSING_TRIES {
        match DetachedState::from_store(store) {
            Err(OpenError::InUse { .. }) => std::thread::sleep(CLOSING_PAUSE),
            other => return other.map_err(|e| Refusal::unavailable(chain(&e))),
        }
    }
    Err(Refusal::unavailable(format!("{} is still in use", store.display())))
}

/// Makes a node the only manager: the other managers are removed as by `node rm`, workers stay.
fn alone(
    mut state: DetachedState,
    name: &str,
    address: Option<IpAddr>,
) -> Result<(DetachedState, Membership, StoreMember), Refusal> {
    let mut cluster = cluster_of(&state)?;
    let records = state.range(&Range::prefix(NODES_PREFIX)).map_err(|e| Refusal::internal(&e))?.kvs;
    let records: Result<Vec<NodeRecord>, Refusal> =
        records.iter().map(|kv| decode(&kv.value)).collect();
    let records = records?;
    let node = manager_of(&records, name, address)?;
    let mut txn = Txn::new()
        .then(Put::new(node_key(name), encode(&node)))
        .then(DeleteRange::key(gone_key(node.member)));
    let now = Timestamp::now().as_second();
    // A key is written once in a transaction: an address that goes from one node to another is only given.
    txn = txn.then(Put::new(address_key(node.address), node.name.clone()));
    let former = records.iter().find(|r| r.name == name && r.address != node.address);
    if let Some(former) = former {
        txn = txn.then(DeleteRange::key(address_key(former.address)));
    }
    for other in records.iter().filter(|r| r.role == Role::Manager && r.name != name) {
        txn = txn
            .then(DeleteRange::key(node_key(&other.name)))
            .then(remember_gone(other, now))
            .then(DeleteRange::key(resource::NODES.key(None, &other.name)));
        if other.address != node.address {
            txn = txn.then(DeleteRange::key(address_key(other.address)));
        }
    }
    // As with every removal: whoever was removed knows the key that gossip is sealed with.
    cluster.gossip_keys.rotate(GossipKey::random());
    txn = txn.then(Put::new(CLUSTER_KEY, encode(&cluster)));
    state.txn(txn).map_err(|e| Refusal::internal(&e))?;
    let membership = first_membership(&cluster, &node)?;
    let member = StoreMember {
        id: node.store,
        name: node.name,
        address: SocketAddr::new(node.address, MANAGER_PORT),
    };
    Ok((state, membership, member))
}

/// The record of the node that goes on. One that was there before keeps its number, by which others know it;
/// its id in the store is new.
fn manager_of(
    records: &[NodeRecord],
    name: &str,
    address: Option<IpAddr>,
) -> Result<NodeRecord, Refusal> {
    let known = records.iter().find(|record| record.name == name);
    let address = address.or_else(|| known.map(|known| known.address)).ok_or_else(|| {
        let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
        Refusal::bad_request(format!(
            "{name} is no node of this state (it has {}), so its address is not known; give it with \
             --advertise-addr, or the name of one of those with --node-name",
            names.join(", ")
        ))
    })?;
    if address.is_ipv6() {
        return Err(crate::member::only_v4(address));
    }
    let is_other =
        |r: &&NodeRecord| r.name != name && r.role == Role::Worker && r.address == address;
    if let Some(other) = records.iter().find(is_other) {
        return Err(Refusal::conflict(format!(
            "{address} is the address of the worker {}; give another with --advertise-addr",
            other.name
        )));
    }
    Ok(NodeRecord {
        name: name.to_owned(),
        member: known.map_or_else(new_id, |known| known.member),
        store: new_id(),
        role: Role::Manager,
        learner: false,
        address,
        request: known.map(|known| known.request.clone()).unwrap_or_default(),
    })
}

/// Checks every byte of the log and the snapshots below a data directory that no daemon uses.
///
/// # Errors
/// When there is no store, or a daemon uses it.
pub fn verify(data_dir: &Path) -> Result<Value, Refusal> {
    let dir = store_in(data_dir);
    let report = pontoon_store::verify_store(&dir).map_err(|e| match e {
        OpenError::InUse { .. } => Refusal::conflict(format!(
            "{} is in use: stop the daemon first, or verify without --offline",
            dir.display()
        )),
        error => match exists(&dir) {
            Err(refusal) => refusal,
            Ok(true) => unreadable(&error),
            Ok(false) => Refusal::not_found(format!(
                "verify {}: there is no store, so this is not the data directory of a manager; give that with --data-dir",
                dir.display()
            )),
        },
    })?;
    Ok(describe(&dir, &report))
}

fn describe(dir: &Path, report: &StoreReport) -> Value {
    let snapshots: Vec<Value> =
        report.snapshots.iter().map(|(path, summary)| summarize(path, summary)).collect();
    json!({
        "dir": dir,
        "good": report.problems.is_empty(),
        "logFiles": report.log_files,
        "logBytes": report.log_bytes,
        "lastIndex": report.last_index,
        "tornBytes": report.torn_bytes,
        "snapshots": snapshots,
        "problems": report.problems.iter().map(|e| chain(e)).collect::<Vec<_>>(),
    })
}

/// Makes a directory for its owner alone. It is durable when this returns, with the directories above that were made
/// for it.
fn make_dir(dir: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |e: io::Error| disk("make", dir, &e);
    let whole = std::path::absolute(dir).map_err(failed)?;
    let missing: Vec<&Path> = whole.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(&whole).map_err(failed)?;
    fs::set_permissions(&whole, fs::Permissions::from_mode(0o700))
        .map_err(|e| disk("close to others", dir, &e))?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        sync_dir(parent).map_err(failed)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove_dir(dir: &Path) -> Result<(), Refusal> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk("remove", dir, &error)),
        _ => Ok(()),
    }
}

fn disk(action: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::unavailable(format!("{action} {}: {error}{}", path.display(), as_root(error)))
}

fn exists(path: &Path) -> Result<bool, Refusal> {
    path.try_exists().map_err(|error| disk("look for", path, &error))
}

/// What to do where the kernel says that this is not for everybody.
fn as_root(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if !geteuid().is_root() => "; run this as root",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
