//! Durable writes a second: clients of a cluster in this process, over loopback TCP, with real
//! syncs. `cargo run -p pontoon-store --example write_bench -- [MEMBERS] [CLIENTS] [SECONDS] [DIR]`

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pontoon_store::{BoxedStream, Member, Range, Read, Store, StoreConfig, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

struct Tcp;

#[async_trait]
impl Transport for Tcp {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        let stream = TcpStream::connect(to.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

async fn member(id: u64, dir: PathBuf) -> Result<(Store, Member), Box<dyn Error>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let store = Store::open(StoreConfig::new(dir, id), Arc::new(Tcp)).await?;
    let server = store.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                if stream.set_nodelay(true).is_ok() {
                    server.serve(Box::new(stream)).await;
                }
            });
        }
    });
    Ok((store, Member { id, name: format!("m{id}"), address }))
}

async fn client(store: Store, number: usize, until: Instant, read: bool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let value = vec![b'x'; 256];
    for turn in 0_u64.. {
        let began = Instant::now();
        if began >= until {
            break;
        }
        let key = format!("/bench/{number:05}/{:05}", turn % 1000);
        let done = if read {
            store.range(Range::key(key), Read::Linearizable).await.map(|_| ()).map_err(drop)
        } else {
            store.put(key, value.clone()).await.map(|_| ()).map_err(drop)
        };
        if done.is_ok() {
            latencies.push(began.elapsed());
        }
    }
    latencies
}

async fn measure(stores: &[Store], clients: usize, seconds: u64, read: bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let store = stores[if read { number % stores.len() } else { 0 }].clone();
            tokio::spawn(client(store, number, until, read))
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap_or_default());
    }
    latencies.sort_unstable();
    let at =
        |share: usize| latencies.get(latencies.len() * share / 1000).copied().unwrap_or_default();
    println!(
        "{:>7} {:>8} {:>6} {:>10.0}/s  p50 {:>8.2?}  p99 {:>8.2?}",
        stores.len(),
        clients,
        if read { "read" } else { "put" },
        latencies.len() as f64 / seconds as f64,
        at(500),
        at(990),
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        arguments.get(at).map_or(Ok(default), |argument| argument.parse())
    };
    let (members, clients, seconds) = (number(0, 3)?, number(1, 0)?, number(2, 5)?);
    let dir = arguments.get(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("pontoon-write-bench-{}", std::process::id()));
    let mut stores = Vec::new();
    for id in 1..=members {
        let (store, me) = member(id, dir.join(id.to_string())).await?;
        match stores.first() {
            None => store.bootstrap(me).await?,
            Some(first) => Store::add_member(first, me).await?,
        }
        stores.push(store);
    }
    println!("members  clients");
    let rounds = if clients == 0 { vec![1, 16, 64, 256] } else { vec![usize::try_from(clients)?] };
    for clients in rounds {
        measure(&stores, clients, seconds, false).await;
        measure(&stores, clients, seconds, true).await;
    }
    for store in &stores {
        store.shutdown().await;
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
