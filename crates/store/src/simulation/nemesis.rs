//! Everything that goes wrong: deaths, power losses, pauses, partitions, full disks, too many open files,
//! wrong clocks, and members that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::{Life, World};
use super::record::Record;
use crate::testing::member;
use crate::{MemberId, OpenError, ReadPolicy};

/// How often the nemesis looks around.
const TICK: Duration = Duration::from_millis(25);
/// Machines at most.
const MACHINES: usize = 7;

/// What becomes due.
#[derive(Clone, Debug)]
enum Later {
    Start(MemberId),
    Resume(MemberId),
    Heal,
    Space(MemberId),
    Handles(MemberId),
}

/// The one who breaks things.
pub(super) struct Nemesis {
    pub(super) world: World,
    pub(super) record: Arc<Record>,
    later: Vec<(Instant, Later)>,
    /// How often what was done.
    pub(super) did: BTreeMap<&'static str, u64>,
}

impl Nemesis {
    pub(super) fn new(world: World, record: Arc<Record>) -> Nemesis {
        Nemesis { world, record, later: Vec::new(), did: BTreeMap::new() }
    }

    /// Breaks things until `end`.
    pub(super) async fn run(&mut self, end: Instant) -> Result<(), String> {
        let mut next = Instant::now() + self.world.dice.ms(100..1000);
        while Instant::now() < end {
            tokio::time::sleep(TICK).await;
            self.look_around().await?;
            if Instant::now() >= next {
                self.act().await?;
                next = Instant::now() + self.world.dice.ms(50..1500);
            }
        }
        Ok(())
    }

    /// Repairs everything: all machines run, all wires work, all clocks are right.
    pub(super) async fn repair(&mut self) -> Result<(), String> {
        self.world.net.block(BTreeSet::new());
        self.later.clear();
        let ids: Vec<MemberId> = self.world.machines.keys().copied().collect();
        for id in ids {
            let machine = &self.world.machines[&id];
            machine.disk.leave_space(None);
            machine.disk.leave_handles(None);
            machine.disk.clear_fuse();
            machine.clock.run_at(1_000_000);
            if let Some(life) = &machine.life {
                life.host.resume();
            }
            let stopped = machine
                .life
                .as_ref()
                .is_some_and(|l| l.host.is_dead() || l.store.status().failed.is_some());
            if stopped {
                self.world.kill(id, false).await;
            }
            let machine = &self.world.machines[&id];
            if machine.life.is_none() && !machine.retired {
                self.start(id).await?;
            }
        }
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.record.set_lives(self.world.lives());
    }

    fn later(&mut self, ms: std::ops::Range<u64>, what: Later) {
        let at = Instant::now() + self.world.dice.ms(ms);
        self.later.push((at, what));
    }

    async fn start(&mut self, id: MemberId) -> Result<(), String> {
        match self.world.start(id).await {
            Ok(true) => {}
            Ok(false) => self.later(100..1500, Later::Start(id)),
            // A full disk, or power that failed: it is tried again.
            Err(OpenError::Io { .. }) => self.later(200..800, Later::Start(id)),
            Err(error) => return Err(format!("member {id} does not start: {error}")),
        }
        self.publish();
        Ok(())
    }

    /// Notices who died, and does what is due.
    async fn look_around(&mut self) -> Result<(), String> {
        for (id, life) in self.world.lives() {
            if life.host.is_dead() {
                self.world.kill(id, true).await;
                self.publish();
                self.later(50..2500, Later::Start(id));
            }
        }
        let now = Instant::now();
        let due: Vec<Later> =
            self.later.iter().filter(|(at, _)| *at <= now).map(|(_, what)| what.clone()).collect();
        self.later.retain(|(at, _)| *at > now);
        for what in due {
            match what {
                Later::Start(id) => {
                    let machine = &self.world.machines[&id];
                    if machine.life.is_none() && !machine.retired {
                        self.start(id).await?;
                    }
                }
                Later::Resume(id) => {
                    if let Some(life) = &self.world.machines[&id].life {
                        life.host.resume();
                    }
                }
                Later::Heal => self.world.net.block(BTreeSet::new()),
                Later::Space(id) => self.world.machines[&id].disk.leave_space(None),
                Later::Handles(id) => self.world.machines[&id].disk.leave_handles(None),
            }
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<(), String> {
        let lives = self.world.lives();
        let leader = lives.iter().find(|(_, life)| life.store.leadership().borrow().is_me);
        let Some((id, life)) = self.world.dice.pick(&lives).cloned() else { return Ok(()) };
        // The leader is the most rewarding victim.
        let (id, life) = match leader {
            Some(leader) if self.world.dice.chance(30) => leader.clone(),
            _ => (id, life),
        };
        let what = match self.world.dice.between(0..100) {
            0..14 => {
                self.world.kill(id, false).await;
                self.publish();
                self.later(0..2500, Later::Start(id));
                "kill"
            }
            14..28 => {
                let fuse = self.world.dice.between(1..30);
                self.world.machines[&id].disk.set_fuse(fuse);
                "power loss"
            }
            28..31 => self.darkness(&lives).await,
            31..43 => {
                life.host.pause();
                self.later(50..3000, Later::Resume(id));
                "pause"
            }
            43..61 => {
                self.partition(id, &lives.iter().map(|(id, _)| *id).collect::<Vec<_>>());
                self.later(200..4000, Later::Heal);
                "partition"
            }
            61..67 => {
                let percent = self.world.dice.between(20..101);
                self.world.net.break_some(percent);
                "broken connections"
            }
            67..73 => {
                let bytes = self.world.dice.between(0..20_000);
                self.world.machines[&id].disk.leave_space(Some(bytes));
                self.later(100..3000, Later::Space(id));
                "full disk"
            }
            73..77 => self.too_many_files(id),
            77..82 => {
                let ppm = self.speed();
                self.world.machines[&id].clock.run_at(ppm);
                "clock speed"
            }
            82..90 => self.change_members(id, &lives),
            90..94 => {
                life.host.spawn(async move { life.store.transfer_leadership(None).await.ok() });
                "transfer"
            }
            94..97 => {
                life.host.spawn(async move { life.store.snapshot().await.ok() });
                "snapshot"
            }
            _ => {
                let revision = life.store.revision().saturating_sub(self.world.dice.between(0..40));
                life.host.spawn(async move { life.store.compact(revision).await.ok() });
                "compaction"
            }
        };
        *self.did.entry(what).or_default() += 1;
        Ok(())
    }

    fn too_many_files(&mut self, id: MemberId) -> &'static str {
        let handles = self.world.dice.between(0..8);
        self.world.machines[&id].disk.leave_handles(Some(handles));
        self.later(50..2000, Later::Handles(id));
        "too many files"
    }

    /// All machines lose power at once.
    async fn darkness(&mut self, lives: &[(MemberId, Life)]) -> &'static str {
        for (id, _) in lives {
            self.world.kill(*id, true).await;
            self.later(0..2000, Later::Start(*id));
        }
        self.publish();
        "power loss everywhere"
    }

    /// With leases the store trusts that clocks run at about one speed; without, it trusts no clock.
    fn speed(&mut self) -> u64 {
        match self.world.tuning.read_policy {
            ReadPolicy::Lease => self.world.dice.between(980_000..1_020_000),
            ReadPolicy::Quorum => self.world.dice.between(300_000..3_000_000),
        }
    }

    fn partition(&mut self, victim: MemberId, all: &[MemberId]) {
        let dice = &mut self.world.dice;
        let mut ways = BTreeSet::new();
        match dice.between(0..4) {
            // One is alone.
            0 => {
                for other in all {
                    ways.extend([(victim, *other), (*other, victim)]);
                }
            }
            // It hears nobody, or nobody hears it.
            1 => {
                let deaf = dice.chance(50);
                ways.extend(all.iter().map(|o| if deaf { (*o, victim) } else { (victim, *o) }));
            }
            // Two sides.
            2 => {
                let side: Vec<MemberId> = all.iter().copied().filter(|_| dice.chance(50)).collect();
                for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
                    if side.contains(&a) != side.contains(&b) {
                        ways.insert((a, b));
                    }
                }
            }
            // Any ways.
            _ => {
                for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
                    if dice.chance(30) {
                        ways.insert((a, b));
                    }
                }
            }
        }
        ways.retain(|(a, b)| a != b);
        self.world.net.block(ways);
    }

    fn change_members(&mut self, id: MemberId, lives: &[(MemberId, Life)]) -> &'static str {
        let life = lives.iter().find(|(other, _)| *other == id).map(|(_, life)| life.clone());
        let Some(life) = life else { return "nothing" };
        let machines = &self.world.machines;
        let active: Vec<MemberId> =
            machines.iter().filter(|(_, m)| !m.retired).map(|(id, _)| *id).collect();
        if active.len() > 3 && self.world.dice.chance(60) {
            let gone = *self.world.dice.pick(&active).expect("there are some");
            life.host.spawn(async move { life.store.remove_member(gone).await.ok() });
            return "remove a member";
        }
        if machines.len() < MACHINES {
            let new = machines.len() as MemberId + 1;
            self.world.prepare_machine(new);
            self.later(0..1, Later::Start(new));
            life.host.spawn(async move { life.store.add_member(member(new)).await.ok() });
            return "add a member";
        }
        let known = *self.world.dice.pick(&active).expect("there are some");
        life.host.spawn(async move { life.store.add_member(member(known)).await.ok() });
        "add a member again"
    }
}
