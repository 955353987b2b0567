//! Reading and writing objects: lists in parts, selectors, versions, subresources, deletion.

use http::{Method, Request};
use serde_json::{Value, json};

use super::cluster::{Cluster, json_request, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn patch(path: &str, content_type: &str, body: &Value) -> Request<String> {
    let request = Request::patch(path).header("content-type", content_type);
    request.body(body.to_string()).unwrap()
}

#[tokio::test]
async fn lists_come_in_parts_and_by_selector() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        let body = json!({"metadata": {"name": name, "labels": {"l": name}}});
        cluster.create(MAPS, body).await;
    }
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!((&first["kind"], &first["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = crate::path::percent_encode(first["metadata"]["continue"].as_str().unwrap());
    let rest = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(names(&rest), ["c"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"].get("continue").is_none());
    let chosen = cluster.get(&format!("{MAPS}?labelSelector=l+in+(a,c)")).await.json();
    assert_eq!(names(&chosen), ["a", "c"]);
    let chosen = cluster.get(&format!("{MAPS}?fieldSelector=metadata.name!%3Db")).await.json();
    assert_eq!(names(&chosen), ["a", "c"]);
    assert_eq!(cluster.get(&format!("{MAPS}?continue=nonsense")).await.refusal().0, 400);
    assert_eq!(
        cluster.get("/api/v1/configmaps?limit=1").await.json()["items"][0]["kind"],
        "ConfigMap"
    );
}

#[tokio::test]
async fn writes_are_optimistic_and_keep_what_they_do_not_know() {
    let cluster = Cluster::start().await;
    let made = cluster
        .create(MAPS, json!({"metadata": {"name": "m"}, "data": {"k": "1"}, "future": {"x": [1]}}))
        .await;
    let path = format!("{MAPS}/m");
    let mut changed = made.clone();
    changed["data"]["k"] = "2".into();
    let answer = cluster.send(json_request(Method::PUT, &path, &changed)).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(answer.json()["future"], json!({"x": [1]}));
    let (code, reason, message) =
        cluster.send(json_request(Method::PUT, &path, &changed)).await.refusal();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("the object has been modified"), "{message}");
    let (code, reason, _) = cluster.post(MAPS, &json!({"metadata": {"name": "m"}})).await.refusal();
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
    let dry = json_request(
        Method::PUT,
        &format!("{path}?dryRun=All"),
        &json!({"metadata": {"name": "m"}, "data": {"k": "3"}}),
    );
    assert_eq!(cluster.send(dry).await.json()["data"]["k"], "3");
    assert_eq!(cluster.get(&path).await.json()["data"]["k"], "2");
    let generated = cluster.create(MAPS, json!({"metadata": {"generateName": "g-"}})).await;
    assert!(generated["metadata"]["name"].as_str().unwrap().starts_with("g-"));
}

#[tokio::test]
async fn patches_of_three_kinds() {
    let cluster = Cluster::start().await;
    cluster.create(MAPS, json!({"metadata": {"name": "m"}, "data": {"k": "1", "l": "1"}})).await;
    let path = format!("{MAPS}/m");
    for (content_type, body, wanted) in [
        ("application/merge-patch+json", json!({"data": {"l": null}}), json!({"k": "1"})),
        (
            "application/strategic-merge-patch+json",
            json!({"data": {"$patch": "replace", "n": "1"}}),
            json!({"n": "1"}),
        ),
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/data/o", "value": "2"}]),
            json!({"n": "1", "o": "2"}),
        ),
    ] {
        let answer = cluster.send(patch(&path, content_type, &body)).await;
        assert_eq!(answer.code, 200, "{}", answer.text());
        assert_eq!(answer.json()["data"], wanted);
    }
    let many = vec![json!({"op": "test", "path": "/kind", "value": "ConfigMap"}); 10_001];
    let refused = cluster.send(patch(&path, "application/json-patch+json", &json!(many))).await;
    assert_eq!(refused.refusal().0, 413);
    let gone =
        cluster.send(patch(&format!("{MAPS}/x"), "application/merge-patch+json", &json!({}))).await;
    assert_eq!(gone.refusal().0, 404);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("p")).await;
    let status = patch(
        &format!("{PODS}/p/status"),
        "application/merge-patch+json",
        &json!({"status": {"phase": "Running"}, "metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}}),
    );
    let now = cluster.send(status).await.json();
    assert_eq!(now["status"]["phase"], "Running");
    assert!(now["spec"].get("nodeName").is_none());
    let spec = patch(
        &format!("{PODS}/p"),
        "application/merge-patch+json",
        &json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"x": "z"}}}),
    );
    let now = cluster.send(spec).await.json();
    assert_eq!(
        (&now["status"]["phase"], &now["metadata"]["labels"]["x"]),
        (&json!("Running"), &json!("z"))
    );
    assert_eq!(cluster.get(&format!("{PODS}/p/status")).await.json()["kind"], "Pod");
}

#[tokio::test]
async fn scale_binding_and_eviction() {
    let cluster = Cluster::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let body = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    cluster.create("/apis/apps/v1/namespaces/default/deployments", body).await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d/scale";
    let mut scale = cluster.get(path).await.json();
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!("autoscaling/v1"), &json!(1))
    );
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = 3.into();
    let now = cluster.send(json_request(Method::PUT, path, &scale)).await.json();
    assert_eq!((&now["kind"], &now["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let refused = cluster.send(json_request(Method::PUT, path, &json!({"kind": "Pod"}))).await;
    assert_eq!(refused.refusal().0, 400);
    let now = cluster
        .send(patch(path, "application/merge-patch+json", &json!({"spec": {"replicas": 0}})))
        .await
        .json();
    assert_eq!(now["spec"]["replicas"], 0);

    cluster.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    cluster.create(PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    cluster.create(&format!("{PODS}/p/binding"), binding.clone()).await;
    assert_eq!(cluster.get(&format!("{PODS}/p")).await.json()["spec"]["nodeName"], "n1");
    assert_eq!(cluster.post(&format!("{PODS}/p/binding"), &binding).await.refusal().0, 409);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let told = cluster.create(&format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(told["status"], "Success");
    let ending = cluster.get(&format!("{PODS}/p")).await.json();
    assert!(ending["metadata"]["deletionTimestamp"].is_string(), "{ending}");
    let mismatch = json!({"metadata": {"name": "q"}});
    assert_eq!(cluster.post(&format!("{PODS}/p/eviction"), &mismatch).await.refusal().0, 400);
}

#[tokio::test]
async fn deletion_with_conditions_and_of_many() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.create(MAPS, json!({"metadata": {"name": name, "labels": {"l": name}}})).await;
    }
    let delete = |path: &str, body: Value| json_request(Method::DELETE, path, &body);
    let wrong = delete(&format!("{MAPS}/a"), json!({"preconditions": {"uid": "other"}}));
    assert_eq!(cluster.send(wrong).await.refusal().0, 409);
    let gone =
        cluster.send(Request::delete(format!("{MAPS}/a")).body(String::new()).unwrap()).await;
    assert_eq!(gone.code, 200);
    let told = gone.json();
    assert_eq!(
        (&told["kind"], &told["status"], &told["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("a"))
    );
    let some = delete(&format!("{MAPS}?labelSelector=l%3Db"), json!({"kind": "DeleteOptions"}));
    assert_eq!(names(&cluster.send(some).await.json()), ["b"]);
    let left = cluster.get(MAPS).await.json();
    assert_eq!(names(&left), ["c"]);
    let finalized = json!({"metadata": {"name": "f", "finalizers": ["x.io/wait"]}});
    cluster.create(MAPS, finalized).await;
    let waiting = cluster.send(delete(&format!("{MAPS}/f"), json!({}))).await.json();
    assert_eq!(waiting["kind"], "ConfigMap");
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
}
