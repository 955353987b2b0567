//! The same requests, one after the other, to this server and to etcd's own: the answers are the same, field by field.
//! What is known to differ is said in `docs/etcd.md`, and left out here.

mod concurrency;
mod edges;
mod random;
mod sorted;
mod streams;

use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::client::{Client, Failure};
use super::{Bed, bed, lack};
use crate::proto::{
    DeleteRangeRequest, DeleteRangeResponse, Event, LeaseGrantRequest, LeaseGrantResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, Response,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchCreate, WatchKind, WatchRequest,
    WatchResponse,
};

/// How long a server may take on a loaded computer.
const PATIENCE: Duration = Duration::from_secs(30);

/// etcd's own server, while it runs.
struct Etcd {
    address: SocketAddr,
    _child: Child,
    _dir: TempDir,
}

/// etcd, or `None`, with a word why, where there is none.
async fn etcd() -> Option<Etcd> {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, peer) = (free(), free());
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &format!("http://{address}")])
        .args(["--advertise-client-urls", &format!("http://{address}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", &format!("default=http://{peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(child) = child else {
        lack("etcd is not installed (Debian's package etcd-server)");
        return None;
    };
    let listens = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.expect("etcd listens");
    Some(Etcd { address, _child: child, _dir: dir })
}

/// Both servers, both new, asked the same.
struct Both {
    ours: Client,
    theirs: Client,
    bed: Bed,
    _etcd: Etcd,
}

impl Both {
    /// `None`, with a word why, where there is no etcd.
    async fn begin() -> Option<Both> {
        let etcd = etcd().await?;
        let bed = bed().await;
        let ours = Client::connect(bed.address).await;
        let theirs = Client::connect(etcd.address).await;
        Some(Both { ours, theirs, bed, _etcd: etcd })
    }

    /// Asks both and compares what they answer, once `compared` has taken out what is not to be compared.
    async fn same<Q, A>(
        &self,
        path: &str,
        request: &Q,
        compared: impl Fn(&mut A),
    ) -> Result<A, Failure>
    where
        Q: Message + Debug,
        A: Message + Default + PartialEq + Debug,
    {
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/etcdserverpb.{path}"),
        };
        let ask = async |who: &str, client: &Client| {
            let answer = tokio::time::timeout(PATIENCE, client.call::<Q, A>(&path, request)).await;
            answer.unwrap_or_else(|_| panic!("{who} does not answer {path} {request:?}"))
        };
        let (mut ours, mut theirs) =
            tokio::join!(ask("ours", &self.ours), ask("etcd", &self.theirs));
        for answer in [&mut ours, &mut theirs].into_iter().flatten() {
            compared(answer);
        }
        assert_eq!(ours, theirs, "{path} {request:?}: ours, and etcd's");
        ours
    }

    /// Sends bytes to both; they fail with the same code and words.
    async fn fails(&self, path: &str, body: Bytes) {
        let (ours, theirs) =
            tokio::join!(self.ours.send(path, body.clone()), self.theirs.send(path, body));
        let theirs = theirs.expect_err(path);
        assert_eq!(ours.expect_err(path), theirs, "{path}: ours, and etcd's");
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failure> {
        self.same("KV/Range", request, |a: &mut RangeResponse| header(&mut a.header)).await
    }

    async fn put(&self, request: &PutRequest) -> Result<PutResponse, Failure> {
        self.same("KV/Put", request, |a: &mut PutResponse| header(&mut a.header)).await
    }

    async fn delete(&self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Failure> {
        let deleted = |a: &mut DeleteRangeResponse| header(&mut a.header);
        self.same("KV/DeleteRange", request, deleted).await
    }

    async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        let done = |a: &mut TxnResponse| {
            header(&mut a.header);
            inner(&mut a.responses);
        };
        self.same("KV/Txn", request, done).await
    }

    async fn grant(&self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Failure> {
        let granted = |a: &mut LeaseGrantResponse| header(&mut a.header);
        self.same("Lease/LeaseGrant", request, granted).await
    }

    /// Writes a key on both; answers with the revision.
    async fn write(&self, key: &'static str, value: &'static str) -> i64 {
        let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        self.put(&put).await.unwrap().header.unwrap().revision
    }

    /// A watch of everything tells the same on both, from a revision up to another.
    async fn same_events(&self, from: i64, to: i64) {
        let (ours, theirs) =
            tokio::join!(events(&self.ours, from, to), events(&self.theirs, from, to));
        assert_eq!(ours, theirs, "what a watch from {from} tells: ours, and etcd's");
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The revision is compared, not who answers.
fn header(header: &mut Option<ResponseHeader>) {
    let revision = header.as_ref().map_or(0, |header| header.revision);
    *header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
}

/// Headers inside a transaction say less in etcd.
fn inner(responses: &mut [ResponseOp]) {
    for response in responses {
        match response.response.as_mut().unwrap() {
            Response::Range(answer) => answer.header = None,
            Response::Put(answer) => answer.header = None,
            Response::DeleteRange(answer) => answer.header = None,
            Response::Txn(answer) => {
                answer.header = None;
                inner(&mut answer.responses);
            }
        }
    }
}

/// All events from a revision up to another.
async fn events(client: &Client, from: i64, to: i64) -> Vec<Event> {
    let everything = Bytes::from_static(b"\0");
    let create = WatchCreate {
        key: everything.clone(),
        range_end: everything,
        start_revision: from,
        prev_kv: true,
        ..WatchCreate::default()
    };
    let create = WatchRequest { kind: Some(WatchKind::Create(create)) };
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", &create).await;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|e| e.kv.as_ref().unwrap().mod_revision < to) {
        let answer = tokio::time::timeout(PATIENCE, stream.hear::<WatchResponse>()).await;
        let answer = answer.expect("the events come").unwrap();
        assert!(!answer.canceled, "{answer:?}");
        events.extend(answer.events);
    }
    events
}
