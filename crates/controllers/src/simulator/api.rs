//! An API server as small as can be: names are unique, writes are checked against the revision
//! they were read at, finalizers and grace periods hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pontoon_model::object::{Object, timestamp};
use pontoon_model::resource::{self, Resource};
use serde_json::{Value, json};

use crate::key::Key;
use crate::plan::{Action, Propagation, Sub};

/// What was written, as informers will tell.
pub(crate) type Told = Vec<(Key, Option<Object>)>;

/// A write that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

#[derive(Default)]
pub(crate) struct Api {
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) revision: u64,
    pub(crate) events: Vec<(String, String)>,
    /// How many objects of each resource were ever created.
    pub(crate) created: BTreeMap<&'static str, usize>,
}

impl Api {
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().filter(|(key, _)| key.is(resource::PODS))
    }

    pub(crate) fn carry_out(&mut self, now: Timestamp, action: &Action) -> Result<Told, Conflict> {
        match action {
            Action::Create { resource, namespace, body } => {
                let name = body["metadata"]["name"].as_str().unwrap();
                if self.objects.contains_key(&Key::new(resource, namespace.as_deref(), name)) {
                    return Ok(Vec::new());
                }
                self.create(now, resource, namespace.as_deref(), body.clone())
            }
            Action::Update { key, body } => self.update(key, body),
            Action::Patch { key, sub, patch } => self.patch(key, *sub, patch),
            Action::Delete { key, uid, grace_seconds, propagation, only_if_absent } => {
                let there = only_if_absent.iter().any(|absent| {
                    let found = self.objects.get(&absent.key);
                    found.is_some_and(|o| {
                        absent.uid.as_ref().is_none_or(|u| o["metadata"]["uid"] == **u)
                    })
                });
                let same = self.objects.get(key).is_some_and(|o| o["metadata"]["uid"] == **uid);
                if there || !same {
                    return Ok(Vec::new());
                }
                self.delete(now, key, Some(uid), *grace_seconds, *propagation)
            }
            Action::DeleteAll { resource, namespace } => {
                let all = self.objects.keys();
                let inside = |k: &&Key| k.is(resource) && k.namespace.as_ref() == Some(namespace);
                let keys: Vec<Key> = all.filter(inside).cloned().collect();
                let mut told = Vec::new();
                for key in keys {
                    told.extend(self.delete(now, &key, None, None, Propagation::Background)?);
                }
                Ok(told)
            }
            Action::Event { reason, message, .. } => {
                self.events.push(((*reason).to_owned(), message.clone()));
                Ok(Vec::new())
            }
        }
    }

    pub(crate) fn create(
        &mut self,
        now: Timestamp,
        resource: &'static Resource,
        namespace: Option<&str>,
        mut body: Value,
    ) -> Result<Told, Conflict> {
        if let Some(namespace) = namespace {
            let key = Key::new(resource::NAMESPACES, None, namespace);
            let home = self.objects.get(&key).ok_or(Conflict)?;
            if !home["metadata"]["deletionTimestamp"].is_null() {
                return Err(Conflict);
            }
            body["metadata"]["namespace"] = json!(namespace);
        }
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        body["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
        body["metadata"]["creationTimestamp"] = json!(timestamp(now));
        body["metadata"]["generation"] = json!(1);
        *self.created.entry(resource.plural).or_default() += 1;
        Ok(self.write(Key::new(resource, namespace, &name), body))
    }

    fn update(&mut self, key: &Key, body: &Value) -> Result<Told, Conflict> {
        let found = self.objects.get(key).ok_or(Conflict)?;
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"] {
            return Err(Conflict);
        }
        Ok(self.write(key.clone(), body.clone()))
    }

    pub(crate) fn patch(&mut self, key: &Key, sub: Sub, patch: &Value) -> Result<Told, Conflict> {
        let found = self.objects.get(key).ok_or(Conflict)?;
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != found["metadata"]["resourceVersion"] {
            return Err(Conflict);
        }
        let mut changed = found.clone();
        if sub == Sub::Status {
            merge(&mut changed["status"], &patch["status"]);
        } else {
            let mut patch = patch.clone();
            patch.as_object_mut().unwrap().remove("status");
            merge(&mut changed, &patch);
            if changed["spec"] != found["spec"] {
                let generation = found["metadata"]["generation"].as_i64().unwrap();
                changed["metadata"]["generation"] = json!(generation + 1);
            }
        }
        Ok(self.write_or_remove(key, changed))
    }

    pub(crate) fn bind(&mut self, key: &Key, node: &str) -> Told {
        self.patch(key, Sub::Whole, &json!({"spec": {"nodeName": node}})).unwrap_or_default()
    }

    pub(crate) fn delete(
        &mut self,
        now: Timestamp,
        key: &Key,
        uid: Option<&str>,
        grace: Option<i64>,
        propagation: Propagation,
    ) -> Result<Told, Conflict> {
        let Some(found) = self.objects.get(key) else { return Ok(Vec::new()) };
        if uid.is_some_and(|uid| found["metadata"]["uid"] != *uid) {
            return Err(Conflict);
        }
        let mut object = found.clone();
        let finalizer = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some("foregroundDeletion"),
            Propagation::Orphan => Some("orphan"),
        };
        if let Some(finalizer) = finalizer {
            object["metadata"]["finalizers"] = json!([finalizer]);
        }
        let graceful =
            key.is(resource::PODS) && grace != Some(0) && !object["spec"]["nodeName"].is_null();
        let marked = !object["metadata"]["deletionTimestamp"].is_null();
        if graceful && marked {
            return Ok(Vec::new());
        }
        if !marked {
            object["metadata"]["deletionTimestamp"] = json!(timestamp(now));
        }
        Ok(if graceful {
            self.write(key.clone(), object)
        } else {
            self.write_or_remove(key, object)
        })
    }

    /// Takes the object away if it is on its way out and nothing holds it.
    fn write_or_remove(&mut self, key: &Key, object: Value) -> Told {
        let empty = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
        let held = !empty(&object["metadata"]["finalizers"])
            || (key.is(resource::NAMESPACES) && !empty(&object["spec"]["finalizers"]));
        let going = !object["metadata"]["deletionTimestamp"].is_null();
        // A pod that is being patched while its node stops it is not gone by that.
        let runs = key.is(resource::PODS)
            && self.objects.get(key).is_some_and(|o| {
                o["metadata"]["deletionTimestamp"] == object["metadata"]["deletionTimestamp"]
            })
            && self.objects.get(key).is_some_and(|o| *o != object);
        if !going || held || runs {
            return self.write(key.clone(), object);
        }
        self.objects.remove(key);
        self.revision += 1;
        vec![(key.clone(), None)]
    }

    fn write(&mut self, key: Key, mut object: Value) -> Told {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let stored = Object::from_value(key.resource, object.clone(), self.revision).unwrap();
        self.objects.insert(key.clone(), object);
        vec![(key, Some(stored))]
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut target[field], value);
        }
    }
}
