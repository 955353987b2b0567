//! Methods, paths, health, and upgrades that must not be taken for what they are not.

use http::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cluster::{Cluster, json_request, pod};
use super::fake_node::websocket_key;
use crate::Identity;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn request(method: Method, path: &str) -> Request<String> {
    Request::builder().method(method).uri(path).body(String::new()).unwrap()
}

#[tokio::test]
async fn paths_that_lead_nowhere_and_methods_that_are_not_served() {
    let cluster = Cluster::start().await;
    for path in [
        "/",
        "/metrics",
        "/api/v1/nosuch",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/nodes/n",
        "/api/v1/pods/p",
        "/apis/nosuch.io/v1",
        "/api/v1/namespaces/default/pods/p/nosuch",
        "/api/v1/watch/pods",
    ] {
        let (code, reason, _) = cluster.get(path).await.refusal();
        assert_eq!((code, reason.as_str()), (404, "NotFound"), "{path}");
    }
    for (method, path) in [
        (Method::POST, "/api/v1/pods"),
        (Method::DELETE, "/api/v1/pods"),
        (Method::POST, "/api/v1/namespaces/default/pods/p"),
        (Method::PUT, PODS),
        (Method::DELETE, "/api/v1/namespaces"),
        (Method::POST, "/version"),
        (Method::GET, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        (Method::TRACE, PODS),
    ] {
        let answer = cluster.send(request(method.clone(), path)).await;
        assert_eq!(answer.refusal().0, 405, "{method} {path}");
    }
    let answer = cluster.send(request(Method::PUT, PODS)).await;
    assert_eq!(answer.header("allow"), "GET, HEAD, POST, DELETE, OPTIONS");
    let answer = cluster.send(request(Method::OPTIONS, &format!("{PODS}/p"))).await;
    assert_eq!(
        (answer.code, answer.header("allow")),
        (204, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
    );
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let cluster = Cluster::start().await;
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    let head = format!("HEAD {PODS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("content-length: "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn health_is_open_and_nothing_else() {
    let cluster = Cluster::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = cluster.send_as(Identity::anonymous(), request(Method::GET, path)).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, "ok"));
    }
    for path in ["/version", "/api", PODS, "/openapi/v3", "/nosuch"] {
        let answer = cluster.send_as(Identity::anonymous(), request(Method::GET, path)).await;
        assert_eq!(answer.refusal(), (401, "Unauthorized".to_owned(), "Unauthorized".to_owned()));
    }
}

async fn bound_pod(cluster: &Cluster, name: &str, node: &str) {
    cluster.create("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
    cluster.create(PODS, pod(name)).await;
    cluster.objects.bind("default", name, None, node).await.unwrap();
}

/// Sends a request with an upgrade on a connection of its own, and gives the head of the answer.
async fn upgrade(cluster: &Cluster, path: &str, protocol: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {}\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
        websocket_key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(answer).unwrap(), stream)
}

#[tokio::test]
async fn a_failed_upgrade_leaves_no_connection_to_the_node() {
    let cluster = Cluster::start().await;
    bound_pod(&cluster, "p", "n3").await;
    let exec = format!("{PODS}/p/exec?command=sh&stdout=true");
    let (head, mut stream) = upgrade(&cluster, &exec, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut open = cluster.nodes.open.subscribe();
    open.wait_for(|count| *count == 0).await.unwrap();
    // The next request on the client's connection is a request to the API, not to the node.
    let smuggled =
        "GET /logs/kube-system/secret/main HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 404 "), "{rest}");
    let asked = cluster.nodes.asked.lock().unwrap().clone();
    assert_eq!(asked, ["/exec/default/p/main?command=sh&stdout=true"]);
}

#[tokio::test]
async fn only_websockets_are_upgraded() {
    let cluster = Cluster::start().await;
    bound_pod(&cluster, "p", "n1").await;
    let exec = format!("{PODS}/p/exec?command=sh&stdout=true");
    for protocol in ["SPDY/3.1", "h2c", "anything"] {
        let (head, _) = upgrade(&cluster, &exec, protocol).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{protocol}: {head}");
    }
    assert_eq!(
        cluster.get(&exec).await.refusal(),
        (400, "BadRequest".to_owned(), "Upgrade request required".to_owned())
    );
    for bad in
        ["exec?stdout=true", "exec?command=sh", "exec?command=sh&stdout=true&container=nosuch"]
    {
        let (head, _) = upgrade(&cluster, &format!("{PODS}/p/{bad}"), "websocket").await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{bad}: {head}");
    }
    assert!(cluster.nodes.asked.lock().unwrap().is_empty());
    let (head, mut stream) = upgrade(&cluster, &exec, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut first = [0; 3];
    stream.read_exact(&mut first).await.unwrap();
    // A final binary frame whose first byte is the channel of stdout.
    assert_eq!((first[0], first[2]), (0x82, 1));
}

#[tokio::test]
async fn what_nodes_do_not_offer_is_refused_in_words() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("p")).await;
    for bad in ["log?tailLines=-1", "log?container=nosuch", "log?sinceTime=x"] {
        let code = cluster.get(&format!("{PODS}/p/{bad}")).await.refusal().0;
        assert!(code == 400 || code == 422, "{bad}: {code}");
    }
    let refused =
        cluster.send(json_request(Method::POST, &format!("{PODS}/p/attach"), &json!({}))).await;
    let (code, _, message) = refused.refusal();
    assert!(code == 501 || code == 404, "{code} {message}");
}
