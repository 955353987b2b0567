//! `pontoon kv` and `pontoon lock` at Consul's API on a store of one member, without a node around it.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_api_consul::cluster::{self, Own, OwnNode};
use pontoon_api_consul::{Cluster, ConsulServer, Settings};
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A cluster of one, which has nobody to connect to and nothing to tell.
struct One(watch::Sender<u64>);

#[async_trait]
impl Transport for One {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

#[async_trait]
impl Cluster for One {
    fn leader(&self) -> Option<String> {
        None
    }

    fn peers(&self) -> Vec<String> {
        Vec::new()
    }

    fn members(&self) -> Vec<cluster::Member> {
        Vec::new()
    }

    async fn own(&self, _: u64) -> Arc<Own> {
        let node = cluster::Node { name: "one".to_owned(), ..cluster::Node::default() };
        let check = cluster::Check {
            id: cluster::NODE_CHECK.to_owned(),
            status: cluster::Status::Passing,
            ..cluster::Check::default()
        };
        let node = OwnNode { node, checks: vec![check], ..OwnNode::default() };
        Arc::new(Own { index: 1, nodes: vec![node] })
    }

    fn own_changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    async fn leave(&self) -> Result<(), String> {
        Err("there is no cluster to leave".to_owned())
    }

    async fn remove(&self, node: &str) -> Result<(), String> {
        Err(format!("{node} stays"))
    }
}

/// A server, for as long as this is there.
struct Bed {
    address: SocketAddr,
    _runtime: Runtime,
    dir: TempDir,
}

fn bed() -> Bed {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let address = runtime.block_on(async {
        let one = || One(watch::channel(1).0);
        let store = Store::open(StoreConfig::new(dir.path(), 1), Arc::new(one())).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        store.bootstrap(Member { id: 1, name: "one".to_owned(), address }).await.unwrap();
        store.leadership().wait_for(|now| now.is_me).await.unwrap();
        let settings = Settings { datacenter: "dc1".to_owned(), node: "one".to_owned(), acl: None };
        let server = ConsulServer::new(store, Arc::new(one()), settings);
        tokio::spawn(server.clone().end_sessions());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        address
    });
    Bed { address, _runtime: runtime, dir }
}

impl Bed {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
        command.args(words).env("CONSUL_HTTP_ADDR", self.address.to_string());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command prints that must go well.
    fn says(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

#[test]
fn keys_on_the_command_line() {
    let bed = bed();
    assert_eq!(bed.says(&["kv", "put", "a/b", "<v>"]), "Success! Data written to: a/b\n");
    assert_eq!(bed.says(&["kv", "get", "a/b"]), "<v>\n");
    assert!(bed.says(&["kv", "get", "--detailed", "a/b"]).contains("LockIndex        0\n"));
    bed.says(&["kv", "put", "ü x?", "--flags", "7"]);
    assert_eq!(bed.says(&["kv", "ls"]), "a/\nü x?\n");
    assert_eq!(bed.says(&["kv", "get", "--recurse", "a"]), "a/b:<v>\n");
    let export = bed.says(&["kv", "export"]);
    assert!(export.starts_with("[\n\t{\n\t\t\"key\": \"a/b\",\n\t\t\"flags\": 0,\n"), "{export}");
    let stale = bed.run(&["kv", "put", "--cas", "1", "a/b", "x"]);
    assert!(String::from_utf8_lossy(&stale.stderr).contains("ModifyIndex is another one"));
    assert_eq!(bed.says(&["kv", "delete", "a/b"]), "Success! Deleted key: a/b\n");
    let none = bed.run(&["kv", "get", "a/b"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("no key exists at \"a/b\""));
    bed.says(&["kv", "delete", "--recurse", ""]);
    assert_eq!(bed.says(&["kv", "export"]), "[]\n");
    let file = bed.dir.path().join("export.json");
    std::fs::write(&file, &export).unwrap();
    let told = bed.says(&["kv", "import", file.to_str().unwrap()]);
    assert_eq!(told, "Imported: a/b\nImported: ü x?\n");
    assert_eq!(bed.says(&["kv", "export"]), export);
}

#[test]
fn a_program_runs_while_the_lock_is_held() {
    let bed = bed();
    let key = format!("http://{}", bed.address);
    let inner = format!(
        "echo $CONSUL_LOCK_HELD; {} lock --http-addr {key} --timeout 1 a true; exit 3",
        env!("CARGO_BIN_EXE_pontoon")
    );
    let done = bed.run(&["lock", "a", "sh", "-c", &inner]);
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "true\n");
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("held by somebody else"), "{words}");
    assert_eq!(bed.says(&["kv", "ls", "--separator", ""]), "", "nothing is left of it");
    assert_eq!(bed.says(&["lock", "a", "echo", "again"]), "again\n");
}

#[test]
fn a_lost_lock_ends_the_program() {
    let bed = bed();
    let lose = format!(
        "{} kv delete a/.lock --http-addr {} >/dev/null; exec sleep 60",
        env!("CARGO_BIN_EXE_pontoon"),
        bed.address
    );
    let done = bed.run(&["lock", "a", "sh", "-c", &lose]);
    assert_eq!(done.status.code(), Some(1));
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("the lock was lost"), "{words}");
}
