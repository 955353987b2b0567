//! Tests of objects on a real store of one member.

mod deleting;
mod listing;
mod services;
mod watching;
mod writing;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_model::object::Object;
use pontoon_model::resource::{PODS, Resource};
use pontoon_model::status::Status;
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::objects::Objects;
use crate::options::{DeleteOptions, Sub, WriteOptions};

/// A cluster of one has nobody to connect to.
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::new(io::ErrorKind::NotFound, to.name.clone()))
    }
}

/// Objects on a store of their own, with the built-in namespaces.
struct Bed {
    objects: Objects,
    _dir: TempDir,
}

impl std::ops::Deref for Bed {
    type Target = Objects;

    fn deref(&self) -> &Objects {
        &self.objects
    }
}

async fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::new(dir.path(), 1), Arc::new(Nobody)).await.unwrap();
    let address = "127.0.0.1:2377".parse().unwrap();
    store.bootstrap(Member { id: 1, name: "one".to_owned(), address }).await.unwrap();
    let objects = Objects::new(store);
    objects.bootstrap().await.unwrap();
    Bed { objects, _dir: dir }
}

impl Bed {
    async fn make(&self, resource: &'static Resource, body: Value) -> Result<Object, Status> {
        let namespace = resource.namespaced.then_some("default");
        self.create(resource, namespace, body, &WriteOptions::default()).await
    }

    async fn put(
        &self,
        resource: &'static Resource,
        name: &str,
        body: Value,
        sub: Sub,
    ) -> Result<Object, Status> {
        let namespace = resource.namespaced.then_some("default");
        self.update(resource, namespace, name, body, sub, &WriteOptions::default()).await
    }

    async fn remove(
        &self,
        resource: &'static Resource,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Status> {
        let namespace = resource.namespaced.then_some("default");
        self.delete(resource, namespace, name, options).await
    }

    async fn value(&self, resource: &'static Resource, name: &str) -> Value {
        let namespace = resource.namespaced.then_some("default");
        self.get(resource, namespace, name).await.unwrap().value().unwrap()
    }

    async fn exists(&self, resource: &'static Resource, name: &str) -> bool {
        let namespace = resource.namespaced.then_some("default");
        match self.get(resource, namespace, name).await {
            Ok(_) => true,
            Err(status) => {
                assert!(status.is_not_found(), "{status:?}");
                false
            }
        }
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}

#[track_caller]
fn refused(result: Result<Object, Status>, code: u16, words: &str) {
    let status = result.map(|o| o.value().unwrap()).expect_err("a refusal");
    assert_eq!(status.code, code, "{status:?}");
    assert!(status.message.contains(words), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_makes_the_namespaces_and_can_be_repeated() {
    let bed = bed().await;
    bed.bootstrap().await.unwrap();
    let namespaces = bed
        .list(pontoon_model::resource::NAMESPACES, None, &crate::ListOptions::default())
        .await
        .unwrap();
    let names: Vec<&str> = namespaces.items.iter().map(|n| n.meta.name.as_str()).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let value = namespaces.items[0].value().unwrap();
    assert_eq!(value["status"]["phase"], "Active");
    assert_eq!(value["spec"]["finalizers"], json!(["kubernetes"]));
    assert!(!bed.exists(PODS, "x").await);
}
