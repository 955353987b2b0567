//! Watches as streams of JSON lines.

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

use super::cluster::{Cluster, pod};
use crate::{Body, Identity};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Lines {
    body: Body,
    read: Vec<u8>,
}

impl Lines {
    async fn open(cluster: &Cluster, path: &str, accept: &str) -> Lines {
        let request = Request::get(path).header("accept", accept);
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let response: Response<Body> = cluster.server.handle(Identity::admin(), request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        Lines { body: response.into_body(), read: Vec::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.read.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.unwrap();
        let told = (event["type"].as_str(), event["object"]["metadata"]["name"].as_str());
        assert_eq!(told, (Some(kind), Some(name)), "{event}");
        event["object"].clone()
    }
}

#[tokio::test]
async fn from_a_list_on_nothing_is_missed() {
    let cluster = Cluster::start().await;
    let list = cluster.get(MAPS).await.json();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let body =
        |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {"l": label}}});
    cluster.create(MAPS, body("a", "x")).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let mut all = Lines::open(&cluster, &path, "application/json").await;
    let mut some =
        Lines::open(&cluster, &format!("{path}&labelSelector=l%3Dx"), "application/json").await;
    let added = all.expect("ADDED", "a").await;
    assert_eq!((&added["kind"], &added["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    some.expect("ADDED", "a").await;
    let patch =
        Request::patch(format!("{MAPS}/a")).header("content-type", "application/merge-patch+json");
    let patch = patch.body(json!({"metadata": {"labels": {"l": "y"}}}).to_string()).unwrap();
    let patched = cluster.send(patch).await.json();
    let modified = all.expect("MODIFIED", "a").await;
    assert_eq!(modified["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
    some.expect("DELETED", "a").await;
    cluster.send(Request::delete(format!("{MAPS}/a")).body(String::new()).unwrap()).await;
    all.expect("DELETED", "a").await;
}

#[tokio::test]
async fn the_present_first_then_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("p")).await;
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&cluster, path, "application/json").await;
    lines.expect("ADDED", "p").await;
    let mark = lines.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout() {
    let cluster = Cluster::start().await;
    let mut lines = Lines::open(
        &cluster,
        &format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=1"),
        "*/*",
    )
    .await;
    while let Some(event) = lines.next().await {
        assert_eq!(event["type"], "ADDED");
    }
}

#[tokio::test]
async fn history_that_is_gone_is_410() {
    let cluster = Cluster::start().await;
    for n in 0..5 {
        cluster.create(MAPS, json!({"metadata": {"name": format!("m{n}")}})).await;
    }
    let store = cluster.objects.store();
    store.compact(store.revision()).await.unwrap();
    let path = format!("{MAPS}?watch=true&resourceVersion=1");
    let answer = cluster.get(&format!("{path}&timeoutSeconds=30")).await;
    if answer.code == 200 {
        let error = answer.json();
        assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    } else {
        let (code, reason, _) = answer.refusal();
        assert_eq!((code, reason.as_str()), (410, "Expired"));
    }
    let exact = cluster.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.refusal().0, 410);
}

#[tokio::test]
async fn tables_tell_their_columns_once() {
    let cluster = Cluster::start().await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open(&cluster, &format!("{PODS}?watch=true"), table).await;
    cluster.create(PODS, pod("a")).await;
    cluster.create(PODS, pod("b")).await;
    let first = lines.next().await.unwrap()["object"].clone();
    assert_eq!(first["kind"], "Table");
    assert_eq!(first["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["rows"][0]["cells"][0], "a");
    let second = lines.next().await.unwrap()["object"].clone();
    assert_eq!(second["columnDefinitions"], json!([]));
    assert_eq!(second["rows"][0]["object"]["metadata"]["name"], "b");
}
