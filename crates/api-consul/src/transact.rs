//! Operations as one transaction: made up, committed, and made up again while others are faster.

use std::time::Duration;

use pontoon_store::Read;
use tokio::time::Instant;

use crate::draft::{Committed, Draft};
use crate::entry::PENDING;
use crate::op::{Item, OpError, Operation, apply};
use crate::permit::Permit;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// How long it is tried to be faster than others who write the same keys.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the first and after any later loss, each shortened by chance so that rivals spread out.
const PAUSE_FIRST: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What came of a transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is done; what each operation answers.
    Done(Vec<Item>),
    /// Nothing is done; the operations that could not be, by their place.
    Undone(Vec<(usize, OpError)>),
}

/// Does all operations or none.
///
/// The first attempt goes by what this server knows. Whatever comes of it but a commit, which proves that it was true,
/// is not told before the leader was asked.
pub(crate) async fn transact(
    server: &ConsulServer,
    ops: &[Operation],
    permit: &dyn Permit,
) -> Result<Outcome, Refusal> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = PAUSE_FIRST;
    let mut read = Read::Local;
    loop {
        let mut draft = draft(server, ops, read).await?;
        match run(&mut draft, ops, permit).await? {
            Outcome::Done(items) if draft.writes() => match draft.commit().await? {
                Committed::Done(revision) => return Ok(Outcome::Done(at(revision, items))),
                Committed::Changed => {
                    if Instant::now() > give_up {
                        let words = "others write these keys all the time; try again later";
                        return Err(Refusal::Busy(words.to_owned()));
                    }
                    tokio::time::sleep(pause.mul_f64(rand::random::<f64>())).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            },
            outcome if read == Read::Linearizable => return Ok(outcome),
            _ => {}
        }
        read = Read::Linearizable;
    }
}

/// Does operations that only read.
pub(crate) async fn read_only(
    server: &ConsulServer,
    ops: &[Operation],
    permit: &dyn Permit,
    read: Read,
) -> Result<Outcome, Refusal> {
    run(&mut draft(server, ops, read).await?, ops, permit).await
}

/// A draft for these operations. The catalog is read only if some are about it.
async fn draft<'s>(
    server: &'s ConsulServer,
    ops: &[Operation],
    read: Read,
) -> Result<Draft<'s>, Refusal> {
    let store = &server.inner.store;
    if ops.iter().any(|op| matches!(op, Operation::Catalog(_))) {
        let (catalog, at) = server.catalog(read).await?;
        return Ok(Draft::with_catalog(store, catalog, at));
    }
    Ok(Draft::new(store, read))
}

async fn run(
    draft: &mut Draft<'_>,
    ops: &[Operation],
    permit: &dyn Permit,
) -> Result<Outcome, Refusal> {
    let (mut items, mut errors) = (Vec::new(), Vec::new());
    for (place, op) in ops.iter().enumerate() {
        match apply(draft, op, permit).await {
            Ok(more) => items.extend(more),
            Err(OpError::Refused(refusal)) => return Err(refusal),
            Err(error) => errors.push((place, error)),
        }
    }
    Ok(if errors.is_empty() { Outcome::Done(items) } else { Outcome::Undone(errors) })
}

/// Fills in the indexes of what was written.
fn at(revision: u64, mut items: Vec<Item>) -> Vec<Item> {
    for item in &mut items {
        for index in item.indexes() {
            if *index == PENDING {
                *index = revision;
            }
        }
    }
    items
}
