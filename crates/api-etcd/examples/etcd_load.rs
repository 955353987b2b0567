//! Load that the peers' `etcd-bench` does not make, for a server of etcd's API, ours or etcd's own, without TLS:
//!
//!     etcd_load mixed ENDPOINTS CLIENTS CONNECTIONS SECONDS [KEYS [BYTES]]     90 % reads, 10 % puts
//!     etcd_load lease ENDPOINTS CLIENTS CONNECTIONS SECONDS                    one lease a client, kept alive
//!     etcd_load gap   ENDPOINT  1       1           SECONDS                    the longest time without a put
//!     etcd_load wait  ENDPOINT  1       1           SECONDS                    until a read is answered
//!
//! The first two print a line as `etcd-bench` does. `gap` prints `ready` once puts are acknowledged, and at the end
//! `gap_us=N` and how many puts were; `wait` prints `ready`, or fails when the seconds are over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pontoon_api_etcd::client::{Client, Failure};
use pontoon_api_etcd::proto::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse,
};
use tokio::task::JoinSet;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// Seconds that a lease lives; longer than any run.
const TTL: i64 = 600;
/// A put that is not answered by then is asked again: meanwhile there may be a leader.
const PATIENCE: Duration = Duration::from_millis(200);
/// Pause after a call that was refused at once.
const PAUSE: Duration = Duration::from_millis(2);

type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What is asked for on the command line.
#[derive(Clone)]
struct Load {
    name: String,
    endpoints: Vec<SocketAddr>,
    clients: usize,
    connections: usize,
    length: Duration,
    keys: u64,
    bytes: usize,
}

/// What one client measured.
#[derive(Default)]
struct Measured {
    latencies: Vec<Duration>,
    errors: u64,
}

impl Load {
    fn read(words: &[String]) -> Option<Load> {
        let number = |at: usize| words.get(at).map(|word| word.parse::<u64>());
        let endpoints = words.get(1)?.split(',').map(|endpoint| endpoint.parse().ok());
        Some(Load {
            name: words.first()?.clone(),
            endpoints: endpoints.collect::<Option<Vec<_>>>()?,
            clients: words.get(2)?.parse().ok()?,
            connections: words.get(3)?.parse().ok()?,
            length: Duration::try_from_secs_f64(words.get(4)?.parse().ok()?).ok()?,
            keys: number(5).unwrap_or(Ok(10_000)).ok()?.max(1),
            bytes: usize::try_from(number(6).unwrap_or(Ok(256)).ok()?).ok()?,
        })
    }

    async fn run(&self) -> Res<()> {
        match self.name.as_str() {
            "gap" => return self.gap().await,
            "wait" => return self.wait().await,
            _ => {}
        }
        let mut pool = Vec::new();
        for number in 0..self.connections.max(1) {
            pool.push(Client::connect(self.endpoints[number % self.endpoints.len()]).await?);
        }
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let (load, client) = (self.clone(), pool[number % pool.len()].clone());
            let end = began + self.length;
            clients.spawn(async move {
                match load.name.as_str() {
                    "mixed" => load.mixed(client, number as u64, end).await,
                    _ => load.lease(client, end).await,
                }
            });
        }
        let mut all = Measured::default();
        while let Some(measured) = clients.join_next().await {
            let measured = measured??;
            all.latencies.extend(measured.latencies);
            all.errors += measured.errors;
        }
        self.report(all, began.elapsed());
        Ok(())
    }

    /// Nine linearizable reads, then a put.
    async fn mixed(&self, client: Client, number: u64, end: Instant) -> Result<Measured, Failure> {
        let mut measured = Measured::default();
        let value = vec![b'x'; self.bytes];
        // Xorshift: cheap, and the same keys in every run.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
        for turn in number.. {
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = format!("k{:07}", random % self.keys);
            let done = if turn % 10 == 0 {
                put(&client, key, value.clone()).await
            } else {
                get(&client, key).await
            };
            measured.note(done.is_ok(), asked);
        }
        Ok(measured)
    }

    /// Keeps one lease alive as fast as it is answered.
    async fn lease(&self, client: Client, end: Instant) -> Result<Measured, Failure> {
        let wish = LeaseGrantRequest { ttl: TTL, id: 0 };
        let lease: LeaseGrantResponse = client.call(GRANT, &wish).await?;
        let id = LeaseId { id: lease.id };
        let mut stream = client.stream(KEEP_ALIVE, &id).await?;
        stream.hear::<LeaseKeepAliveResponse>().await?;
        let mut measured = Measured::default();
        loop {
            let asked = Instant::now();
            if asked >= end {
                return Ok(measured);
            }
            stream.say(&id).await?;
            let answer = stream.hear::<LeaseKeepAliveResponse>().await?;
            measured.note(answer.is_some_and(|answer| answer.ttl > 0), asked);
        }
    }

    /// One put after the other at one member, whatever happens to the others.
    async fn gap(&self) -> Res<()> {
        let client = Client::connect(self.endpoints[0]).await?;
        let (mut puts, mut gap) = (0_u64, Duration::ZERO);
        let end = Instant::now() + self.length;
        let mut last = Instant::now();
        while Instant::now() < end {
            let asked = put(&client, "gap".to_owned(), puts.to_string().into_bytes());
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(())) => {
                    if puts == 0 {
                        println!("ready");
                    } else {
                        gap = gap.max(last.elapsed());
                    }
                    last = Instant::now();
                    puts += 1;
                }
                Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
                Err(_) => {}
            }
        }
        // A run that ends without a leader has not seen the whole of it.
        let over = last.elapsed() < PATIENCE;
        println!("gap_us={} puts={puts} over={over}", gap.as_micros());
        Ok(())
    }

    /// Asks until a linearizable read is answered.
    async fn wait(&self) -> Res<()> {
        let answered = async {
            loop {
                if let Ok(client) = Client::connect(self.endpoints[0]).await
                    && get(&client, "k0000000".to_owned()).await.is_ok()
                {
                    return println!("ready");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        Ok(tokio::time::timeout(self.length, answered).await?)
    }

    /// One line, as the peers' program prints it.
    fn report(&self, mut all: Measured, took: Duration) {
        all.latencies.sort_unstable();
        let last = all.latencies.len().saturating_sub(1);
        let at = |part: usize| {
            all.latencies.get(last * part / 100).map_or(0, |latency| latency.as_micros())
        };
        println!(
            "op={} clients={} conns={} ops={} errs={} ops_s={:.0} p50_us={} p90_us={} p99_us={} max_us={}",
            self.name,
            self.clients,
            self.connections,
            all.latencies.len(),
            all.errors,
            all.latencies.len() as f64 / took.as_secs_f64(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
    }
}

impl Measured {
    fn note(&mut self, well: bool, asked: Instant) {
        if well {
            self.latencies.push(asked.elapsed());
        } else {
            self.errors += 1;
        }
    }
}

async fn get(client: &Client, key: String) -> Result<(), Failure> {
    let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
    client.call::<RangeResponse>(RANGE, &request).await.map(drop)
}

async fn put(client: &Client, key: String, value: Vec<u8>) -> Result<(), Failure> {
    let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    client.call::<PutResponse>(PUT, &request).await.map(drop)
}

#[tokio::main]
async fn main() -> Res<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let load = Load::read(&words).filter(|load| {
        ["mixed", "lease", "gap", "wait"].contains(&load.name.as_str())
            && !load.endpoints.is_empty()
    });
    match load {
        Some(load) => load.run().await,
        None => Err("usage: etcd_load mixed|lease|gap|wait ENDPOINTS CLIENTS CONNECTIONS SECONDS [KEYS [BYTES]]".into()),
    }
}
