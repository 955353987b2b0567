//! How long no write is acknowledged when the leader dies: three members in this process, each with
//! its own runtime; the leader's is torn down, a survivor writes.
//! `cargo run -p pontoon-store --example failover_bench -- [ROUNDS] [DIR]`

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pontoon_store::{BoxedStream, Member, Range, Read, Store, StoreConfig, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
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

struct Running {
    store: Store,
    runtime: Runtime,
}

type Failure = Box<dyn Error + Send + Sync>;

async fn serve(me: Member, dir: PathBuf) -> Result<Store, Failure> {
    let store = Store::open(StoreConfig::new(dir, me.id), Arc::new(Tcp)).await?;
    let listener = TcpListener::bind(me.address).await?;
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
    Ok(store)
}

async fn start(me: &Member, dir: &Path) -> Result<Running, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = dir.join(me.id.to_string());
    let store = runtime.spawn(serve(me.clone(), dir)).await??;
    Ok(Running { store, runtime })
}

async fn leader(running: &BTreeMap<u64, Running>) -> Result<u64, Failure> {
    for (id, running) in running.iter().cycle() {
        let mut leadership = running.store.leadership();
        if leadership.borrow_and_update().is_me {
            return Ok(*id);
        }
        tokio::task::yield_now().await;
    }
    Err("there are no members".into())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds: usize = arguments.first().map_or(Ok(10), |rounds| rounds.parse())?;
    let dir = arguments.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("pontoon-failover-bench-{}", std::process::id()));
    let mut members = Vec::new();
    for id in 1..=3 {
        let probe = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        members.push(Member { id, name: format!("m{id}"), address: probe.local_addr()? });
    }
    let mut running = BTreeMap::new();
    for me in &members {
        running.insert(me.id, start(me, &dir).await?);
        match me.id {
            1 => running[&1].store.bootstrap(me.clone()).await?,
            _ => running[&1].store.add_member(me.clone()).await?,
        }
    }
    let mut gaps = Vec::new();
    for round in 0..rounds {
        let old = leader(&running).await?;
        running[&old].store.put("before", round.to_string()).await?;
        let Some(Running { store, runtime }) = running.remove(&old) else { continue };
        let killed = Instant::now();
        drop(store);
        runtime.shutdown_background();
        let survivor = running.values().next().ok_or("nobody is left")?;
        let mut leadership = survivor.store.leadership();
        let elected = async {
            leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != old)).await?;
            Ok::<Duration, Failure>(killed.elapsed())
        };
        let written = async {
            survivor.store.put("after", round.to_string()).await?;
            Ok::<Duration, Failure>(killed.elapsed())
        };
        let (elected, written) = tokio::try_join!(elected, written)?;
        gaps.push(written);
        println!("round {round}: a leader after {elected:.0?}, a write after {written:.0?}");
        // The files are free when the last task of the dead runtime is gone.
        let again = loop {
            match start(&members[usize::try_from(old - 1)?], &dir).await {
                Ok(again) => break again,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        again.store.range(Range::key("after"), Read::Linearizable).await?;
        running.insert(old, again);
    }
    gaps.sort_unstable();
    println!("median {:.0?}, worst {:.0?}", gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    for (_, Running { store, runtime }) in running {
        drop(store);
        runtime.shutdown_background();
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
