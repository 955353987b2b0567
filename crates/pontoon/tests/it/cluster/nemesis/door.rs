//! The way to the managers' etcd ports: TLS with the administrator's certificate, and calls as a history knows them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pontoon_api_etcd::client::{Client, Failure};
use pontoon_api_etcd::proto::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, HeaderResponse,
    KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, Operand,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, Response,
    ResponseHeader, TxnRequest, TxnResponse,
};
use pontoon_history::{Answer, Call, Compare as Condition, Effect, Kv, Op};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection may take to be made: a manager that stands still takes it and says nothing.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What a manager may send ahead for each call.
const WINDOW: u32 = 1 << 20;
/// Words with which a manager refuses what it certainly has not done and will not do.
const NOT_DONE: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: mvcc: database space exceeded",
];
const NO_LEASE: [&str; 2] =
    ["etcdserver: requested lease not found", "etcdserver: lease already exists"];

/// The ports, and the key to them.
pub(super) struct Door {
    addresses: Vec<IpAddr>,
    tls: TlsConnector,
    connections: AtomicU64,
}

/// One connection to one manager.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// Its name: where stale reads are read, a place that ends with the life of the daemon.
    pub(super) place: String,
}

/// What came of a call.
pub(super) enum Said {
    Answer(Answer),
    /// Certainly nothing was done.
    NotDone(String),
    Unknown(String),
}

impl Door {
    /// With the files of `pontoon etcd-env`.
    pub(super) fn new(addresses: Vec<IpAddr>, files: &Path) -> Door {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(files.join("ca.pem")).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let certificates = CertificateDer::pem_file_iter(files.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(files.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Door { addresses, tls, connections: AtomicU64::new(0) }
    }

    /// How many managers there are.
    pub(super) fn managers(&self) -> usize {
        self.addresses.len()
    }

    /// How many connections were made.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) async fn connect(&self, manager: usize) -> Option<Connection> {
        tokio::time::timeout(PATIENCE, self.open(manager)).await.ok()?.ok()
    }

    async fn open(&self, manager: usize) -> std::io::Result<Connection> {
        let ip = self.addresses[manager];
        let stream = TcpStream::connect(SocketAddr::new(ip, 2379)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::from(ip), stream).await?;
        let client = Client::over(stream, WINDOW).await.map_err(std::io::Error::other)?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { client, place: format!("{manager}.{number}") })
    }
}

/// The end of the range of all keys that begin with this.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    end
}

/// A key as a history knows it; values are numbers.
fn seen(kv: &KeyValue) -> Kv {
    Kv {
        value: value(kv),
        modified: u64::try_from(kv.mod_revision).unwrap(),
        created: u64::try_from(kv.create_revision).unwrap(),
        version: u64::try_from(kv.version).unwrap(),
        lease: kv.lease,
    }
}

/// The number that is the key's value.
pub(super) fn value(kv: &KeyValue) -> u64 {
    std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> u64 {
    u64::try_from(header.unwrap().revision).unwrap()
}

impl Connection {
    /// Makes a call of a history.
    pub(super) async fn ask(&self, call: &Call) -> Said {
        let answer = match call {
            Call::Txn(conditions, then, otherwise) => self.txn(conditions, then, otherwise).await,
            Call::Stale(keys, at) => self.stale(keys, *at).await,
            Call::Grant(lease, seconds) => {
                let ttl = i64::try_from(*seconds).unwrap();
                let request = LeaseGrantRequest { ttl, id: *lease };
                let path = "/etcdserverpb.Lease/LeaseGrant";
                self.client.call::<LeaseGrantResponse>(path, &request).await.map(|_| Answer::Done)
            }
            Call::KeepAlive(lease) => self.keep_alive(*lease).await,
            Call::Revoke(lease) => {
                let request = LeaseId { id: *lease };
                let path = "/etcdserverpb.Lease/LeaseRevoke";
                self.client.call::<HeaderResponse>(path, &request).await.map(|_| Answer::Done)
            }
        };
        match answer {
            Ok(answer) => Said::Answer(answer),
            Err(Failure::Refused { message, .. }) if NO_LEASE.contains(&message.as_str()) => {
                Said::Answer(Answer::NoLease)
            }
            Err(Failure::Refused { message, .. }) if NOT_DONE.contains(&message.as_str()) => {
                Said::NotDone(message)
            }
            Err(failure) => Said::Unknown(failure.to_string()),
        }
    }

    /// Reads keys.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.client.call("/etcdserverpb.KV/Range", &request).await
    }

    /// A transaction; one of a single step is asked for by that step's own call.
    async fn txn(
        &self,
        conditions: &[Condition],
        then: &[Op],
        otherwise: &[Op],
    ) -> Result<Answer, Failure> {
        let (revision, held, effects) = match (conditions, then) {
            ([], [Op::Get(key)]) => {
                let request = RangeRequest { key: key.clone().into(), ..Default::default() };
                let found = self.range(request).await?;
                (revision(found.header.as_ref()), true, vec![got(&found)])
            }
            ([], [Op::Put(key, value, lease)]) => {
                let path = "/etcdserverpb.KV/Put";
                let done: PutResponse = self.client.call(path, &put(key, *value, *lease)).await?;
                let before = Effect::Kv(done.prev_kv.as_ref().map(seen));
                (revision(done.header.as_ref()), true, vec![before])
            }
            ([], [Op::Delete(key)]) => {
                let path = "/etcdserverpb.KV/DeleteRange";
                let request = DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
                let done: DeleteRangeResponse = self.client.call(path, &request).await?;
                (revision(done.header.as_ref()), true, vec![gone(&done)])
            }
            _ => {
                let request = TxnRequest {
                    compare: conditions.iter().map(compare).collect(),
                    success: then.iter().map(step).collect(),
                    failure: otherwise.iter().map(step).collect(),
                };
                let done: TxnResponse = self.client.call("/etcdserverpb.KV/Txn", &request).await?;
                let effects = done.responses.iter().map(|step| effect(step.response.as_ref()));
                (revision(done.header.as_ref()), done.succeeded, effects.collect())
            }
        };
        Ok(Answer::Txn(revision, held, effects))
    }

    async fn stale(&self, keys: &[String], at: u64) -> Result<Answer, Failure> {
        let prefix = keys[0].trim_end_matches(|letter| letter != '/');
        let request = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: prefix_end(prefix).into(),
            revision: i64::try_from(at).unwrap(),
            serializable: true,
            ..Default::default()
        };
        let found = self.range(request).await?;
        let of = |key: &String| found.kvs.iter().find(|kv| kv.key == key.as_bytes()).map(seen);
        let kvs = keys.iter().map(of).collect();
        Ok(Answer::Stale(revision(found.header.as_ref()), kvs, self.place.clone()))
    }

    async fn keep_alive(&self, lease: i64) -> Result<Answer, Failure> {
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let mut stream = self.client.stream(path, &LeaseId { id: lease }).await?;
        match stream.hear::<LeaseKeepAliveResponse>().await? {
            Some(answer) if answer.ttl > 0 => Ok(Answer::Done),
            Some(_) => Ok(Answer::NoLease),
            None => Err(Failure::Broken("no answer".to_owned())),
        }
    }
}

fn put(key: &str, value: u64, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_string().into());
    PutRequest { key, value, lease, prev_kv: true, ..Default::default() }
}

fn step(op: &Op) -> RequestOp {
    let request = match op {
        Op::Get(key) => {
            Request::Range(RangeRequest { key: key.clone().into(), ..Default::default() })
        }
        Op::Put(key, value, lease) => Request::Put(put(key, *value, *lease)),
        Op::Delete(key) => Request::DeleteRange(DeleteRangeRequest {
            key: key.clone().into(),
            ..Default::default()
        }),
    };
    RequestOp { request: Some(request) }
}

fn compare(condition: &Condition) -> Compare {
    let (key, target, operand) = match condition {
        Condition::Absent(key) => (key, CompareTarget::Version, Operand::Version(0)),
        Condition::Modified(key, revision) => {
            (key, CompareTarget::Mod, Operand::Mod(i64::try_from(*revision).unwrap()))
        }
        Condition::Value(key, value) => {
            (key, CompareTarget::Value, Operand::Value(value.to_string().into()))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone().into(),
        operand: Some(operand),
        ..Default::default()
    }
}

fn got(found: &RangeResponse) -> Effect {
    Effect::Kv(found.kvs.first().map(seen))
}

fn gone(done: &DeleteRangeResponse) -> Effect {
    Effect::Deleted(u64::try_from(done.deleted).unwrap())
}

fn effect(response: Option<&Response>) -> Effect {
    match response.unwrap() {
        Response::Range(found) => got(found),
        Response::Put(done) => Effect::Kv(done.prev_kv.as_ref().map(seen)),
        Response::DeleteRange(done) => gone(done),
        Response::Txn(_) => Effect::Untold,
    }
}
