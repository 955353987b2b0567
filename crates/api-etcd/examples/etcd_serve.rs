//! etcd's API on a store of one member, without a node around it: `etcd_serve ADDRESS DIR`. For clients that are tried
//! against it, and to measure it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pontoon_api_etcd::{Access, EtcdServer, MemberInfo, Members, MembersError, Settings};
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use tokio::net::TcpListener;

/// A cluster of one, which stays as it is.
struct One(SocketAddr);

#[async_trait]
impl Transport for One {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

fn refused<T>() -> Result<T, MembersError> {
    Err(MembersError::Refused("this cluster stays as it is".to_owned()))
}

#[async_trait]
impl Members for One {
    async fn list(&self) -> Result<Vec<MemberInfo>, MembersError> {
        let url = format!("http://{}", self.0);
        let (peer_urls, client_urls) = (vec![url.clone()], vec![url]);
        let name = "one".to_owned();
        Ok(vec![MemberInfo { id: 1, name, peer_urls, client_urls, is_learner: false }])
    }

    async fn add(&self, _: &[String], _: bool) -> Result<MemberInfo, MembersError> {
        refused()
    }

    async fn promote(&self, _: u64) -> Result<(), MembersError> {
        refused()
    }

    async fn update(&self, _: u64, _: &[String]) -> Result<(), MembersError> {
        refused()
    }

    async fn remove(&self, _: u64) -> Result<(), MembersError> {
        refused()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(dir)) = (arguments.next(), arguments.next()) else {
        return Err("use: etcd_serve ADDRESS DIR".into());
    };
    let address: SocketAddr = address.parse()?;
    let store = Store::open(StoreConfig::new(dir, 1), Arc::new(One(address))).await?;
    if store.members().is_empty() {
        store.bootstrap(Member { id: 1, name: "one".to_owned(), address }).await?;
    }
    store.leadership().wait_for(|now| now.is_me).await?;
    let settings = Settings { cluster_id: 1, progress_interval: Duration::from_secs(5) };
    let server = EtcdServer::new(store, Arc::new(One(address)), settings);
    let listener = TcpListener::bind(address).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(server.clone().serve(stream, Access::Anyone));
    }
}
