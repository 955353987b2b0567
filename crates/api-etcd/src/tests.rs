//! The whole service on a real store, spoken to by clients that others wrote.

mod apart;
mod client;
mod concurrency;
mod differential;
mod etcdctl;
mod hostile;
mod http;
mod serializable;
mod sizes;
mod watching;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{Access, EtcdServer, MemberInfo, Members, MembersError, Settings};

/// A cluster of one has nobody to connect to.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

/// One member, which stays alone.
struct Alone {
    address: SocketAddr,
}

impl Alone {
    fn refuse<T>(&self) -> Result<T, MembersError> {
        Err(MembersError::Refused("this cluster stays as it is".to_owned()))
    }
}

#[async_trait]
impl Members for Alone {
    async fn list(&self) -> Result<Vec<MemberInfo>, MembersError> {
        Ok(vec![MemberInfo {
            id: 1,
            name: "one".to_owned(),
            peer_urls: vec!["https://127.0.0.1:2377".to_owned()],
            client_urls: vec![format!("http://{}", self.address)],
            is_learner: false,
        }])
    }

    async fn add(&self, _: &[String], _: bool) -> Result<MemberInfo, MembersError> {
        self.refuse()
    }

    async fn promote(&self, _: u64) -> Result<(), MembersError> {
        Err(MembersError::NotLearner)
    }

    async fn update(&self, _: u64, _: &[String]) -> Result<(), MembersError> {
        self.refuse()
    }

    async fn remove(&self, _: u64) -> Result<(), MembersError> {
        Err(MembersError::NoQuorum)
    }
}

/// A member that listens on loopback.
struct Bed {
    store: Store,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    dir: TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn bed() -> Bed {
    bed_with(|_| ()).await
}

async fn bed_with(tune: impl FnOnce(&mut StoreConfig)) -> Bed {
    let bed = lone_bed_with(tune).await;
    let member =
        Member { id: 1, name: "one".to_owned(), address: "127.0.0.1:2377".parse().unwrap() };
    bed.store.bootstrap(member).await.unwrap();
    bed.store.leadership().wait_for(|now| now.is_me).await.unwrap();
    bed
}

/// A member of no cluster, which nobody leads.
async fn lone_bed_with(tune: impl FnOnce(&mut StoreConfig)) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(dir.path(), 1);
    tune(&mut config);
    let store = Store::open(config, Arc::new(Nobody)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { cluster_id: 0xc1, progress_interval: Duration::from_millis(50) };
    let server = EtcdServer::new(store.clone(), Arc::new(Alone { address }), settings);
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(server.clone().serve(stream, Access::Admin));
        }
    });
    Bed { store, address, accepting, dir }
}

/// Says that a program is not installed, and so something is not tested; where `CI` is set everything must be.
fn lack(what: &str) {
    let is_set = |value: std::ffi::OsString| !value.is_empty() && value != "false";
    assert!(!std::env::var_os("CI").is_some_and(is_set), "{what}, and CI is to test everything");
    println!("skipped: {what}");
}
