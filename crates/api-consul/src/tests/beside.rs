//! Beside the real Consul: the same requests to both from the same fresh state, and the answers compared.
//!
//! The program is the one that `CONSUL` names, or `consul` of the path; where there is none, that is said and nothing is
//! compared. The cases are in `beside/*.txt`; `case.rs` says how they are written, `mask.rs` what is not compared.

mod case;
mod mask;
mod reference;

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::case::{Case, Expect};
use self::mask::{Ids, Seen};
use self::reference::Reference;
use super::{Bed, Said, Two, bed_of};

/// The files of cases, in the order in which both are asked.
const FILES: &[&str] = &[
    "kv",
    "txn",
    "session",
    "catalog",
    "health",
    "agent",
    "event",
    "query",
    "coordinate",
    "operator",
];
/// How long an answer may take to become the same, where one side does something beside its answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_same_as_consul() {
    let Some(reference) = Reference::start().await else {
        println!("there is no consul 1.8.7 here, set CONSUL: nothing is compared with it");
        return;
    };
    let bed = bed_of(Two::alone(reference.server_port), None).await;
    let mut sides = Sides { reference, bed, ids: Default::default(), kept: Default::default() };
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for file in FILES {
        let path = format!("{}/src/tests/beside/{file}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        for case in case::read(&text).unwrap_or_else(|error| panic!("{path}: {error}")) {
            asked += 1;
            if let Err(words) = sides.compare(&case).await {
                wrong.push(format!(
                    "{file}.txt:{} {} {}\n{words}",
                    case.line, case.method, case.path
                ));
            }
        }
    }
    println!("{asked} requests were compared with Consul");
    assert!(wrong.is_empty(), "{} differ:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Both programs, and what was kept of the answers of each.
struct Sides {
    reference: Reference,
    bed: Bed,
    ids: [Ids; 2],
    kept: [BTreeMap<String, String>; 2],
}

impl Sides {
    async fn compare(&mut self, case: &Case) -> Result<(), String> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let said = [self.ask_consul(case).await, self.ask_pontoon(case).await];
            let before = self.ids.clone();
            let seen: Vec<Seen> =
                said.iter().zip(&mut self.ids).map(|(said, ids)| Seen::of(said, ids)).collect();
            let outcome = judge(case.expect, &seen[0], &seen[1]);
            if case.expect != Expect::Same || outcome.is_err() {
                // Ids that only one side tells would shift all that follow.
                self.ids = before;
            }
            if outcome.is_err() && case.soon && Instant::now() < give_up {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            for (name, field) in &case.keep {
                for (kept, said) in self.kept.iter_mut().zip(&said) {
                    kept.insert(name.clone(), mask::field(said, field).unwrap_or_default());
                }
            }
            return outcome;
        }
    }

    async fn ask_consul(&self, case: &Case) -> Said {
        let (path, body) = case.filled(&self.kept[0]);
        send(self.reference.address, &case.method, &path, body).await
    }

    async fn ask_pontoon(&self, case: &Case) -> Said {
        let (path, body) = case.filled(&self.kept[1]);
        self.bed.ask(&case.method, &path, body).await
    }
}

/// Compares as a case demands. A difference that has gone is wrong, too: then the case's reason holds no more.
fn judge(expect: Expect, consul: &Seen, pontoon: &Seen) -> Result<(), String> {
    let is_same = consul == pontoon;
    let good = match expect {
        Expect::Same => is_same,
        Expect::OtherWords => !is_same && consul.head() == pontoon.head(),
        Expect::Other => !is_same,
    };
    let wanted = match expect {
        Expect::Same => "",
        Expect::OtherWords => "\n  (wanted: the same status, and other words)",
        Expect::Other => "\n  (wanted: another answer)",
    };
    if good { Ok(()) } else { Err(format!("  consul:  {consul}\n  pontoon: {pontoon}{wanted}")) }
}

async fn send(to: std::net::SocketAddr, method: &str, path: &str, body: Vec<u8>) -> Said {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = ::http::Request::builder().method(method).uri(path).header("host", "consul");
    let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    driving.abort();
    Said { status: head.status, headers: head.headers, body }
}
