//! Bodies: JSON and YAML in, JSON, YAML, tables and metadata out; what is refused.

use http::{Method, Request};
use serde_json::{Value, json};

use super::cluster::{Answer, Cluster, json_request, pod};
use crate::Identity;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn with_type(path: &str, content_type: &str, body: impl Into<String>) -> Request<String> {
    Request::post(path).header("content-type", content_type).body(body.into()).unwrap()
}

fn accepting(path: &str, accept: &str) -> Request<String> {
    Request::get(path).header("accept", accept).body(String::new()).unwrap()
}

#[tokio::test]
async fn yaml_goes_in_and_out() {
    let cluster = Cluster::start().await;
    let yaml = "metadata:\n  name: y\ndata:\n  k: &v 'on'\n  l: *v\n";
    let answer = cluster.send(with_type(MAPS, "application/yaml", yaml)).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["data"], json!({"k": "on", "l": "on"}));
    let answer = cluster.send(accepting(&format!("{MAPS}/y"), "application/yaml")).await;
    assert_eq!(answer.header("content-type"), "application/yaml", "{}", answer.text());
    assert!(answer.text().contains("kind: ConfigMap"), "{}", answer.text());
}

#[tokio::test]
async fn languages_that_are_not_spoken_are_refused() {
    let cluster = Cluster::start().await;
    for content_type in ["text/plain", "application/cbor", "application/xml"] {
        let (code, reason, _) = cluster.send(with_type(MAPS, content_type, "x")).await.refusal();
        assert_eq!((code, reason.as_str()), (415, "UnsupportedMediaType"));
    }
    for accept in
        ["application/vnd.kubernetes.protobuf", "text/html", "application/json;as=X;g=y;v=z"]
    {
        assert_eq!(cluster.send(accepting(PODS, accept)).await.refusal().0, 406, "{accept}");
    }
    let both = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(cluster.send(accepting(PODS, both)).await.code, 200);
    let patch =
        Request::patch(format!("{MAPS}/x")).header("content-type", "application/apply-patch+yaml");
    let (code, _, told) = cluster.send(patch.body("{}".to_owned()).unwrap()).await.refusal();
    assert_eq!(code, 415);
    assert!(told.contains("server-side apply"), "{told}");
    let schemas = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = cluster.send(accepting("/openapi/v2", schemas)).await;
    assert!(answer.header("content-type").ends_with("+protobuf"));
    assert!(answer.bytes.starts_with(b"\x0a\x032.0"));
}

#[tokio::test]
async fn bombs_and_broken_bodies_are_refused() {
    let cluster = Cluster::start().await;
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..9 {
        let before = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    let deep_json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_yaml = format!("a: {}", "[".repeat(100_000));
    for (content_type, body) in [
        ("application/yaml", bomb),
        ("application/yaml", deep_yaml),
        ("application/yaml", "a: b: c".to_owned()),
        ("application/yaml", "a: 1\n---\nb: 2\n".to_owned()),
        ("application/json", deep_json),
        ("application/json", "{".to_owned()),
        ("application/json", String::new()),
        ("application/json", "[]".to_owned()),
        ("application/json", "\"text\"".to_owned()),
        ("application/vnd.kubernetes.protobuf", "k8s".to_owned()),
    ] {
        let start: String = body.chars().take(40).collect();
        let (code, reason, _) = cluster.send(with_type(MAPS, content_type, body)).await.refusal();
        assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{start}");
    }
    let large = json!({"metadata": {"name": "x"}, "data": {"k": "v".repeat(4 << 20)}});
    let (code, reason, _) = cluster.post(MAPS, &large).await.refusal();
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn the_body_must_be_what_the_path_says() {
    let cluster = Cluster::start().await;
    let told = async |body: Value| cluster.post(MAPS, &body).await.refusal();
    for (body, wanted) in [
        (json!({"kind": "Pod", "metadata": {"name": "x"}}), "the kind in the data (Pod)"),
        (
            json!({"apiVersion": "apps/v1", "metadata": {"name": "x"}}),
            "the API version in the data (apps/v1)",
        ),
        (
            json!({"metadata": {"name": "x", "namespace": "other"}}),
            "the namespace of the provided object",
        ),
    ] {
        let (code, _, message) = told(body).await;
        assert_eq!(code, 400);
        assert!(message.contains(wanted), "{message}");
    }
    cluster.create(MAPS, json!({"metadata": {"name": "x"}})).await;
    let other =
        json_request(Method::PUT, &format!("{MAPS}/x"), &json!({"metadata": {"name": "y"}}));
    assert_eq!(cluster.send(other).await.refusal().0, 400);
}

#[tokio::test]
async fn doubled_and_unknown_fields() {
    let cluster = Cluster::start().await;
    let doubled = r#"{"metadata":{"name":"x"},"data":{"k":"1","k":"2"},"data2":1}"#;
    let send = async |validation: &str| -> Answer {
        let path = format!("{MAPS}?dryRun=All&fieldValidation={validation}");
        cluster.send(with_type(&path, "application/json", doubled)).await
    };
    let (code, _, message) = send("Strict").await.refusal();
    assert_eq!(code, 400);
    assert!(message.contains("strict decoding error: duplicate field \"data.k\""), "{message}");
    let warned = send("Warn").await;
    assert_eq!(warned.code, 201);
    let warnings: Vec<&str> =
        warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(
        warnings,
        [r#"299 - "duplicate field \"data.k\"""#, r#"299 - "unknown field \"data2\"""#]
    );
    assert!(send("Ignore").await.headers.get("warning").is_none());
    assert_eq!(send("Sometimes").await.refusal().0, 422);
}

#[tokio::test]
async fn tables_and_metadata() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("p")).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for path in [PODS.to_owned(), format!("{PODS}/p")] {
        let answer = cluster.send(accepting(&path, table)).await.json();
        assert_eq!(
            (&answer["kind"], &answer["apiVersion"]),
            (&json!("Table"), &json!("meta.k8s.io/v1"))
        );
        assert_eq!(answer["columnDefinitions"][0]["format"], "name");
        assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert!(answer["rows"][0]["object"].get("spec").is_none());
    }
    let with = async |include: &str| {
        cluster.send(accepting(&format!("{PODS}?includeObject={include}"), table)).await
    };
    assert_eq!(with("Object").await.json()["rows"][0]["object"]["kind"], "Pod");
    assert!(with("None").await.json()["rows"][0].get("object").is_none());
    assert_eq!(with("Half").await.code, 422);
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let answer = cluster.send(accepting(PODS, partial)).await.json();
    assert_eq!(answer["kind"], "PartialObjectMetadataList");
    assert_eq!(answer["items"][0]["metadata"]["name"], "p");
    assert!(answer["items"][0].get("spec").is_none());
}

#[tokio::test]
async fn nothing_is_sniffed_or_cached() {
    let cluster = Cluster::start().await;
    let answer = cluster.send_as(Identity::admin(), accepting(PODS, "*/*")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-cache, private");
    let index = cluster.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(cluster.get(url).await.header("cache-control").contains("immutable"));
    let stale = cluster.get("/openapi/v3/apis/apps/v1?hash=0").await;
    assert!(!stale.header("cache-control").contains("immutable"));
}

#[tokio::test]
async fn what_is_taken_and_not_done_is_warned_of() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services";
    let told = |answer: &Answer| -> Vec<String> {
        let all = answer.headers.get_all("warning").iter();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let mut service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}});
    assert!(told(&cluster.post(path, &service).await).is_empty());
    let near = json!({"spec": {"trafficDistribution": "PreferClose"}});
    let patch = Request::patch(format!("{path}/s"))
        .header("content-type", "application/merge-patch+json")
        .body(near.to_string())
        .unwrap();
    let wanted =
        "299 - \"spec.trafficDistribution: connections go to all endpoints in turn, near or far\"";
    assert_eq!(told(&cluster.send(patch).await), [wanted]);
    service["metadata"]["name"] = "t".into();
    service["spec"]["trafficDistribution"] = "PreferClose".into();
    let made = cluster.post(path, &service).await;
    assert_eq!((made.code, told(&made)), (201, vec![wanted.to_owned()]));
    service["spec"]["externalIPs"] = json!(["192.0.2.1"]);
    let refused = cluster.post(path, &service).await.refusal();
    assert_eq!(refused.0, 422);
    assert!(refused.2.contains("spec.externalIPs: Forbidden"), "{}", refused.2);
}
