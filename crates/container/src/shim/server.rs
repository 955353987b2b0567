//! The poll loop: the socket, its connections, the ends of children, the output of containers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use super::client::{Client, Role};
use super::requests::{Answer, Containers};
use super::setup::Sandbox;
use crate::capability;
use crate::kernel;
use crate::protocol::{Request, Response};
use crate::sandbox::SOCKET;
use crate::spec::Security;

/// More connections than this at once are a mistake; further ones wait in the kernel.
const MAX_CLIENTS: usize = 256;

/// Who is ready.
#[derive(Clone, Debug)]
enum Source {
    Listener,
    Signals,
    Client(u64),
    Output(String, i32),
}

#[derive(Debug)]
pub(super) struct Server {
    listener: UnixListener,
    containers: Containers,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    /// Asked to end: when all is sent.
    ending: bool,
}

impl Server {
    pub(super) fn listen(sandbox: Sandbox) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags)?;
        // The working directory is the run directory, whose path may be too long for an address.
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        rustix::fs::chmod(SOCKET, rustix::fs::Mode::from_raw_mode(0o600))?;
        let containers = Containers {
            sandbox,
            all: BTreeMap::new(),
            signals,
            pause: None,
            filters: BTreeMap::new(),
            happened: Vec::new(),
            ended: Vec::new(),
        };
        Ok(Self { listener, containers, clients: BTreeMap::new(), next_client: 0, ending: false })
    }

    /// Serves until asked to end.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.warm_up();
        while !(self.ending && self.clients.values().all(|client| !client.has_unsent())) {
            for (source, events) in self.wait()? {
                self.handle(source, events);
            }
            self.tell();
        }
        Ok(())
    }

    /// Makes the usual filter while the daemon sees to the network.
    fn warm_up(&mut self) {
        let usual = capability::of(&Security::default(), self.containers.sandbox.capabilities);
        if let Err(refusal) = usual.and_then(|set| self.containers.filters_for(set)) {
            eprintln!("{refusal}");
        }
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![(Source::Signals, self.containers.signals.as_fd(), PollFlags::IN)];
        if self.clients.len() < MAX_CLIENTS {
            sources.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        for (number, client) in &self.clients {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, client.has_unsent());
            sources.push((Source::Client(*number), client.descriptor(), events));
        }
        for container in self.containers.all.values() {
            for output in &container.outputs {
                let source = Source::Output(container.id.clone(), output.fd.as_raw_fd());
                sources.push((source, output.fd.as_fd(), PollFlags::IN));
            }
        }
        poll_all(sources)
    }

    fn handle(&mut self, source: Source, events: PollFlags) {
        match source {
            Source::Signals => {
                self.containers.clear_signals();
                self.containers.reap();
            }
            Source::Listener => self.accept(),
            Source::Client(number) => {
                if let Err(error) = self.serve(number, events) {
                    self.let_go(number, &error);
                }
            }
            Source::Output(id, fd) => {
                if let Some(container) = self.containers.all.get_mut(&id) {
                    container.pump(fd);
                }
            }
        }
    }

    fn accept(&mut self) {
        match self.listener.accept().and_then(|(stream, _)| Client::new(stream)) {
            Ok(client) => {
                self.clients.insert(self.next_client, client);
                self.next_client += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => eprintln!("cannot accept a connection: {error}"),
        }
    }

    fn serve(&mut self, number: u64, events: PollFlags) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        if events.contains(PollFlags::OUT) {
            client.flush()?;
        }
        if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            for request in client.receive()? {
                self.answer(number, request)?;
            }
        }
        match self.clients.get(&number) {
            Some(client) if client.finished && !client.has_unsent() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, number: u64, request: Request) -> io::Result<()> {
        let role = matches!(request, Request::Subscribe).then_some(Role::Listening);
        self.ending |= matches!(request, Request::Shutdown);
        let answer = self
            .containers
            .answer(request)
            .unwrap_or_else(|refusal| Answer::from(Response::Refused(refusal)));
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        let held = answer.held.map(|pid| Role::Holding(pid.as_raw_nonzero().get()));
        client.role = held.or(role).unwrap_or(client.role);
        client.send(&answer.response, answer.descriptors)
    }

    /// Tells what has happened to those who listen, and ends of commands to those who hold them.
    fn tell(&mut self) {
        let mut gone = Vec::new();
        for happening in std::mem::take(&mut self.containers.happened) {
            let event = Response::Event(happening);
            for (number, client) in &mut self.clients {
                if client.role == Role::Listening
                    && let Err(error) = client.send(&event, Vec::new())
                {
                    gone.push((*number, error));
                }
            }
        }
        for (pid, exit) in std::mem::take(&mut self.containers.ended) {
            let held = Role::Holding(pid.as_raw_nonzero().get());
            let holder = self.clients.iter_mut().find(|(_, client)| client.role == held);
            if let Some((number, client)) = holder {
                client.role = Role::Asking;
                client.finished = true;
                if let Err(error) = client.send(&Response::Exited(exit), Vec::new()) {
                    gone.push((*number, error));
                }
            }
        }
        for (number, error) in gone {
            self.let_go(number, &error);
        }
    }

    /// Closes a connection; the command that it held goes with it.
    fn let_go(&mut self, number: u64, error: &io::Error) {
        let Some(client) = self.clients.remove(&number) else { return };
        if let Role::Holding(pid) = client.role
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
            && let Err(error) = kernel::kill(pid, libc::SIGKILL)
        {
            eprintln!("cannot end a command nobody holds: {error}");
        }
        if error.kind() != io::ErrorKind::UnexpectedEof {
            eprintln!("a connection was closed: {error}");
        }
    }
}

fn poll_all(
    sources: Vec<(Source, BorrowedFd<'_>, PollFlags)>,
) -> io::Result<Vec<(Source, PollFlags)>> {
    let mut fds: Vec<PollFd<'_>> =
        sources.iter().map(|(_, fd, events)| PollFd::from_borrowed_fd(*fd, *events)).collect();
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|((source, ..), fd)| (source, fd.revents())).collect())
}
