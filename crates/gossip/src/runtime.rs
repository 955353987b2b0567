//! The thin shell around the engine: sockets, clock and tasks. It has a thread of its own, so that a busy program does not
//! look dead to its peers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::{Action, Answer, Engine, SuspicionKey};
use crate::exchange::Exchange;
use crate::member::{Member, Meta};
use crate::seal::{MAX_DATAGRAM, Purpose, Seal};
use crate::stream;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_millis(800);
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// Datagrams taken in one go before anything else is looked at.
const BURST: usize = 256;
const MAX_OUTGOING: usize = 16;
const MAX_INCOMING: usize = 32;
/// A little ahead of ordinary threads.
const NICENESS: i32 = -5;

/// What the handle and the connections ask of the engine.
pub(crate) enum Command {
    Seeds(Vec<SocketAddr>),
    SetMeta(Meta),
    /// Answered with whom to tell in full.
    Leave(oneshot::Sender<Vec<SocketAddr>>),
    /// Answered with whether there is such a member.
    ForceLeave(String, oneshot::Sender<bool>),
    State(oneshot::Sender<Exchange>),
    /// Answered with whether this node began a new life over it.
    Merge(Exchange, oneshot::Sender<bool>),
    Checked(SuspicionKey, Answer),
}

/// What connections need; clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) seal: Arc<Seal>,
}

impl Link {
    /// Asks the engine; an error means it has stopped.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> io::Result<T> {
        let stopped = || io::Error::new(io::ErrorKind::BrokenPipe, "gossip has stopped");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    /// Exchanges full states with the member at this address.
    pub(crate) async fn exchange(&self, with: SocketAddr) -> io::Result<()> {
        // A second time if this node began a new life: the other must learn of it.
        for _ in 0..2 {
            let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(with)).await??;
            let talk = async {
                let state = self.ask(Command::State).await?;
                stream::send(&mut stream, &self.seal, &state).await?;
                let theirs = stream::receive(&mut stream, &self.seal).await?;
                if theirs.from == state.from {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "that is this node itself",
                    ));
                }
                self.ask(|reply| Command::Merge(theirs, reply)).await
            };
            if !timeout(EXCHANGE_TIMEOUT, talk).await?? {
                break;
            }
        }
        Ok(())
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let talk = async {
            let theirs = stream::receive(&mut stream, &self.seal).await?;
            self.ask(|reply| Command::Merge(theirs, reply)).await?;
            let state = self.ask(Command::State).await?;
            stream::send(&mut stream, &self.seal, &state).await
        };
        timeout(EXCHANGE_TIMEOUT, talk).await?
    }

    async fn check(&self, suspect: SuspicionKey) {
        let answer = match timeout(CHECK_TIMEOUT, TcpStream::connect(suspect.id.address)).await {
            Ok(Ok(_)) => Answer::Accepted,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
            Ok(Err(_)) | Err(_) => Answer::Silent,
        };
        // Only fails when all is over.
        drop(self.commands.send(Command::Checked(suspect, answer)).await);
    }
}

/// Milliseconds since the Unix epoch that never run backwards: the time of day at the start, and from there the steady clock.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_ms = u64::try_from(since.as_millis()).unwrap_or(0);
        Self { start: Instant::now(), start_ms }
    }

    pub(crate) fn now(&self) -> u64 {
        self.start_ms + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms.saturating_sub(self.start_ms))
    }
}

/// All that the loop owns.
pub(crate) struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) udp: std::net::UdpSocket,
    pub(crate) tcp: std::net::TcpListener,
    pub(crate) link: Link,
    pub(crate) inbox: mpsc::Receiver<Command>,
    pub(crate) members: watch::Sender<Arc<Vec<Member>>>,
}

impl Runtime {
    /// Runs on a new thread until the token is cancelled.
    pub(crate) fn spawn(self, shutdown: CancellationToken) -> io::Result<()> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("gossip".to_owned()).spawn(move || {
            // Only root may; without it gossip works, but notices starvation later.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "gossip runs at ordinary priority");
            }
            if let Err(error) = executor.block_on(self.run(shutdown)) {
                tracing::error!(%error, "gossip failed");
            }
        })?;
        Ok(())
    }

    async fn run(mut self, shutdown: CancellationToken) -> io::Result<()> {
        let udp = UdpSocket::from_std(self.udp)?;
        let tcp = TcpListener::from_std(self.tcp)?;
        let shell = Shell {
            link: self.link,
            members: self.members,
            incoming: Arc::new(Semaphore::new(MAX_INCOMING)),
            outgoing: Arc::new(Semaphore::new(MAX_OUTGOING)),
        };
        // When connections are taken again after one could not be (no file descriptors, say).
        let mut accepting = Instant::now();
        loop {
            shell.perform(&mut self.engine, &udp);
            let next = self
                .engine
                .next()
                .map_or_else(|| Instant::now() + EXCHANGE_TIMEOUT, |ms| self.clock.at(ms));
            let paused = accepting > Instant::now();
            let wake = if paused { next.min(accepting) } else { next };
            // What has come is read before timers fire: after being held up, answers count before verdicts.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                ready = udp.readable() => {
                    ready?;
                    shell.receive(&mut self.engine, &udp, self.clock);
                }
                Some(command) = self.inbox.recv() => obey(&mut self.engine, command, self.clock.now()),
                accepted = tcp.accept(), if !paused => match accepted {
                    Ok((stream, from)) => shell.accepted(stream, from),
                    Err(error) => {
                        tracing::warn!(%error, "a gossip connection was not accepted");
                        accepting = Instant::now() + ACCEPT_PAUSE;
                    }
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            if self.engine.next().is_some_and(|ms| ms <= self.clock.now()) {
                shell.receive(&mut self.engine, &udp, self.clock);
                self.engine.tick(self.clock.now());
            }
        }
    }
}

fn obey(engine: &mut Engine, command: Command, now: u64) {
    // Whoever asked may have gone; then the answer is not wanted.
    match command {
        Command::Seeds(seeds) => engine.add_seeds(now, &seeds),
        Command::SetMeta(meta) => engine.set_meta(now, meta),
        Command::Leave(reply) => drop(reply.send(engine.leave(now))),
        Command::ForceLeave(name, reply) => drop(reply.send(engine.force_leave(now, &name))),
        Command::State(reply) => drop(reply.send(engine.state())),
        Command::Merge(exchange, reply) => drop(reply.send(engine.merge(now, exchange))),
        Command::Checked(suspect, answer) => engine.checked(now, &suspect, answer),
    }
}

struct Shell {
    link: Link,
    members: watch::Sender<Arc<Vec<Member>>>,
    incoming: Arc<Semaphore>,
    outgoing: Arc<Semaphore>,
}

impl Shell {
    fn perform(&self, engine: &mut Engine, udp: &UdpSocket) {
        while let Some(action) = engine.take_action() {
            match action {
                Action::Send { to, data } => self.send(udp, to, &data),
                Action::Exchange { with } => self.exchange(with),
                Action::Check { suspect } => {
                    let link = self.link.clone();
                    tokio::spawn(async move { link.check(suspect).await });
                }
                Action::Publish(members) => drop(self.members.send_replace(members)),
            }
        }
    }

    /// A datagram that cannot be sent is a datagram lost: the protocol bears that.
    fn send(&self, udp: &UdpSocket, to: SocketAddr, data: &[u8]) {
        let Some(sealed) = self.link.seal.seal(Purpose::Datagram, data) else { return };
        if let Err(error) = udp.try_send_to(&sealed, to) {
            tracing::debug!(%to, %error, "a gossip datagram was not sent");
        }
    }

    fn exchange(&self, with: SocketAddr) {
        let Ok(permit) = self.outgoing.clone().try_acquire_owned() else { return };
        let link = self.link.clone();
        tokio::spawn(async move {
            if let Err(error) = link.exchange(with).await {
                tracing::debug!(%with, %error, "gossip states were not exchanged");
            }
            drop(permit);
        });
    }

    fn receive(&self, engine: &mut Engine, udp: &UdpSocket, clock: Clock) {
        // One byte more than is allowed, so that what is too long does not open.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BURST {
            match udp.try_recv_from(&mut buffer) {
                Ok((length, _)) => {
                    if let Some(plain) =
                        self.link.seal.open(Purpose::Datagram, &mut buffer[..length])
                    {
                        engine.datagram(clock.now(), plain);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An answer of the network to something sent earlier.
                Err(error) => tracing::trace!(%error, "gossip socket"),
            }
        }
    }

    fn accepted(&self, stream: TcpStream, from: SocketAddr) {
        let Ok(permit) = self.incoming.clone().try_acquire_owned() else { return };
        let link = self.link.clone();
        tokio::spawn(async move {
            if let Err(error) = link.answer(stream).await {
                tracing::debug!(%from, %error, "a gossip connection broke off");
            }
            drop(permit);
        });
    }
}
