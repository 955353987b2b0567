//! One run from one seed: a cluster, clients, watchers, the nemesis; then repair, and the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pontoon_history::History;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Client, Defect};
use super::cluster::{Life, World};
use super::dice::Dice;
use super::nemesis::Nemesis;
use super::record::Record;
use super::watcher;
use crate::{MemberFiles, MemberHash, MemberId, Range, ReadPolicy, Tuning};

/// Groups of keys.
const GROUPS: u64 = 3;
/// How long a cluster may take, when all is repaired, to be whole again.
const RECOVERY: Duration = Duration::from_secs(60);

/// What a run came to.
pub(crate) struct Outcome {
    /// Operations that were answered, that have an unknown fate, and that were refused.
    pub(crate) answered: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) watched: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) virtual_time: Duration,
    /// All that clients and watchers saw, in words.
    pub(crate) trace: Vec<String>,
    pub(crate) verdict: Result<u64, String>,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, defect: Option<Defect>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(simulate(seed, defect))
}

fn tuning(dice: &mut Dice) -> Tuning {
    let policy = if dice.chance(60) { ReadPolicy::Lease } else { ReadPolicy::Quorum };
    Tuning {
        request_timeout: Duration::from_secs(3),
        snapshot_entries: dice.between(20..300),
        snapshot_bytes: 1 << 20,
        keep_entries: dice.between(0..50),
        segment_bytes: dice.between(4096..16_384),
        history_revisions: dice.between(20..400),
        history_age: dice.ms(1000..20_000),
        watch_queue: usize::try_from(dice.between(4..64)).unwrap_or(4),
        read_policy: policy,
        ..Tuning::default()
    }
}

async fn simulate(seed: u64, defect: Option<Defect>) -> Outcome {
    let mut dice = Dice::new(seed);
    let tuning = tuning(&mut dice);
    let record = Record::new();
    let world = World::new(dice.fork(), tuning);
    let mut nemesis = Nemesis::new(world, Arc::clone(&record));
    let members = if dice.chance(70) { 3 } else { 5 };
    let length = dice.ms(6_000..20_000);
    let story = story(&mut nemesis, &mut dice, members, length, defect).await;
    let (operations, watches, refused) = record.take();
    let clocks: Vec<_> =
        nemesis.world.machines.values().map(|machine| Arc::clone(&machine.clock)).collect();
    let began = record.began();
    // A lease may end when its time has passed on some member's clock.
    let expiry = move |ns: u64, ttl: u64| {
        let from = began + Duration::from_nanos(ns);
        let ends = clocks.iter().filter_map(|clock| clock.after(from, Duration::from_secs(ttl)));
        let first = ends.min().map(|end| end.saturating_duration_since(began));
        first.map_or(u64::MAX, |end| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX))
    };
    let unknown = operations.iter().filter(|o| o.fate == pontoon_history::Fate::Unknown).count();
    let mut trace: Vec<String> = operations.iter().map(|seen| format!("{seen:?}")).collect();
    trace.extend(watches.iter().map(|seen| format!("{seen:?}")));
    let history = History { operations, expiry: Some(Box::new(expiry)) };
    let checked = pontoon_history::check(&history, &watches);
    // Of a member with a defect the checker must see it in what clients saw, however the story ends.
    let verdict = if defect.is_some() { checked } else { story.and(checked) };
    for (id, _) in nemesis.world.lives() {
        nemesis.world.kill(id, false).await;
    }
    Outcome {
        answered: (history.operations.len() - unknown) as u64,
        unknown: unknown as u64,
        refused,
        watched: watches.iter().map(|watch| watch.events.len() as u64).sum(),
        faults: nemesis.did,
        virtual_time: Instant::now() - began,
        trace,
        verdict,
    }
}

/// Everything that happens.
async fn story(
    nemesis: &mut Nemesis,
    dice: &mut Dice,
    members: MemberId,
    length: Duration,
    defect: Option<Defect>,
) -> Result<(), String> {
    nemesis.world.form(members).await?;
    if defect == Some(Defect::SkippedSync) {
        nemesis.world.machines.values().for_each(|machine| machine.disk.lie());
    }
    let record = Arc::clone(&nemesis.record);
    record.set_lives(nemesis.world.lives());
    let end = Instant::now() + length;
    let client = |dice: &mut Dice| Client::new(Arc::clone(&record), dice.fork(), GROUPS, defect);
    let clients: Vec<_> =
        (0..dice.between(4..9)).map(|_| tokio::spawn(client(dice).run(end))).collect();
    let (goal, _) = watch::channel(None);
    let watchers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(watcher::run(Arc::clone(&record), dice.fork(), goal.subscribe())))
        .collect();
    nemesis.run(end).await?;
    for client in clients {
        client.await.map_err(|error| format!("a client panicked: {error}"))?;
    }
    nemesis.repair().await?;
    let whole = tokio::time::timeout(RECOVERY, recover(nemesis, dice, defect)).await;
    let revision = whole.map_err(|_| stuck(nemesis, "the cluster does not recover"))??;
    goal.send_replace(Some(revision));
    for watcher in watchers {
        let ended = tokio::time::timeout(RECOVERY, watcher).await;
        ended
            .map_err(|_| format!("a watcher never sees revision {revision}"))?
            .map_err(|e| e.to_string())?;
    }
    // A member with a defect may well have lost something.
    if defect.is_some() {
        return Ok(());
    }
    let verified = tokio::time::timeout(RECOVERY, verify(nemesis)).await;
    verified.map_err(|_| stuck(nemesis, "the members do not read their files"))?
}

/// Whatever was done to its disk, a member that runs finds no damage there, and no other check sum than the others.
async fn verify(nemesis: &Nemesis) -> Result<(), String> {
    let lives = nemesis.world.lives();
    let leader = lives.iter().find(|(_, life)| life.store.leadership().borrow().is_me);
    let (_, Life { host, store, .. }) = leader.ok_or_else(|| stuck(nemesis, "nobody leads"))?;
    let store = store.clone();
    let asked = host.spawn(async move { (store.files().await, store.hashes().await) });
    let (files, hashes) = asked.await.map_err(|error| error.to_string())?;
    for MemberFiles { member, files } in files {
        let files = files.map_err(|error| format!("member {}: {error}", member.id))?;
        if !files.problems.is_empty() || files.log_files == 0 {
            return Err(format!("member {} finds {files:?}", member.id));
        }
    }
    let mut sums = BTreeMap::new();
    for MemberHash { member, hash } in hashes.map_err(|error| error.to_string())? {
        let hash = hash.map_err(|error| format!("member {}: {error}", member.id))?;
        let first = *sums.entry(hash.compact_revision).or_insert(hash);
        if hash != first {
            return Err(format!("member {} has {hash:?}, another {first:?}", member.id));
        }
    }
    Ok(())
}

fn stuck(nemesis: &Nemesis, what: &str) -> String {
    let status = nemesis
        .world
        .lives()
        .into_iter()
        .map(|(id, life)| format!("{id}: {:?}", life.store.status()));
    format!("{what}: {}", status.collect::<Vec<_>>().join("; "))
}

/// Waits until every key was read, all leases have ended and all members hold the same; answers with the
/// revision.
async fn recover(
    nemesis: &mut Nemesis,
    dice: &mut Dice,
    defect: Option<Defect>,
) -> Result<u64, String> {
    let record = Arc::clone(&nemesis.record);
    for group in 0..GROUPS {
        let sound = defect.filter(|defect| *defect == Defect::LostRevoke);
        let mut reader = Client::new(Arc::clone(&record), dice.fork(), 1, sound);
        reader.group = super::client::group(group);
        while !reader.read_all().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
            nemesis.repair().await?;
        }
    }
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        nemesis.repair().await?;
        if let Some(revision) = agreed(nemesis)? {
            return Ok(revision);
        }
    }
}

/// The revision, if no lease is left and all members are at it; an error if they hold different things.
fn agreed(nemesis: &Nemesis) -> Result<Option<u64>, String> {
    let lives = nemesis.world.lives();
    let Some((_, leader)) = lives.iter().find(|(_, life)| life.store.leadership().borrow().is_me)
    else {
        return Ok(None);
    };
    if !leader.store.leases().is_empty() {
        return Ok(None);
    }
    let status = leader.store.status();
    let content = |store: &crate::Store| {
        let core = store.core_for_tests();
        core.replica.state().range(&Range::prefix("")).map(|found| found.kvs)
    };
    let members: Vec<MemberId> = leader.store.members().iter().map(|m| m.member.id).collect();
    for (id, life) in lives.iter().filter(|(id, _)| members.contains(id)) {
        if life.store.status().applied_index != status.applied_index {
            return Ok(None);
        }
        let (here, there) = (content(&life.store), content(&leader.store));
        if here != there || life.store.revision() != status.revision {
            return Err(format!("member {id} holds {here:?}, the leader holds {there:?}"));
        }
    }
    Ok(Some(status.revision))
}
