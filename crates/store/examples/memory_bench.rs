//! Memory a key and the time of a restart, for a store alone with many keys of 256 bytes.
//! `cargo run -p pontoon-store --release --example memory_bench -- fill DIR [KEYS]`, then `… open DIR`.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use pontoon_store::{BoxedStream, Member, Put, Range, Read, Store, StoreConfig, Transport, Txn};

/// Puts of one transaction.
const PUTS: u64 = 100;

/// A store alone calls nobody.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, _: &Member) -> io::Result<BoxedStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Bytes of memory that this process has now.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse::<u64>()? << 10)
}

/// Milliseconds of processor time that this process has had.
fn processor() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Ok((ticks(11).ok_or("no utime")? + ticks(12).ok_or("no stime")?) * 10)
}

async fn open(dir: &Path) -> Result<Store, Box<dyn Error>> {
    Ok(Store::open(StoreConfig::new(dir, 1), Arc::new(Nobody)).await?)
}

async fn fill(dir: &Path, keys: u64) -> Result<(), Box<dyn Error>> {
    let store = open(dir).await?;
    let address = ([127, 0, 0, 1], 1).into();
    store.bootstrap(Member { id: 1, name: "alone".to_owned(), address }).await?;
    let (empty, before) = (resident()?, processor()?);
    for first in (0..keys).step_by(usize::try_from(PUTS)?) {
        let puts = (first..first + PUTS).map(|number| {
            // In no order, as names are.
            let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Put::new(format!("/bench/{name:016x}"), vec![b'x'; 256])
        });
        store.txn(puts.fold(Txn::new(), Txn::then)).await?;
    }
    let spent = processor()? - before;
    // The log's memory, and what is in flight, are let go with this.
    store.snapshot().await?;
    let grown = resident()?.saturating_sub(empty);
    println!(
        "{keys} keys of 23 + 256 bytes: {} bytes of memory each, {} us of processor each",
        grown / keys,
        spent * 1000 / keys
    );
    store.shutdown().await;
    Ok(())
}

async fn reopen(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (empty, began) = (resident()?, Instant::now());
    let store = open(dir).await?;
    let key = Range { count_only: true, ..Range::prefix("/bench/") };
    let keys = store.range(key, Read::Linearizable).await?.count;
    let took = began.elapsed();
    let grown = resident()?.saturating_sub(empty);
    println!(
        "{keys} keys are there after {took:.2?}: {} bytes of memory each",
        grown / keys.max(1)
    );
    store.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", dir] => fill(Path::new(dir), 1_000_000).await,
        ["fill", dir, keys] => fill(Path::new(dir), keys.parse()?).await,
        ["open", dir] => reopen(Path::new(dir)).await,
        _ => Err("use: memory_bench fill DIR [KEYS] | open DIR".into()),
    }
}
