//! All local machines below one directory, and the bridge between them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sys::signal::Signal;
use pontoon_network::{Bridge, MachineLink, Masquerade, Network, NetworkError};
use serde::{Deserialize, Serialize};

use crate::lock::Lock;
use crate::machine::{Machine, MachineState, Program};
use crate::process::Process;
use crate::{cgroup, enter, keeper};

/// Machines that one bridge can hold: the host has .1, the last address is for broadcasts.
const MACHINES_MAX: u8 = 253;
/// How long a machine may take to shut down before its power is cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest packet on the bridge.
const MTU: u32 = 1500;

/// Why something could not be done with a machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{action} of machine {name}")]
    Network { action: &'static str, name: String, source: NetworkError },
    #[error("machine {0:?} not found; see `pontoon machine ls`")]
    NotFound(String),
    #[error("a machine named {0} is there already")]
    Exists(String),
    #[error(
        "{0:?} cannot be a machine's name: use up to 32 of a-z, 0-9 and '-', beginning with a letter"
    )]
    Name(String),
    #[error("machine {0} is stopped; start it with `pontoon machine start {0}`")]
    Stopped(String),
    #[error("start machine {name}: {reason}; its log is {}", log.display())]
    Start { name: String, reason: String, log: PathBuf },
    #[error("{0} machines are there, more do not fit on their bridge")]
    Full(usize),
    #[error("local machines need root")]
    NotRoot,
    #[error("remove what is left of machine {name}")]
    Left { name: String, source: io::Error },
}

/// The machines below one directory; two directories never collide.
pub struct Machines {
    dir: PathBuf,
    network: Network,
}

#[derive(Serialize, Deserialize)]
struct Subnet {
    bridge: String,
    address: Ipv4Net,
}

impl Machines {
    /// The machines below `dir`, which need not exist yet.
    ///
    /// # Errors
    /// When this process is not root, or the kernel offers no network namespaces.
    pub fn open(dir: &Path) -> Result<Self, MachineError> {
        if !rustix::process::geteuid().is_root() {
            return Err(MachineError::NotRoot);
        }
        let network = Network::new("machines")
            .map_err(|source| network_error("look at the network", "any", source))?;
        Ok(Self { dir: dir.to_owned(), network })
    }

    /// All machines in order of their names.
    ///
    /// # Errors
    /// When one's record cannot be read.
    pub fn list(&self) -> Result<Vec<Machine>, MachineError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(file_error("list", &self.dir, source)),
        };
        let mut machines = Vec::new();
        for entry in entries.flatten() {
            match read(&entry.path()) {
                Ok(machine) => machines.push(machine),
                // No machine, or one that another command has just removed.
                Err(MachineError::File { source, .. }) if is_missing(&source) => {}
                Err(error) => return Err(error),
            }
        }
        machines.sort_by(|a: &Machine, b| a.name.cmp(&b.name));
        Ok(machines)
    }

    /// One machine.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<Machine, MachineError> {
        check_name(name)?;
        read(&self.dir.join(name)).map_err(|error| match error {
            MachineError::File { source, .. } if is_missing(&source) => {
                MachineError::NotFound(name.to_owned())
            }
            error => error,
        })
    }

    /// Makes a machine, not started yet. Its program will be told `args` beside its own, whenever it starts.
    ///
    /// # Errors
    /// When the name is taken or impossible, or the bridge cannot be made.
    pub async fn create(&self, name: &str, args: &[String]) -> Result<Machine, MachineError> {
        check_name(name)?;
        let lock = self.lock_all().await?;
        let others = self.list()?;
        if others.iter().any(|machine| machine.name == name) {
            return Err(MachineError::Exists(name.to_owned()));
        }
        let subnet = self.subnet(name).await?;
        let gateway = subnet.address.addr();
        let [a, b, c, _] = gateway.octets();
        let is_free = |n: &u8| others.iter().all(|m| m.address.addr().octets()[3] != *n);
        let number = (2..=MACHINES_MAX).find(is_free).ok_or(MachineError::Full(others.len()))?;
        let address = Ipv4Net::new(Ipv4Addr::new(a, b, c, number), subnet.address.prefix_len())
            .expect("the prefix is that of the subnet");
        let machine = Machine {
            name: name.to_owned(),
            address,
            gateway,
            cgroup_parent: format!("{}-{name}", subnet.bridge),
            bridge: subnet.bridge,
            args: args.to_vec(),
            keeper: None,
            init: None,
            dir: self.dir.join(name),
        };
        write(&machine)?;
        drop(lock);
        Ok(machine)
    }

    /// Switches a machine on. The program's arguments may hold `{data}`, `{run}`, `{name}` and `{cgroup}`.
    ///
    /// # Errors
    /// When it cannot be started; nothing runs then.
    pub async fn start(&self, name: &str, program: &Program) -> Result<Machine, MachineError> {
        let (_lock, mut machine) = self.lock(name).await?;
        if machine.state() == MachineState::Running {
            return Ok(machine);
        }
        let all = self.lock_all().await?;
        self.subnet(name).await?;
        drop(all);
        self.clear(&machine)?;
        for dir in [machine.data_dir(), machine.run_dir()] {
            fs::create_dir_all(&dir).map_err(|source| file_error("make", &dir, source))?;
        }
        let failed = |reason: String| MachineError::Start {
            name: name.to_owned(),
            reason,
            log: machine.log_file(),
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(machine.log_file())
            .map_err(|source| file_error("open", &machine.log_file(), source))?;
        let mut child = Command::new("/proc/self/exe")
            .arg(keeper::WORD)
            .arg(name)
            .arg(&program.path)
            .args(program.args.iter().map(|arg| fill_in(arg, &machine)))
            .args(&machine.args)
            .env("PONTOON_DATA_DIR", machine.data_dir())
            .env("PONTOON_RUN_DIR", machine.run_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut next = || lines.next().and_then(Result::ok);
        if next().as_deref() != Some(keeper::UNSHARED) {
            return Err(failed("its namespaces could not be made".to_owned()));
        }
        let keeper_pid = child.id();
        self.plug_in(&machine, keeper_pid).await?;
        writeln!(child.stdin.take().expect("it is piped"), "go")
            .map_err(|e| failed(e.to_string()))?;
        let init = next().and_then(|line| line.parse().ok()).and_then(Process::of);
        let init = init.ok_or_else(|| failed("its init did not start".to_owned()))?;
        machine.keeper = i32::try_from(keeper_pid).ok().and_then(Process::of);
        machine.init = Some(init);
        write(&machine)?;
        reap_in_background(child);
        Ok(machine)
    }

    /// Shuts a machine down in order, or cuts its power when that takes too long.
    ///
    /// # Errors
    /// When there is no such machine.
    pub async fn stop(&self, name: &str) -> Result<Machine, MachineError> {
        // Not under the machine's lock: whoever has no patience may cut its power meanwhile.
        let machine = self.get(name)?;
        if let Some(init) = machine.init {
            init.signal(Signal::SIGTERM);
            wait_for_end(init, STOP_TIMEOUT).await;
        }
        self.kill(name).await
    }

    /// Cuts a machine's power: everything in it is killed at once.
    ///
    /// # Errors
    /// When there is no such machine.
    pub async fn kill(&self, name: &str) -> Result<Machine, MachineError> {
        let (_lock, machine) = self.lock(name).await?;
        self.cut_power(machine).await
    }

    /// Removes a machine with all it holds; with the last one the bridge goes, too.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<(), MachineError> {
        let (lock, machine) = self.lock(name).await?;
        let machine = self.cut_power(machine).await?;
        let all = self.lock_all().await?;
        self.detach(&machine).await?;
        remove_cgroups(&machine).await?;
        fs::remove_dir_all(&machine.dir)
            .map_err(|source| file_error("remove", &machine.dir, source))?;
        lock.remove().map_err(|source| file_error("remove the lock of", &machine.dir, source))?;
        if self.list()?.is_empty() {
            let gateway = Ipv4Net::new(machine.gateway, machine.address.prefix_len());
            let subnet = gateway.expect("another address's prefix is one");
            let way_out = masquerade(&machine.bridge, subnet, name)?;
            let removed = way_out.remove().await;
            removed.map_err(|e| network_error("remove the way out", name, e))?;
            let action = "remove the bridge";
            self.network
                .detach(&machine.bridge)
                .await
                .map_err(|e| network_error(action, name, e))?;
            fs::remove_dir_all(&self.dir)
                .map_err(|source| file_error("remove", &self.dir, source))?;
            all.remove().map_err(|source| file_error("remove the lock of", &self.dir, source))?;
        }
        Ok(())
    }

    /// Pulls a machine's network cable, or puts it back.
    ///
    /// # Errors
    /// When the machine does not run.
    pub async fn set_cable(&self, name: &str, plugged: bool) -> Result<(), MachineError> {
        let machine = self.get(name)?;
        let done = self.network.set_up(&machine.cable(), plugged).await;
        done.map_err(|e| network_error("change the cable", name, e))
    }

    /// The command that runs `words` inside a machine, with whatever terminal it is given.
    ///
    /// # Errors
    /// When the machine does not run.
    pub fn command(&self, name: &str, words: &[String]) -> Result<Command, MachineError> {
        let machine = self.get(name)?;
        let pid = machine.init_pid().ok_or_else(|| MachineError::Stopped(name.to_owned()))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(enter::WORD)
            .arg(pid.to_string())
            .args(words)
            .env("PONTOON_DATA_DIR", machine.data_dir())
            .env("PONTOON_RUN_DIR", machine.run_dir());
        Ok(command)
    }

    async fn plug_in(&self, machine: &Machine, pid: u32) -> Result<(), MachineError> {
        let link = MachineLink {
            netns: PathBuf::from(format!("/proc/{pid}/ns/net")),
            host_ifname: machine.cable(),
            ifname: "eth0".to_owned(),
            address: machine.address,
            gateway: Some(machine.gateway),
            mtu: MTU,
            bridge: machine.bridge.clone(),
        };
        let done = self.network.attach_machine(link).await;
        done.map_err(|e| network_error("plug in the network", &machine.name, e))
    }

    async fn detach(&self, machine: &Machine) -> Result<(), MachineError> {
        let done = self.network.detach(&machine.cable()).await;
        done.map(drop).map_err(|e| network_error("unplug the network", &machine.name, e))
    }

    /// Kills everything in a machine, and takes down that it is off.
    async fn cut_power(&self, mut machine: Machine) -> Result<Machine, MachineError> {
        // First of all nothing comes from it any more: the kernel outlives a machine's processes, and would
        // answer for them.
        self.detach(&machine).await?;
        for process in [machine.init, machine.keeper].into_iter().flatten() {
            process.signal(Signal::SIGKILL);
            wait_for_end(process, STOP_TIMEOUT).await;
        }
        (machine.init, machine.keeper) = (None, None);
        write(&machine)?;
        Ok(machine)
    }

    /// What a machine must not find when it starts: sockets of a former life.
    fn clear(&self, machine: &Machine) -> Result<(), MachineError> {
        match fs::remove_dir_all(machine.run_dir()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(file_error("empty", &machine.run_dir(), e))
            }
            _ => Ok(()),
        }
    }

    /// The machines' own subnet and bridge, made with the first machine and again after a reboot.
    async fn subnet(&self, name: &str) -> Result<Subnet, MachineError> {
        let path = self.dir.join("network.json");
        let known =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Subnet>(&bytes).ok());
        let subnet = match known {
            Some(subnet) => subnet,
            None => {
                let links = self.network.links().await;
                let links = links.map_err(|e| network_error("list the links", name, e))?;
                let free = |n: &u8| links.iter().all(|link| link.name != format!("pntm{n}"));
                let number = (0..=u8::MAX).find(free).ok_or(MachineError::Full(0))?;
                let address =
                    Ipv4Net::new(Ipv4Addr::new(10, 213, number, 1), 24).expect("24 is a prefix");
                let subnet = Subnet { bridge: format!("pntm{number}"), address };
                save(&path, &subnet)?;
                subnet
            }
        };
        let bridge = Bridge { name: subnet.bridge.clone(), address: subnet.address, mtu: MTU };
        let made = self.network.ensure_bridge(bridge).await;
        made.map_err(|e| network_error("make the bridge", name, e))?;
        let way_out = masquerade(&subnet.bridge, subnet.address, name)?;
        let made = way_out.ensure().await;
        made.map_err(|e| network_error("make the way out", name, e))?;
        // Of the whole host, which is a router from now on: answers come in by any of its devices.
        let forwards = self.network.ensure_forwarding().await;
        forwards.map_err(|e| network_error("switch forwarding on", name, e))?;
        Ok(subnet)
    }

    /// Held while machines are made or removed, so that two commands do not take one address. Who holds a
    /// machine's lock may take this one, never the other way round.
    async fn lock_all(&self) -> Result<Lock, MachineError> {
        let path = self.dir.with_extension("lock");
        Lock::take(&path).await.map_err(|source| file_error("lock", &path, source))
    }

    /// Held while a machine is switched on or off or removed; answers what it is then.
    async fn lock(&self, name: &str) -> Result<(Lock, Machine), MachineError> {
        self.get(name)?;
        let path = self.dir.join(format!("{name}.lock"));
        let lock = Lock::take(&path).await.map_err(|source| file_error("lock", &path, source))?;
        match self.get(name) {
            Ok(machine) => Ok((lock, machine)),
            // Removed meanwhile: nothing of it is to be left, and the directory only if there are others.
            Err(error) => {
                lock.remove().map_err(|source| file_error("remove", &path, source))?;
                fs::remove_dir(&self.dir).ok();
                Err(error)
            }
        }
    }
}

/// Cgroups go when the last dying process has left them, a moment after its end.
async fn remove_cgroups(machine: &Machine) -> Result<(), MachineError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        match cgroup::remove(&machine.cgroup_parent) {
            Ok(()) => return Ok(()),
            Err(source) if Instant::now() > deadline => {
                return Err(MachineError::Left { name: machine.name.clone(), source });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn wait_for_end(process: Process, longest: Duration) {
    let deadline = Instant::now() + longest;
    while process.is_alive() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The keeper is this process's child: it is waited for, lest it stay as a zombie.
fn reap_in_background(mut child: std::process::Child) {
    let reaper = std::thread::Builder::new().name("machine".to_owned()).spawn(move || child.wait());
    if let Err(error) = reaper {
        tracing::debug!(%error, "wait for a machine's keeper");
    }
}

fn fill_in(arg: &str, machine: &Machine) -> String {
    arg.replace("{data}", &machine.data_dir().to_string_lossy())
        .replace("{run}", &machine.run_dir().to_string_lossy())
        .replace("{name}", &machine.name)
        .replace("{cgroup}", &machine.cgroup_parent)
}

fn check_name(name: &str) -> Result<(), MachineError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=32).contains(&name.len()) && name.bytes().all(plain);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    (fits && first && !name.ends_with('-'))
        .then_some(())
        .ok_or_else(|| MachineError::Name(name.to_owned()))
}

fn read(dir: &Path) -> Result<Machine, MachineError> {
    let path = dir.join("machine.json");
    let bytes = fs::read(&path).map_err(|source| file_error("read", &path, source))?;
    let mut machine: Machine = serde_json::from_slice(&bytes)
        .map_err(|e| file_error("read", &path, io::Error::other(e)))?;
    machine.dir = dir.to_owned();
    Ok(machine)
}

fn write(machine: &Machine) -> Result<(), MachineError> {
    save(&machine.dir.join("machine.json"), machine)
}

/// Whole or not at all.
fn save(path: &Path, value: &impl Serialize) -> Result<(), MachineError> {
    let write = || {
        fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(value)?)?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| file_error("write", path, source))
}

/// There is no such file, or what should be its directory is none.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> MachineError {
    MachineError::File { action, path: path.to_owned(), source }
}

/// The way of a bridge's machines to what this host reaches: a table of the bridge's name.
fn masquerade(bridge: &str, subnet: Ipv4Net, name: &str) -> Result<Masquerade, MachineError> {
    Masquerade::new(bridge, subnet.trunc()).map_err(|e| network_error("open the way out", name, e))
}

fn network_error(action: &'static str, name: &str, source: NetworkError) -> MachineError {
    MachineError::Network { action, name: name.to_owned(), source }
}
