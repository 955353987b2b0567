//! Creating objects.

use pontoon_model::defaults;
use pontoon_model::names::FINALIZER_KUBERNETES;
use pontoon_model::object::Object;
use pontoon_model::resource::{
    DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, NAMESPACES, PODS, REPLICA_SETS, Resource,
};
use pontoon_model::status::Status;
use pontoon_model::validate;
use pontoon_store::{Compare, Op, OpResponse, Put, Range, Read, Txn, TxnResponse, WriteError};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::failure::{of_faults, of_object, of_type, of_write};
use crate::objects::Objects;
use crate::options::{FieldValidation, WriteOptions};
use crate::record::bounded;
use crate::reservation::Reservations;
use crate::service;

/// How often a generated name or a given number may turn out to be taken.
const ATTEMPTS: usize = 8;

/// An object that is ready to be written.
struct Draft {
    object: Object,
    value: Value,
    reservations: Reservations,
}

/// Why a draft was not written.
enum Refused {
    /// The namespace is not as it was seen.
    Namespace,
    /// The name is taken.
    Name,
    /// Something that the service was to have is another's.
    Reserved(crate::reservation::Reservation),
}

impl Objects {
    /// Creates an object: defaults, validation, admission, then one transaction.
    pub async fn create(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let mut body = body;
        begin(resource, namespace, &mut body)?;
        strict(resource, &body, options)?;
        let meta = members(&mut body);
        let named = !text(meta, "name").is_empty();
        let chosen = service::reserved(&body);
        for attempt in 0..ATTEMPTS {
            let mut value = body.clone();
            stamp(resource, namespace, &mut value);
            let how = if attempt == 0 { Read::Local } else { Read::Linearizable };
            let name = text(members(&mut value), "name").to_owned();
            let open = self.open_namespace(resource, namespace, &name, how).await?;
            let draft = self.draft(resource, value, &name).await?;
            let refused = match self.insert(&draft, open, options).await? {
                Ok(created) => return Ok(created),
                Err(refused) => refused,
            };
            match refused {
                Refused::Namespace => {}
                Refused::Name if named => return Err(Status::already_exists(resource, &name)),
                Refused::Name => {}
                Refused::Reserved(what) if chosen.contains(&what) => {
                    return Err(service::taken(&name, &draft.value, what));
                }
                Refused::Reserved(_) => {}
            }
        }
        let message = format!("no free name, address or port was found in {ATTEMPTS} attempts");
        Err(Status::service_unavailable(message))
    }

    async fn draft(
        &self,
        resource: &'static Resource,
        mut value: Value,
        name: &str,
    ) -> Result<Draft, Status> {
        defaults::apply(resource, &mut value);
        if *resource == *PODS {
            self.admit_account(name, &mut value).await?;
        }
        defaults::initial_status(resource, &mut value);
        let faults = validate::create(resource, &value).map_err(|e| of_type(&e))?;
        of_faults(resource, name, faults)?;
        let reservations = self.give(resource, name, &mut value, None).await?;
        let object = Object::from_value(resource, value.clone(), 0).map_err(|e| of_object(&e))?;
        Ok(Draft { object: bounded(object)?, value, reservations })
    }

    /// Writes the draft; or says why that cannot be. A dry run only looks.
    async fn insert(
        &self,
        draft: &Draft,
        open: Option<Compare>,
        options: &WriteOptions,
    ) -> Result<Result<Object, Refused>, Status> {
        let key = draft.object.key();
        let compares = open.into_iter().chain([Compare::absent(key.clone())]);
        let mut txn =
            Txn { compare: compares.chain(draft.reservations.compares()).collect(), ..Txn::new() };
        if !options.dry_run {
            txn.success = vec![Op::Put(Put::new(key.clone(), draft.object.stored()))];
            txn.success.extend(draft.reservations.writes(&key));
        }
        let looks = [key].into_iter().chain(draft.reservations.taken.iter().map(|r| r.key()));
        let look = |key: String| Op::Range(Range { keys_only: true, ..Range::key(key) });
        txn.failure = looks.map(look).collect();
        let leased = *draft.object.resource == *EVENTS && !options.dry_run;
        let answer = if leased { self.commit_leased(txn).await } else { self.commit(txn).await }?;
        if answer.succeeded {
            let revision = if options.dry_run { 0 } else { answer.revision };
            return Ok(Ok(draft.object.at(revision)));
        }
        let found = |r: &OpResponse| matches!(r, OpResponse::Range(range) if !range.kvs.is_empty());
        let mut found = answer.responses.iter().map(found);
        if found.next() == Some(true) {
            return Ok(Err(Refused::Name));
        }
        let reserved = draft.reservations.taken.iter().zip(found).find(|(_, found)| *found);
        Ok(Err(reserved.map_or(Refused::Namespace, |(what, _)| Refused::Reserved(*what))))
    }

    /// Does a transaction.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<TxnResponse, Status> {
        self.store().txn(txn).await.map_err(|e| of_write(&e))
    }

    /// Does a transaction whose writes live as long as an event.
    async fn commit_leased(&self, txn: Txn) -> Result<TxnResponse, Status> {
        for last in [false, true] {
            let lease = self.event_lease().get(self.store()).await.map_err(|e| of_write(&e))?;
            let mut txn = txn.clone();
            for op in &mut txn.success {
                if let Op::Put(put) = op {
                    put.lease = lease;
                }
            }
            match self.store().txn(txn).await {
                Err(WriteError::LeaseNotFound { .. }) if !last => self.event_lease().forget().await,
                answer => return answer.map_err(|e| of_write(&e)),
            }
        }
        Err(Status::service_unavailable("the lease of events was ended twice"))
    }
}

/// What the request and its object must agree on before anything else.
fn begin(
    resource: &'static Resource,
    namespace: Option<&str>,
    body: &mut Value,
) -> Result<(), Status> {
    same_kind(resource, body)?;
    if resource.namespaced && namespace.is_none_or(str::is_empty) {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    let meta = members(body);
    if !text(meta, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message));
    }
    let named = text(meta, "namespace");
    if resource.namespaced && !named.is_empty() && Some(named) != namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    Ok(())
}

/// Refuses an object of another kind; one that names no kind is of this one.
pub(crate) fn same_kind(resource: &'static Resource, body: &mut Value) -> Result<(), Status> {
    let Value::Object(map) = body else {
        return Err(Status::bad_request("the object provided is not a JSON object"));
    };
    let version = resource.api_version();
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", resource.kind)] {
        let given = text(map, field);
        if !given.is_empty() && given != wanted {
            let message = format!(
                "{field} in the object ({given}) does not match {field} expected by the request ({wanted})"
            );
            return Err(Status::bad_request(message));
        }
        map.insert(field.to_owned(), json!(wanted));
    }
    if !map.get("metadata").is_none_or(|m| m.is_object() || m.is_null()) {
        return Err(Status::bad_request("metadata must be a JSON object"));
    }
    Ok(())
}

/// With strict field validation, refuses fields that the kind does not have.
pub(crate) fn strict(
    resource: &'static Resource,
    body: &Value,
    options: &WriteOptions,
) -> Result<(), Status> {
    if options.field_validation != FieldValidation::Strict {
        return Ok(());
    }
    validate::types(resource, body).map_err(|e| of_type(&e))?;
    let unknown = validate::unknown_fields(resource, body);
    if unknown.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = unknown.iter().map(|f| format!("unknown field \"{f}\"")).collect();
    let message = format!(
        "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
        resource.kind,
        resource.version,
        resource.kind,
        told.join(", ")
    );
    Err(Status::bad_request(message))
}

/// The members of metadata, made if need be; of something that is no object there are none.
pub(crate) fn members(body: &mut Value) -> &mut Map<String, Value> {
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    body["metadata"].as_object_mut().expect("it was made an object just now")
}

pub(crate) fn text<'m>(map: &'m Map<String, Value>, field: &str) -> &'m str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What the system says of a new object, whatever the client said.
fn stamp(resource: &'static Resource, namespace: Option<&str>, value: &mut Value) {
    let meta = members(value);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "generation"]
    {
        meta.remove(field);
    }
    if text(meta, "name").is_empty() && !text(meta, "generateName").is_empty() {
        let name = clock::generate_name(text(meta, "generateName"));
        meta.insert("name".to_owned(), json!(name));
    }
    meta.insert("uid".to_owned(), json!(clock::uid()));
    meta.insert("creationTimestamp".to_owned(), json!(clock::now()));
    if counts(resource) {
        meta.insert("generation".to_owned(), json!(1));
    }
    if let Some(namespace) = namespace.filter(|_| resource.namespaced) {
        meta.insert("namespace".to_owned(), json!(namespace));
    }
    if *resource == *NAMESPACES {
        value["spec"] = json!({"finalizers": [FINALIZER_KUBERNETES]});
    }
}

/// Whether changes of the specification are counted in `metadata.generation`.
pub(crate) fn counts(resource: &Resource) -> bool {
    [PODS, DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS, ENDPOINT_SLICES].contains(&resource)
}
