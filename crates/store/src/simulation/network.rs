//! Simulated wires: byte streams that take time, stall while the way is blocked, and break.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::dice::Dice;
use super::host::Host;
use crate::{BoxedStream, Member, MemberId, Store, Transport};

/// Bytes that are on their way in one direction, at most.
const WINDOW: usize = 64 << 10;

/// All wires.
#[derive(Debug)]
pub(crate) struct Net {
    inner: Mutex<Inner>,
}

struct Inner {
    /// Ways, from and to, on which nothing arrives.
    blocked: BTreeSet<(MemberId, MemberId)>,
    hosts: BTreeMap<MemberId, (Arc<Host>, Option<Store>)>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
    dice: Dice,
    /// The usual and the longest delay, in milliseconds.
    delay: (u64, u64),
    /// How often something was written on each way.
    sent: BTreeMap<(MemberId, MemberId), u64>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("blocked", &self.blocked).finish_non_exhaustive()
    }
}

impl Inner {
    fn delay(&mut self) -> Duration {
        let (usual, longest) = self.delay;
        let late = self.dice.chance(5);
        self.dice.ms(0..if late { longest } else { usual } + 1)
    }

    fn is_open(&self, from: MemberId, to: MemberId) -> bool {
        !self.blocked.contains(&(from, to))
    }
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    from: MemberId,
    to: MemberId,
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last chunk arrives: none overtakes another.
    last: Instant,
    /// When the end arrives.
    closed: Option<Instant>,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn break_off(&mut self) {
        self.broken = true;
        self.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    pub(crate) fn new(mut dice: Dice) -> Arc<Net> {
        let delay = *dice.pick(&[(1, 5), (2, 30), (8, 120)]).expect("there are three");
        let inner = Inner {
            blocked: BTreeSet::new(),
            hosts: BTreeMap::new(),
            pipes: Vec::new(),
            dice,
            delay,
            sent: BTreeMap::new(),
        };
        Arc::new(Net { inner: Mutex::new(inner) })
    }

    /// A host can be connected to, as soon as its store is given.
    pub(crate) fn plug(&self, host: &Arc<Host>, store: Option<Store>) {
        lock(&self.inner).hosts.insert(host.id, (Arc::clone(host), store));
    }

    /// How often one host wrote something to another.
    pub(crate) fn sent(&self, from: MemberId, to: MemberId) -> u64 {
        lock(&self.inner).sent.get(&(from, to)).copied().unwrap_or(0)
    }

    /// Breaks all connections of a host: it was started anew, or died with a word.
    pub(crate) fn reset(&self, id: MemberId) {
        self.each_pipe(|pipe| {
            if pipe.from == id || pipe.to == id {
                pipe.break_off();
            }
        });
    }

    /// Breaks some connections.
    pub(crate) fn break_some(&self, percent: u64) {
        let mut dice = lock(&self.inner).dice.fork();
        self.each_pipe(|pipe| {
            if dice.chance(percent) {
                pipe.break_off();
            }
        });
    }

    /// Lets nothing arrive on these ways, and all on the others.
    pub(crate) fn block(&self, ways: BTreeSet<(MemberId, MemberId)>) {
        lock(&self.inner).blocked = ways;
        self.each_pipe(Pipe::wake);
    }

    fn each_pipe(&self, mut f: impl FnMut(&mut Pipe)) {
        let pipes = {
            let mut inner = lock(&self.inner);
            inner.pipes.retain(|pipe| pipe.strong_count() > 0);
            inner.pipes.clone()
        };
        for pipe in pipes.iter().filter_map(Weak::upgrade) {
            f(&mut lock(&pipe));
        }
    }

    fn pipe(&self, from: MemberId, to: MemberId) -> Arc<Mutex<Pipe>> {
        let pipe = Arc::new(Mutex::new(Pipe {
            from,
            to,
            chunks: VecDeque::new(),
            bytes: 0,
            last: Instant::now(),
            closed: None,
            broken: false,
            reader: None,
            writer: None,
        }));
        lock(&self.inner).pipes.push(Arc::downgrade(&pipe));
        pipe
    }
}

/// A host's way into the net.
pub(crate) struct Wire {
    pub(crate) net: Arc<Net>,
    pub(crate) host: Arc<Host>,
}

#[async_trait]
impl Transport for Wire {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        let (from, to) = (self.host.id, to.id);
        let delay = lock(&self.net.inner).delay();
        tokio::time::sleep(delay * 2).await;
        let (open, there) = {
            let inner = lock(&self.net.inner);
            let open = inner.is_open(from, to) && inner.is_open(to, from);
            (open, inner.hosts.get(&to).cloned())
        };
        let Some((host, store)) = there else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if !open || host.silent.load(Ordering::Relaxed) {
            // Nobody answers, not even to say no.
            std::future::pending::<()>().await;
        }
        let Some(store) = store.filter(|_| !host.is_dead()) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (there, back) = (self.net.pipe(from, to), self.net.pipe(to, from));
        let near = Stream::new(&self.net, &self.host, Arc::clone(&back), Arc::clone(&there));
        let far = Stream::new(&self.net, &host, there, back);
        host.spawn(async move { store.serve(Box::new(far)).await });
        Ok(Box::new(near))
    }
}

/// One end of a connection.
struct Stream {
    net: Arc<Net>,
    host: Arc<Host>,
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
    arrival: Pin<Box<Sleep>>,
}

impl Stream {
    fn new(
        net: &Arc<Net>,
        host: &Arc<Host>,
        read: Arc<Mutex<Pipe>>,
        write: Arc<Mutex<Pipe>>,
    ) -> Stream {
        let arrival = Box::pin(tokio::time::sleep(Duration::ZERO));
        Stream { net: Arc::clone(net), host: Arc::clone(host), read, write, arrival }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut pipe = lock(&this.read);
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        pipe.reader = Some(cx.waker().clone());
        if !lock(&this.net.inner).is_open(pipe.from, pipe.to) {
            return Poll::Pending;
        }
        let now = Instant::now();
        let arrives = pipe.chunks.front().map(|(at, _)| *at).or(pipe.closed);
        match arrives {
            None => Poll::Pending,
            Some(at) if at > now => {
                this.arrival.as_mut().reset(at);
                match Future::poll(this.arrival.as_mut(), cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            }
            Some(_) => {
                if let Some((_, chunk)) = pipe.chunks.front_mut() {
                    let len = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..len]);
                    chunk.advance(len);
                    let empty = chunk.is_empty();
                    pipe.bytes -= len;
                    if empty {
                        pipe.chunks.pop_front();
                    }
                    pipe.writer.take().into_iter().for_each(Waker::wake);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.write);
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(pipe.bytes).min(bytes.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let delay = {
            let mut net = lock(&self.net.inner);
            *net.sent.entry((pipe.from, pipe.to)).or_default() += 1;
            net.delay()
        };
        let at = (Instant::now() + delay).max(pipe.last);
        pipe.last = at;
        pipe.bytes += room;
        pipe.chunks.push_back((at, Bytes::copy_from_slice(&bytes[..room])));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.write);
        pipe.closed = Some(pipe.last);
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.host.silent.load(Ordering::Relaxed) {
            return;
        }
        let mut pipe = lock(&self.write);
        pipe.closed = Some(pipe.last);
        pipe.reader.take().into_iter().for_each(Waker::wake);
        drop(pipe);
        let mut pipe = lock(&self.read);
        pipe.broken = true;
        pipe.writer.take().into_iter().for_each(Waker::wake);
    }
}
