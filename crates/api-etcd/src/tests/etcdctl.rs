//! Debian's `etcdctl`: every verb, as its user sees it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::{Bed, bed, lack};

/// The longest that a client may take on a loaded computer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member and the client, or `None`, with a word why, where there is no client.
async fn etcdctl() -> Option<Bed> {
    if Command::new("etcdctl").arg("version").output().await.is_err() {
        lack("etcdctl is not installed (Debian's package etcd-client)");
        return None;
    }
    Some(bed().await)
}

/// What the client printed, and whether it was content.
struct Done {
    ok: bool,
    out: String,
    err: String,
}

impl Bed {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(self.address.to_string())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run_with(&self, words: &[&str], input: &str) -> Done {
        let mut child = self.command(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let done = done.unwrap_or_else(|_| panic!("etcdctl {words:?} does not end")).unwrap();
        Done {
            ok: done.status.success(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }

    /// What a command that succeeds prints.
    async fn says(&self, words: &[&str]) -> String {
        let done = self.run_with(words, "").await;
        assert!(done.ok, "etcdctl {words:?}: {}{}", done.out, done.err);
        done.out
    }

    /// What a command that fails complains of.
    async fn refuses(&self, words: &[&str]) -> String {
        let done = self.run_with(words, "").await;
        assert!(!done.ok, "etcdctl {words:?} went well: {}", done.out);
        done.err
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn put_and_get_with_every_option() {
    let Some(bed) = etcdctl().await else { return };
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("d", "0")] {
        assert_eq!(bed.says(&["put", key, value]).await, "OK\n");
    }
    assert_eq!(bed.says(&["get", "a"]).await, "a\n3\n");
    assert_eq!(bed.says(&["get", "nothing"]).await, "");
    assert_eq!(bed.says(&["get", "a", "c", "--keys-only"]).await, "a\n\nb\n\n");
    assert_eq!(bed.says(&["get", "--from-key", "c", "--print-value-only"]).await, "2\n0\n");
    assert_eq!(bed.says(&["get", "", "--prefix", "--limit", "1"]).await, "a\n3\n");
    let sorted = ["get", "", "--prefix", "--print-value-only", "--sort-by", "VALUE"];
    assert_eq!(bed.says(&sorted).await, "0\n1\n2\n3\n");
    let descending = ["get", "", "--prefix", "--keys-only", "--order", "DESCEND", "--limit", "2"];
    assert_eq!(bed.says(&descending).await, "d\n\nc\n\n");
    bed.says(&["put", "a", "new"]).await;
    assert_eq!(bed.says(&["get", "a", "--rev", "2"]).await, "a\n3\n");
    assert_eq!(bed.says(&["get", "a", "--consistency", "s"]).await, "a\nnew\n");
    assert_eq!(bed.says(&["put", "a", "newer", "--prev-kv"]).await, "OK\na\nnew\n");
    assert_eq!(bed.says(&["put", "a", "--ignore-value"]).await, "OK\n");
    assert_eq!(bed.says(&["get", "a"]).await, "a\nnewer\n");
    assert!(
        bed.refuses(&["put", "none", "--ignore-value"]).await.contains("etcdserver: key not found")
    );
    let fields = bed.says(&["get", "a", "-w", "fields"]).await;
    for line in
        ["\"CreateRevision\" : 2", "\"ModRevision\" : 8", "\"Version\" : 4", "\"Count\" : 1"]
    {
        assert!(fields.contains(line), "{line} in {fields}");
    }
    assert!(bed.refuses(&["get", "a", "--rev", "99"]).await.contains("future revision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes() {
    let Some(bed) = etcdctl().await else { return };
    for key in ["a", "b", "c", "x"] {
        bed.says(&["put", key, key]).await;
    }
    assert_eq!(bed.says(&["del", "a"]).await, "1\n");
    assert_eq!(bed.says(&["del", "a"]).await, "0\n");
    assert_eq!(bed.says(&["del", "b", "x", "--prev-kv"]).await, "2\nb\nb\nc\nc\n");
    assert_eq!(bed.says(&["del", "", "--prefix"]).await, "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_keys_are_not_there() {
    let Some(bed) = etcdctl().await else { return };
    for key in ["/pontoon/cluster", "/a", "/z"] {
        bed.store.put(key, "secret").await.unwrap();
    }
    assert_eq!(bed.says(&["get", "", "--prefix", "--keys-only"]).await, "/a\n\n/z\n\n");
    assert_eq!(bed.says(&["get", "/pontoon/cluster"]).await, "");
    assert_eq!(bed.says(&["get", "/pontoon/", "--prefix"]).await, "");
    let denied = "etcdserver: permission denied";
    assert!(bed.refuses(&["put", "/pontoon/cluster", "mine"]).await.contains(denied));
    let guess = "val(\"/pontoon/cluster\") = \"s\"\n\nget x\n\nget y\n\n";
    let done = bed.run_with(&["txn"], guess).await;
    assert!(!done.ok && done.err.contains(denied), "{}{}", done.out, done.err);
    assert_eq!(bed.says(&["del", "", "--prefix"]).await, "2\n");
    let key = pontoon_store::Range::key("/pontoon/cluster");
    let left = bed.store.range(key, pontoon_store::Read::Local).await.unwrap();
    assert_eq!(left.count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions() {
    let Some(bed) = etcdctl().await else { return };
    bed.says(&["put", "k", "1"]).await;
    let txn = "val(\"k\") = \"1\"\nmod(\"k\") > \"0\"\n\nput k 2\nget k\n\nput k 9\n\n";
    let done = bed.run_with(&["txn"], txn).await;
    assert!(done.ok, "{}", done.err);
    assert_eq!(done.out, "SUCCESS\n\nOK\n\nk\n2\n");
    let done = bed.run_with(&["txn"], txn).await;
    assert_eq!(done.out, "FAILURE\n\nOK\n");
    let twice = "\n\nput k 1\nput k 2\n\n\n";
    let done = bed.run_with(&["txn"], twice).await;
    assert!(done.err.contains("etcdserver: duplicate key given in txn request"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_their_keys() {
    let Some(bed) = etcdctl().await else { return };
    let granted = bed.says(&["lease", "grant", "600"]).await;
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert!(granted.contains("granted with TTL(600s)"), "{granted}");
    bed.says(&["put", "k", "v", "--lease", &id]).await;
    let left = bed.says(&["lease", "timetolive", &id, "--keys"]).await;
    assert!(
        left.contains("granted with TTL(600s)") && left.contains("attached keys([k])"),
        "{left}"
    );
    assert!(bed.says(&["lease", "list"]).await.contains(&id));
    let kept = bed.says(&["lease", "keep-alive", "--once", &id]).await;
    assert!(kept.contains("keepalived with TTL(600)"), "{kept}");
    assert_eq!(bed.says(&["put", "k", "w", "--ignore-lease"]).await, "OK\n");
    assert!(bed.says(&["lease", "revoke", &id]).await.contains("revoked"));
    assert_eq!(bed.says(&["get", "k"]).await, "");
    assert!(bed.says(&["lease", "timetolive", &id]).await.contains("already expired"));
    let missing = "etcdserver: requested lease not found";
    assert!(bed.refuses(&["lease", "revoke", &id]).await.contains(missing));
    assert!(bed.refuses(&["put", "k", "v", "--lease", "123"]).await.contains(missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    let Some(bed) = etcdctl().await else { return };
    for value in ["1", "2"] {
        bed.says(&["put", "w/a", value]).await;
    }
    bed.says(&["del", "w/a"]).await;
    let words = ["watch", "w/", "--prefix", "--rev", "2", "--prev-kv"];
    let mut child = bed.command(&words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wanted = "PUT\nw/a\n1\nPUT\nw/a\n1\nw/a\n2\nDELETE\nw/a\n2\nw/a\n\nPUT\nw/b\n3\n";
    bed.says(&["put", "other", "x"]).await;
    bed.says(&["put", "w/b", "3"]).await;
    let mut seen = String::new();
    while seen.len() < wanted.len() {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect(&seen);
        seen.push_str(&line.unwrap().expect(&seen));
        seen.push('\n');
    }
    assert_eq!(seen, wanted);
    bed.says(&["compact", "5"]).await;
    let done = bed.run_with(&["watch", "w/", "--prefix", "--rev", "2"], "").await;
    assert!(done.err.contains("required revision has been compacted"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_elections() {
    let Some(bed) = etcdctl().await else { return };
    assert_eq!(bed.says(&["lock", "l", "echo", "locked"]).await, "locked\n");
    let mut child = bed.command(&["elect", "e", "me"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(first.starts_with("e/"), "{first}");
    let mut listening = bed.command(&["elect", "-l", "e"]).spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "me");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_and_its_members() {
    let Some(bed) = etcdctl().await else { return };
    let members = bed.says(&["member", "list"]).await;
    let url = format!("http://{}", bed.address);
    assert_eq!(members, format!("1, started, one, https://127.0.0.1:2377, {url}, false\n"));
    let refused =
        bed.refuses(&["member", "add", "two", "--peer-urls", "https://192.0.2.9:2380"]).await;
    assert!(refused.contains("stays as it is"), "{refused}");
    assert!(bed.refuses(&["member", "remove", "1"]).await.contains("not enough started members"));
    assert!(bed.refuses(&["member", "promote", "1"]).await.contains("can only promote a learner"));
    bed.says(&["endpoint", "health"]).await;
    bed.says(&["endpoint", "health", "--cluster"]).await;
    let status = bed.says(&["endpoint", "status"]).await;
    assert!(status.contains(", 1, 3.5.") && status.contains(", true, false,"), "{status}");
    let refused = bed.refuses(&["move-leader", "2"]).await;
    assert!(refused.contains("bad leader transferee"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance() {
    let Some(bed) = etcdctl().await else { return };
    for value in ["1", "2", "3"] {
        bed.says(&["put", "k", value]).await;
    }
    let hash = bed.says(&["endpoint", "hashkv"]).await;
    bed.says(&["put", "k", "4"]).await;
    assert_ne!(hash, bed.says(&["endpoint", "hashkv"]).await);
    assert_eq!(hash, bed.says(&["endpoint", "hashkv", "--rev", "4"]).await);
    assert_eq!(bed.says(&["compact", "4", "--physical"]).await, "compacted revision 4\n");
    assert!(bed.refuses(&["compact", "4"]).await.contains("has been compacted"));
    assert!(bed.refuses(&["compact", "99"]).await.contains("future revision"));
    assert!(bed.refuses(&["get", "k", "--rev", "3"]).await.contains("has been compacted"));
    assert!(bed.says(&["defrag"]).await.contains("Finished defragmenting"));
    assert_eq!(bed.says(&["alarm", "list"]).await, "");
    assert_eq!(bed.says(&["alarm", "disarm"]).await, "");
    let path = bed.dir.path().join("saved");
    bed.says(&["snapshot", "save", path.to_str().unwrap()]).await;
    assert_eq!(std::fs::metadata(&path).unwrap().len() % 512, 32, "a sum follows whole sectors");
    let refused = bed.refuses(&["user", "list"]).await;
    assert!(refused.contains("users and roles are not served"), "{refused}");
    assert_eq!(bed.says(&["auth", "disable"]).await, "Authentication Disabled\n");
}
