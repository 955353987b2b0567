//! Beside the real Consul: the same registrations in both, and `dig` asks both the same. Runs where both programs are;
//! Consul on the path, or unpacked below `$DEB11`.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{PATIENCE, bed, serve};

/// One registration a line, for both.
const REGISTRATIONS: &str = include_str!("registrations.jsonl");
/// One prepared query a line.
const QUERIES: &str = include_str!("queries.jsonl");
/// One question a line, in dig's words. `#` begins a comment. Before a question `=` has the answers counted alone, where
/// chance chooses them; `!` says that the two differ, as `docs/consul.md` tells.
const QUESTIONS: &str = include_str!("questions.txt");
/// The address of the first node here, which is Consul's own there.
const OWN_ADDRESSES: [&str; 2] = ["10.0.0.1", "127.0.0.1"];

/// Consul as a process, gone when this is.
struct Consul {
    http: SocketAddr,
    dns: SocketAddr,
    _process: Child,
    _dir: TempDir,
}

/// A port of loopback that nobody has, by both transports.
fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Consul {
    async fn start(program: &Path) -> Consul {
        let dir = tempfile::tempdir().unwrap();
        let [dns, http, lan, wan, server] = [(); 5].map(|()| free_port());
        let config = json!({
            "datacenter": "dc1", "node_name": "one", "bind_addr": OWN_ADDRESSES[1],
            "server": true, "bootstrap_expect": 1, "data_dir": dir.path().join("data"),
            "ports": {"dns": dns, "http": http, "serf_lan": lan, "serf_wan": wan, "server": server},
            "disable_update_check": true,
        });
        let file = dir.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new(program)
            .args(["agent".as_ref(), "-config-file".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let [http, dns] = [http, dns].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let consul = Consul { http, dns, _process: process, _dir: dir };
        let mut tries = tokio::time::interval(Duration::from_millis(100));
        let leading = async {
            while !consul.send("GET", "/v1/catalog/nodes", "").await.contains("\"one\"") {
                tries.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, leading).await.expect("consul leads");
        consul
    }

    /// What it says to a request; nothing while it does not listen.
    async fn send(&self, method: &str, path: &str, body: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.http).await else { return String::new() };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    async fn put(&self, method: &str, path: &str, body: &str) {
        let said = self.send(method, path, body).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{path} {body}: {said}");
    }
}

/// What dig shows of an answer, without its order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    status: String,
    flags: String,
    /// Section and record.
    records: BTreeSet<String>,
    /// Answers, with those that are there twice.
    answers: usize,
}

async fn dig(server: SocketAddr, question: &str) -> Shown {
    let port = server.port().to_string();
    let out = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+time=10", "+tries=1", "+nostats"])
        .args(question.split_whitespace())
        .output()
        .await
        .unwrap();
    read(&String::from_utf8_lossy(&out.stdout))
}

fn read(text: &str) -> Shown {
    let mut shown = Shown::default();
    let mut section = "";
    let between = |line: &str, from: &str| {
        let (_, rest) = line.split_once(from)?;
        Some(rest.split([',', ';']).next().unwrap_or("").trim().to_owned())
    };
    for line in text.lines() {
        if let Some(status) = between(line, "status: ") {
            shown.status = status;
        } else if let Some(flags) = line.starts_with(";; flags:").then(|| between(line, "flags: "))
        {
            shown.flags = flags.unwrap_or_default();
        } else if let Some(name) =
            line.strip_prefix(";; ").and_then(|l| l.strip_suffix(" SECTION:"))
        {
            section = name;
        } else if !line.starts_with(';') && !line.is_empty() {
            let mut words: Vec<String> = line.split_whitespace().map(str::to_lowercase).collect();
            if words.get(3).is_some_and(|kind| kind == "soa") {
                words[6] = "serial".to_owned();
            }
            for word in &mut words {
                if word == OWN_ADDRESSES[1] {
                    word.replace_range(.., OWN_ADDRESSES[0]);
                }
            }
            shown.answers += usize::from(section == "ANSWER");
            shown.records.insert(format!("{section}: {}", words.join(" ")));
        }
    }
    shown
}

/// What a command says first; none if there is no such command.
async fn first_line(program: &Path, argument: &str) -> Option<String> {
    let done = Command::new(program).arg(argument).output().await.ok()?;
    String::from_utf8_lossy(&done.stdout).lines().next().map(str::to_owned)
}

/// The real program, if it is here and dig is; a word where one is not. Never a reason to fail: no present system has it.
async fn program() -> Option<PathBuf> {
    let unpacked = std::env::var_os("DEB11").map_or_else(|| "/tmp/deb11".into(), PathBuf::from);
    let mut found = None;
    for path in ["consul".into(), unpacked.join("root/usr/bin/consul")] {
        if first_line(&path, "version").await.is_some_and(|said| said.contains("v1.8.7")) {
            found = Some(path);
        }
    }
    let missing = match (&found, Command::new("dig").arg("-v").output().await) {
        (None, _) => "consul 1.8.7 is not here (Debian 11's package, unpacked below $DEB11)",
        (_, Err(_)) => "dig is not installed (Debian's package bind9-dnsutils)",
        _ => return found,
    };
    let words = format!("skipped: DNS is not compared with Consul's: {missing}\n");
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    None
}

#[tokio::test]
async fn dig_sees_what_it_sees_of_consul() {
    let Some(program) = program().await else { return };
    let consul = Consul::start(&program).await;
    let bed = bed().await;
    let served = serve(&bed.server).await;
    for body in REGISTRATIONS.lines() {
        consul.put("PUT", "/v1/catalog/register", body).await;
        assert!(bed.put("/v1/catalog/register", body).await, "{body}");
    }
    for body in QUERIES.lines() {
        consul.put("POST", "/v1/query", body).await;
        assert_eq!(bed.ask("POST", "/v1/query", body).await.status, 200, "{body}");
    }
    served.settle(&bed).await;
    let mut wrong = Vec::new();
    for line in QUESTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, question) = match line.split_at(1) {
            (mark @ ("=" | "!"), question) => (mark, question),
            _ => ("", line),
        };
        let (theirs, ours) = tokio::join!(dig(consul.dns, question), dig(served.address, question));
        let are_same = match mark {
            "=" => (&theirs.status, theirs.answers) == (&ours.status, ours.answers),
            _ => {
                let Shown { answers: _, ref records, ref status, ref flags } = theirs;
                (records, status, flags) == (&ours.records, &ours.status, &ours.flags)
            }
        };
        if are_same == (mark == "!") {
            wrong.push(format!("{line}\n  Consul: {theirs:?}\n  here:   {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} answers are not as expected:\n{}", wrong.len(), wrong.join("\n"));
}
