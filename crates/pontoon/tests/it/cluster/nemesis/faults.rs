//! The nemesis: faults of real processes, disks and wires, one or two at a time, and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_network::Cuts;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tokio::runtime::Runtime;

use super::super::failure::leader;
use super::NAMES;
use super::record::Record;
use crate::world::{World, text, wait};

/// The machine whose store lies on a small disk; it keeps its disk as long as it has power.
pub(super) const SMALL_DISK: &str = "c";
/// The manager that goes and comes back.
const GUEST: &str = "b";
/// How long faults last, in milliseconds: from less than an election to several.
const LENGTH_MS: std::ops::Range<u64> = 300..4000;
/// Writes that are acknowledged after each round before the next one.
const PROGRESS: u64 = 30;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SIGKILL; the daemon is started again at once.
    Kill,
    /// SIGKILL; the daemon stays down for a while.
    Down,
    /// SIGKILL of all daemons at once.
    KillAll,
    /// SIGSTOP, and later SIGCONT.
    Pause,
    /// Everything in the machine is killed, and it is started again.
    PowerOff,
    /// No packets between this manager and the others.
    Isolate,
    /// The others do not hear it.
    Mute,
    /// It does not hear the others.
    Deaf,
    /// No packets between two managers, which both hear the third.
    Pair,
    /// The disk of one manager is full.
    FullDisk,
    /// A manager becomes a worker, and a manager again.
    Member,
}

const ALL: [Kind; 11] = [
    Kind::Kill,
    Kind::Down,
    Kind::KillAll,
    Kind::Pause,
    Kind::PowerOff,
    Kind::Isolate,
    Kind::Mute,
    Kind::Deaf,
    Kind::Pair,
    Kind::FullDisk,
    Kind::Member,
];

/// What may go wrong beside anything else.
const SECOND: [Kind; 6] =
    [Kind::Kill, Kind::Down, Kind::Pause, Kind::Isolate, Kind::Mute, Kind::Deaf];

/// A fault and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    kind: Kind,
    at: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.at)
    }
}

/// Makes faults and ends them.
pub(super) struct Nemesis<'w> {
    world: &'w World,
    runtime: &'w Runtime,
    record: Arc<Record>,
    random: StdRng,
    cuts: Cuts,
    addresses: BTreeMap<&'static str, Ipv4Addr>,
    /// Kinds that are still to come before all begin again.
    deck: Vec<Kind>,
    /// How often each kind was made.
    pub(super) did: BTreeMap<Kind, u64>,
}

impl<'w> Nemesis<'w> {
    pub(super) fn new(
        world: &'w World,
        runtime: &'w Runtime,
        record: Arc<Record>,
        random: StdRng,
    ) -> Self {
        let cuts = Cuts::new(&format!("pontoon-it-{}", std::process::id())).unwrap();
        let addresses = super::addresses(world);
        let (deck, did) = (Vec::new(), BTreeMap::new());
        Nemesis { world, runtime, record, random, cuts, addresses, deck, did }
    }

    /// Makes faults for so long, and until each kind was made; `between` is done between two rounds.
    pub(super) fn run(&mut self, length: Duration, mut between: impl FnMut(&mut StdRng)) {
        let end = Instant::now() + length;
        while Instant::now() < end || self.did.len() < ALL.len() {
            self.round();
            between(&mut self.random);
        }
    }

    fn round(&mut self) {
        for name in NAMES {
            wait(&format!("{name} is back"), || self.world.on(name, &["status"]).ok.then_some(()));
        }
        let mut faults = vec![self.draw()];
        if self.random.random_bool(0.4) && faults[0].kind != Kind::KillAll {
            faults.push(self.second(faults[0]));
        }
        let before = (self.record.calls(), self.record.acknowledged());
        for fault in &faults {
            self.begin(*fault);
        }
        self.cut(&faults);
        let length = Duration::from_millis(self.random.random_range(LENGTH_MS));
        // A fault takes its time; nothing is waited for.
        std::thread::sleep(length);
        self.cut(&[]);
        for fault in faults.iter().rev() {
            self.end(*fault);
        }
        let enough = self.record.acknowledged() + PROGRESS;
        wait("writes go on after the faults", || {
            (self.record.acknowledged() >= enough).then_some(())
        });
        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        println!(
            "{} for {length:?}; {} calls meanwhile, {} writes acknowledged",
            shown.join(", "),
            self.record.calls() - before.0,
            self.record.acknowledged() - before.1
        );
        for fault in faults {
            *self.did.entry(fault.kind).or_default() += 1;
        }
    }

    /// The next kind, in an order by chance that has each kind once.
    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = ALL.to_vec();
            self.deck.shuffle(&mut self.random);
        }
        let kind = self.deck.pop().unwrap();
        let at = match kind {
            Kind::FullDisk => SMALL_DISK,
            Kind::Member => GUEST,
            Kind::PowerOff => self.choose(&["a", "b"]),
            _ => self.choose(&NAMES),
        };
        Fault { kind, at }
    }

    /// Another fault at the same time, at another manager.
    fn second(&mut self, first: Fault) -> Fault {
        let others: Vec<&'static str> =
            NAMES.into_iter().filter(|name| *name != first.at).collect();
        let kind = *SECOND.choose(&mut self.random).unwrap();
        Fault { kind, at: self.choose(&others) }
    }

    /// Most often the leader.
    fn choose(&mut self, places: &[&'static str]) -> &'static str {
        let any = *places.choose(&mut self.random).unwrap();
        if self.random.random_bool(0.4) {
            return any;
        }
        let led = NAMES.iter().find_map(|name| leader(self.world, name));
        places.iter().find(|place| Some(**place) == led.as_deref()).copied().unwrap_or(any)
    }

    fn begin(&self, Fault { kind, at }: Fault) {
        match kind {
            Kind::Kill => self.signal(at, "-KILL"),
            Kind::KillAll => NAMES.iter().for_each(|name| self.signal(name, "-KILL")),
            Kind::Down => self.world.hold_daemon(at),
            Kind::Pause => self.signal(at, "-STOP"),
            Kind::PowerOff => self.world.kill(at),
            Kind::FullDisk => self.fill(at),
            Kind::Member => wait("a manager can be spared", || {
                self.world.on("a", &["node", "demote", at]).ok.then_some(())
            }),
            Kind::Isolate | Kind::Mute | Kind::Deaf | Kind::Pair => {}
        }
    }

    fn end(&self, Fault { kind, at }: Fault) {
        match kind {
            Kind::Down => self.world.release_daemon(at),
            Kind::Pause => self.signal(at, "-CONT"),
            Kind::PowerOff => self.world.start(at),
            Kind::FullDisk => {
                let ballast = self.ballast(at);
                self.world.inside(at, &["rm", &ballast]).expect_ok();
            }
            Kind::Member => self.promote(at),
            _ => {}
        }
    }

    /// Sends a signal to a daemon, as soon as there is one.
    fn signal(&self, at: &str, signal: &str) {
        wait(&format!("{at} has a daemon"), || {
            self.world.inside(at, &["pkill", signal, "-f", "pontoon daemon"]).ok.then_some(())
        });
    }

    /// Drops the packets that these faults drop, and no others.
    fn cut(&self, faults: &[Fault]) {
        let mut pairs = BTreeSet::new();
        for Fault { kind, at } in faults {
            let mine = self.addresses[at];
            let others: Vec<Ipv4Addr> =
                self.addresses.values().copied().filter(|other| *other != mine).collect();
            for other in others.iter().take(if *kind == Kind::Pair { 1 } else { others.len() }) {
                if matches!(kind, Kind::Isolate | Kind::Mute | Kind::Pair) {
                    pairs.insert((mine, *other));
                }
                if matches!(kind, Kind::Isolate | Kind::Deaf | Kind::Pair) {
                    pairs.insert((*other, mine));
                }
            }
        }
        self.runtime.block_on(self.cuts.set(pairs)).unwrap();
    }

    fn ballast(&self, at: &str) -> String {
        self.world.data_dir(at).join("store/ballast").display().to_string()
    }

    /// Fills the disk, and writes until what the log had taken before is used up, too.
    fn fill(&self, at: &str) {
        let fill = format!("cat /dev/zero > {}", self.ballast(at));
        let full = self.world.inside(at, &["sh", "-c", &fill]).expect_error();
        assert!(full.contains("No space"), "{full}");
        let mut number = 0;
        wait("the manager knows that its disk is full", || {
            self.world
                .write("a", &format!("large-{}-{number}", self.record.number()), 200_000)
                .ok();
            number += 1;
            let said = self.world.json_or_null(at, &["status"])["problem"].to_string();
            said.contains("full").then_some(())
        });
    }

    /// Makes a manager of the node again, once it is a worker, and waits until it has a vote.
    fn promote(&self, at: &str) {
        wait("the manager is a worker", || {
            (self.world.json_or_null(at, &["status"])["role"] == "worker").then_some(())
        });
        wait("the worker is promoted", || {
            self.world.on("a", &["node", "promote", at]).ok.then_some(())
        });
        wait("it has a vote again", || {
            let nodes = self.world.json_or_null("a", &["node", "ls"]);
            let nodes = nodes["nodes"].as_array()?.iter();
            let node = nodes.into_iter().find(|node| text(&node["name"]) == at)?;
            ["Reachable", "Leader"].iter().any(|word| node["managerStatus"] == *word).then_some(())
        });
    }
}

impl Drop for Nemesis<'_> {
    /// Leaves no rule behind in this host's network, however the test ended.
    fn drop(&mut self) {
        if let Err(error) = self.runtime.block_on(self.cuts.set(BTreeSet::new())) {
            eprintln!("heal the network: {error}");
        }
    }
}
