//! Machines that run members: started, killed, paused, robbed of power.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dice::Dice;
use super::disk::Disk;
use super::host::{Clock, Host};
use super::network::{Net, Wire};
use crate::testing::member;
use crate::{MemberId, OpenError, Store, StoreConfig, Tuning};

/// A machine: what outlives the processes on it.
pub(crate) struct Machine {
    pub(crate) disk: Arc<Disk>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) life: Option<Life>,
    pub(crate) lives: u64,
    /// It is no member any more, and is not started again.
    pub(crate) retired: bool,
}

/// A process that runs.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) host: Arc<Host>,
    pub(crate) store: Store,
    /// Which life of its machine it is.
    pub(crate) number: u64,
}

/// All machines, and what lies between them.
pub(crate) struct World {
    pub(crate) net: Arc<Net>,
    pub(crate) machines: BTreeMap<MemberId, Machine>,
    pub(crate) tuning: Tuning,
    pub(crate) dice: Dice,
}

impl World {
    pub(crate) fn new(mut dice: Dice, tuning: Tuning) -> World {
        let net = Net::new(dice.fork());
        World { net, machines: BTreeMap::new(), tuning, dice }
    }

    /// Adds a machine and starts its store on an empty disk.
    async fn add_machine(&mut self, id: MemberId) -> Result<(), OpenError> {
        self.prepare_machine(id);
        self.start(id).await.map(|_| ())
    }

    /// Adds a machine with an empty disk.
    pub(crate) fn prepare_machine(&mut self, id: MemberId) {
        let disk = Disk::new(self.dice.fork());
        let machine = Machine { disk, clock: Clock::new(), life: None, lives: 0, retired: false };
        self.machines.insert(id, machine);
    }

    /// Starts the store of a machine. `false` if the machine died again while it started.
    pub(crate) async fn start(&mut self, id: MemberId) -> Result<bool, OpenError> {
        let dice = self.dice.fork();
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let host = Host::new(id, Arc::clone(&machine.disk), Arc::clone(&machine.clock), dice);
        machine.lives += 1;
        let number = machine.lives;
        self.net.plug(&host, None);
        self.net.reset(id);
        let config = StoreConfig { dir: "/store".into(), member: id, tuning: self.tuning.clone() };
        let wire = Arc::new(Wire { net: Arc::clone(&self.net), host: Arc::clone(&host) });
        let opening = host.spawn(Store::open(config, wire));
        let opened = tokio::select! {
            biased;
            () = host.death() => None,
            opened = opening => opened.ok(),
        };
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        match opened {
            Some(Ok(store)) => {
                self.net.plug(&host, Some(store.clone()));
                machine.life = Some(Life { host, store, number });
                Ok(true)
            }
            Some(Err(error)) => {
                host.die(false);
                Err(error)
            }
            None => {
                machine.disk.lose_power();
                Ok(false)
            }
        }
    }

    /// Ends the process of a machine; with `power` the disk loses what was not synced, and nobody is
    /// told.
    pub(crate) async fn kill(&mut self, id: MemberId, power: bool) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let Some(life) = machine.life.take() else { return };
        let power = power || life.host.is_dead();
        life.host.die(power);
        drop(life);
        // What its tasks held is given back when they are next looked at.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        if power {
            machine.disk.lose_power();
        }
    }

    /// The lives there are, by number of the member.
    pub(crate) fn lives(&self) -> Vec<(MemberId, Life)> {
        let lives = self.machines.iter();
        lives.filter_map(|(id, machine)| Some((*id, machine.life.clone()?))).collect()
    }

    /// Starts the first `size` members as one cluster.
    pub(crate) async fn form(&mut self, size: MemberId) -> Result<(), String> {
        for id in 1..=size {
            self.add_machine(id).await.map_err(|error| format!("member {id}: {error}"))?;
            let first = self.machines[&1].life.clone().expect("it was started");
            let store = first.store.clone();
            let joined = first.host.spawn(async move {
                if id == 1 {
                    store.bootstrap(member(1)).await
                } else {
                    store.add_member(member(id)).await
                }
            });
            let joined = joined.await.map_err(|error| error.to_string())?;
            joined.map_err(|error| format!("member {id} was not added: {error}"))?;
        }
        Ok(())
    }
}
