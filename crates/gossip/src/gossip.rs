//! The running member: a handle on the thread that owns the protocol, the sockets and the clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::GossipConfig;
use crate::engine::{Engine, Start};
use crate::member::{Member, Meta};
use crate::record::MAX_NAME;
use crate::runtime::{Clock, Command, Link, Runtime};
use crate::seal::Seal;

/// Why gossip could not start or do as told.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen for gossip on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gives no thread or no randomness.
    #[error("cannot start gossip: {0}")]
    Start(#[source] io::Error),
    /// Name or metadata are empty or too long.
    #[error("invalid gossip configuration: {0}")]
    Config(&'static str),
    /// No such member, or it is this node.
    #[error("no other member is named `{0}`")]
    UnknownMember(String),
    /// Gossip has been stopped.
    #[error("gossip has stopped")]
    Stopped,
}

const COMMANDS: usize = 256;
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(1500);
/// With port 0, so many ports are tried for one that is free for UDP and TCP both.
const BIND_ATTEMPTS: usize = 16;

/// A handle on this node's gossip; clones share it. It runs until the token given at the start is cancelled.
#[derive(Clone)]
pub struct Gossip {
    link: Link,
    members: watch::Receiver<Arc<Vec<Member>>>,
    local: SocketAddr,
}

impl Gossip {
    /// Binds UDP and TCP and begins; alone until `join` or until another joins.
    pub async fn start(
        config: GossipConfig,
        shutdown: CancellationToken,
    ) -> Result<Self, GossipError> {
        check_meta(&config.meta)?;
        if !(1..=MAX_NAME).contains(&config.name.len()) {
            return Err(GossipError::Config("the node's name must have 1 to 253 bytes"));
        }
        let (udp, tcp, local) = bind(config.bind)
            .map_err(|source| GossipError::Bind { address: config.bind, source })?;
        let mut address = config.advertise;
        if config.bind.port() == 0 {
            address.set_port(local.port());
        }
        let mut seed = [0; 8];
        let no_randomness =
            |_| GossipError::Start(io::Error::other("the kernel gives no randomness"));
        SystemRandom::new().fill(&mut seed).map_err(no_randomness)?;
        let clock = Clock::start();
        let engine = Engine::new(Start {
            name: config.name,
            address,
            meta: config.meta,
            profile: config.profile,
            now: clock.now(),
            seed: u64::from_ne_bytes(seed),
        });
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let link = Link { commands, seal: Arc::new(Seal::new(&config.key)) };
        let (sender, members) = watch::channel(engine.members());
        let runtime =
            Runtime { engine, clock, udp, tcp, link: link.clone(), inbox, members: sender };
        runtime.spawn(shutdown).map_err(GossipError::Start)?;
        Ok(Self { link, members, local })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Remembers these addresses as seeds, tried with back-off for as long as this node is alone. Gives how many answered
    /// now.
    pub async fn join(&self, seeds: &[SocketAddr]) -> Result<usize, GossipError> {
        self.send(Command::Seeds(seeds.to_vec())).await?;
        let mut asked = JoinSet::new();
        for seed in seeds.iter().copied() {
            let link = self.link.clone();
            asked.spawn(async move {
                let answer = link.exchange(seed).await;
                answer.inspect_err(
                    |error| tracing::info!(%seed, %error, "a gossip seed did not answer"),
                )
            });
        }
        let answers = asked.join_all().await;
        Ok(answers.iter().filter(|answer| answer.is_ok()).count())
    }

    /// All members known, this node included, by name; changes within seconds of the cluster.
    pub fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.members.clone()
    }

    /// Says good-bye: others see this node as left. To be followed by cancelling the token.
    pub async fn leave(&self) -> Result<(), GossipError> {
        let told = self.link.ask(Command::Leave).await.map_err(|_| GossipError::Stopped)?;
        let farewells = async {
            for address in told {
                if let Err(error) = self.link.exchange(address).await {
                    tracing::debug!(%address, %error, "a member did not hear the good-bye");
                }
            }
        };
        // The datagrams have said it already; who missed it sees a failure instead.
        if tokio::time::timeout(FAREWELL_TIMEOUT, farewells).await.is_err() {
            tracing::debug!("not all members heard the good-bye in time");
        }
        Ok(())
    }

    /// Changes what this node says about itself.
    pub async fn set_meta(&self, meta: Meta) -> Result<(), GossipError> {
        check_meta(&meta)?;
        self.send(Command::SetMeta(meta)).await
    }

    /// Goes on with other keys: the first seals, all of them open. None changes nothing.
    pub fn set_keys(&self, keys: &[[u8; 32]]) {
        if !keys.is_empty() {
            self.link.seal.replace(keys);
        }
    }

    /// Makes a failed member count as left everywhere. One that is really alive comes back by itself.
    pub async fn force_leave(&self, name: &str) -> Result<(), GossipError> {
        let ask = self.link.ask(|reply| Command::ForceLeave(name.to_owned(), reply)).await;
        match ask.map_err(|_| GossipError::Stopped)? {
            true => Ok(()),
            false => Err(GossipError::UnknownMember(name.to_owned())),
        }
    }

    async fn send(&self, command: Command) -> Result<(), GossipError> {
        self.link.commands.send(command).await.map_err(|_| GossipError::Stopped)
    }
}

fn check_meta(meta: &Meta) -> Result<(), GossipError> {
    if meta.len() > Meta::MAX_BYTES {
        return Err(GossipError::Config("the metadata has more than 512 bytes"));
    }
    Ok(())
}

/// Both sockets on one port.
fn bind(
    address: SocketAddr,
) -> io::Result<(std::net::UdpSocket, std::net::TcpListener, SocketAddr)> {
    let once = || {
        let tcp = std::net::TcpListener::bind(address)?;
        let local = tcp.local_addr()?;
        let udp = std::net::UdpSocket::bind(local)?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok((udp, tcp, local))
    };
    let mut attempts = if address.port() == 0 { BIND_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match once() {
            Err(_) if attempts > 0 => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
