//! The loop behind every write to an object that exists: read, change, write if nobody else wrote.

use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use pontoon_store::{Compare, DeleteRange, Op, Put, Read, Txn};
use serde_json::Value;

use crate::failure::of_object;
use crate::objects::Objects;
use crate::options::Sub;
use crate::record::bounded;
use crate::reservation::{Reservation, Reservations};
use crate::service;

/// How often somebody else may come first before a client is told of a conflict.
const ATTEMPTS: usize = 32;

/// Which object, by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'t> {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<&'t str>,
    pub(crate) name: &'t str,
}

/// What is to become of an object.
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// It is replaced by this.
    Put(Value, Reservations),
    /// It goes.
    Remove,
}

/// What is decided on sight of an object.
pub(crate) enum Next {
    Step(Step),
    /// This is to be the new version of a part of it.
    Version(Value, Sub),
}

/// What became of a step.
enum Outcome {
    Done(Object),
    /// Somebody else wrote in between.
    Stale,
    Taken(Reservation),
}

impl Objects {
    /// Reads, asks for the step, and does it; from the start when somebody else wrote in between.
    /// The first look may be at what this member has applied: the write is conditional anyway, and
    /// a refusal is only believed of the newest state.
    pub(crate) async fn change<F>(
        &self,
        target: Target<'_>,
        dry_run: bool,
        mut decide: F,
    ) -> Result<Object, Status>
    where
        F: FnMut(&Object) -> Result<Next, Status> + Send,
    {
        let mut how = Read::Local;
        for _ in 0..ATTEMPTS {
            let decided = match self.load(target.resource, target.namespace, target.name, how).await
            {
                Ok(current) => match decide(&current) {
                    Ok(Next::Step(step)) => Ok((current, step)),
                    Ok(Next::Version(new, sub)) => {
                        self.successor(&current, new, sub).await.map(|step| (current, step))
                    }
                    Err(status) => Err(status),
                },
                Err(status) => Err(status),
            };
            let first = std::mem::replace(&mut how, Read::Linearizable) == Read::Local;
            let (current, step) = match decided {
                // What this member knows may be old: ask again.
                Err(_) | Ok((_, Step::Keep)) if first => continue,
                decided => decided?,
            };
            match self.take(&current, step, dry_run).await? {
                Outcome::Done(object) => return Ok(object),
                Outcome::Stale => {}
                Outcome::Taken(what) => {
                    let value = current.value().map_err(|e| of_object(&e))?;
                    return Err(service::taken(target.name, &value, what));
                }
            }
        }
        Err(Status::stale(target.resource, target.name))
    }

    async fn take(&self, current: &Object, step: Step, dry_run: bool) -> Result<Outcome, Status> {
        let key = current.key();
        let revision = current.meta.resource_version;
        let when = Compare::unchanged(key.clone(), revision);
        let (object, txn, taken) = match step {
            Step::Keep => return Ok(Outcome::Done(current.clone())),
            Step::Put(value, reservations) => {
                let object = Object::from_value(current.resource, value, revision);
                let object = bounded(object.map_err(|e| of_object(&e))?)?;
                if object == *current {
                    return Ok(Outcome::Done(object));
                }
                let put = Put { ignore_lease: true, ..Put::new(key.clone(), object.stored()) };
                let mut txn = Txn::new().when(when).then(put);
                txn.compare.extend(reservations.compares());
                txn.success.extend(reservations.writes(&key));
                (object, txn, reservations.taken)
            }
            Step::Remove => {
                let mut txn = Txn::new().when(when).then(DeleteRange::key(key.clone()));
                let value = current.value().map_err(|e| of_object(&e))?;
                if *current.resource == *pontoon_model::resource::SERVICES {
                    let released = service::reserved(&value);
                    let none = Reservations { released, ..Reservations::default() };
                    txn.success.extend(none.writes(&key));
                }
                (current.clone(), txn, std::collections::BTreeSet::new())
            }
        };
        if dry_run {
            return Ok(Outcome::Done(object));
        }
        self.write(object, txn, &taken).await
    }

    async fn write(
        &self,
        object: Object,
        mut txn: Txn,
        taken: &std::collections::BTreeSet<Reservation>,
    ) -> Result<Outcome, Status> {
        let looks = taken.iter().map(|r| r.key());
        txn.failure = looks.map(|key| Op::Range(pontoon_store::Range::key(key))).collect();
        let answer = self.commit(txn).await?;
        if answer.succeeded {
            return Ok(Outcome::Done(object.at(answer.revision)));
        }
        let found = |r: &pontoon_store::OpResponse| matches!(r, pontoon_store::OpResponse::Range(range) if !range.kvs.is_empty());
        let of_another = taken.iter().zip(&answer.responses).find(|(_, r)| found(r));
        Ok(of_another.map_or(Outcome::Stale, |(what, _)| Outcome::Taken(*what)))
    }
}
