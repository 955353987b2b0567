//! A change being made up: what was read of the store at one revision, what is to be written, and one transaction that
//! is done only if all that was read is still so.
//!
//! Every write of Consul's depends on what is there: a plain `PUT` keeps the lock of a key. So each is made up from a
//! read and committed on the condition of that read, and made up again if somebody else was faster.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::{
    Compare, CompareOp, DeleteRange, KeyValue, Op, Operand, Put, Range, Read, ReadError, Store,
    Txn, prefix_end,
};
use uuid::Uuid;

use crate::catalog::draft::CatalogDraft;
use crate::catalog::state::Catalog;
use crate::entry::{Entry, PENDING};
use crate::keyspace;
use crate::refusal::Refusal;

/// An entry as it was read and as it is to be.
struct Slot {
    before: Option<Entry>,
    now: Option<Entry>,
    written: bool,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is done, at this revision.
    Done(u64),
    /// Something that was read has changed; nothing is done.
    Changed,
}

/// A change being made up.
pub(crate) struct Draft<'s> {
    store: &'s Store,
    read: Read,
    /// The revision of all reads, once there was one.
    at: Option<u64>,
    slots: BTreeMap<Bytes, Slot>,
    /// Prefixes of which all entries were read.
    listed: Vec<Bytes>,
    /// Prefixes of which all entries were deleted.
    cleared: Vec<Bytes>,
    /// What else must still be so.
    conditions: Vec<Compare>,
    /// Nodes, services and checks, for those whose operations are about some.
    pub(crate) catalog: Option<CatalogDraft>,
}

impl<'s> Draft<'s> {
    pub(crate) fn new(store: &'s Store, read: Read) -> Draft<'s> {
        Draft {
            store,
            read,
            at: None,
            slots: BTreeMap::new(),
            listed: Vec::new(),
            cleared: Vec::new(),
            conditions: Vec::new(),
            catalog: None,
        }
    }

    /// One that reads and changes the catalog, too: all of it as of the revision of the catalog.
    pub(crate) fn with_catalog(store: &'s Store, catalog: Arc<Catalog>, at: u64) -> Draft<'s> {
        let catalog = Some(CatalogDraft::new(catalog, at));
        Draft { at: Some(at), catalog, ..Draft::new(store, Read::Local) }
    }

    /// Reads, all of it as it was at one revision.
    async fn range(&mut self, range: Range) -> Result<Vec<Arc<KeyValue>>, Refusal> {
        let Some(at) = self.at else {
            let found = self.store.range(range, self.read).await?;
            self.at = Some(found.revision);
            return Ok(found.kvs);
        };
        match self.store.range(range.at(at), Read::Local).await {
            Err(ReadError::Compacted { .. }) => {
                Err(Refusal::Busy("the store changed too much meanwhile; try again".to_owned()))
            }
            found => Ok(found?.kvs),
        }
    }

    /// The entry of a key as it is by now.
    pub(crate) async fn get(&mut self, key: &Bytes) -> Result<Option<&Entry>, Refusal> {
        if !self.slots.contains_key(key) && !self.listed.iter().any(|p| key.starts_with(p)) {
            let found = self.range(Range::key(keyspace::kv(key))).await?;
            let before = found.first().map(|kv| entry(kv)).transpose()?;
            self.slots.insert(key.clone(), Slot { now: before.clone(), before, written: false });
        }
        Ok(self.slots.get(key).and_then(|slot| slot.now.as_ref()))
    }

    /// All entries with a prefix as they are by now, in order.
    pub(crate) async fn tree(&mut self, prefix: &Bytes) -> Result<Vec<(Bytes, Entry)>, Refusal> {
        if !self.listed.iter().any(|listed| prefix.starts_with(listed)) {
            for kv in self.range(Range::prefix(keyspace::kv(prefix))).await? {
                let key = kv.key.slice(keyspace::KV.len()..);
                let before = Some(entry(&kv)?);
                let slot = Slot { now: before.clone(), before, written: false };
                self.slots.entry(key).or_insert(slot);
            }
            self.listed.push(prefix.clone());
        }
        let below =
            self.slots.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
        let present = |(key, slot): (&Bytes, &Slot)| Some((key.clone(), slot.now.clone()?));
        Ok(below.filter_map(present).collect())
    }

    /// Writes an entry, unless it is so already; answers with it as it will be. Its indexes are set here.
    pub(crate) async fn put(&mut self, key: &Bytes, mut entry: Entry) -> Result<Entry, Refusal> {
        if let Some(present) = self.get(key).await?.filter(|present| present.is_same(&entry)) {
            return Ok(present.clone());
        }
        // What is deleted and written again in one transaction was never away, for the store.
        let slot = self.slots.get(key);
        let kept = slot.and_then(|slot| slot.now.as_ref().or(slot.before.as_ref()));
        entry.create_index = kept.map_or(PENDING, |kept| kept.create_index);
        entry.modify_index = PENDING;
        self.set(key, Some(entry.clone()));
        Ok(entry)
    }

    /// Deletes an entry, if it is there.
    pub(crate) async fn delete(&mut self, key: &Bytes) -> Result<(), Refusal> {
        if self.get(key).await?.is_some() {
            self.set(key, None);
        }
        Ok(())
    }

    /// Deletes all entries with a prefix.
    pub(crate) async fn delete_tree(&mut self, prefix: &Bytes) -> Result<(), Refusal> {
        for (key, _) in self.tree(prefix).await? {
            self.set(&key, None);
        }
        self.cleared.push(prefix.clone());
        Ok(())
    }

    /// A key of the store that is no entry; the change is made only if it stays as it is.
    pub(crate) async fn depend_on(&mut self, key: Bytes) -> Result<Option<Arc<KeyValue>>, Refusal> {
        let found = self.range(Range::key(key.clone())).await?.into_iter().next();
        self.conditions
            .push(Compare::unchanged(key, found.as_ref().map_or(0, |kv| kv.mod_revision)));
        Ok(found)
    }

    fn set(&mut self, key: &Bytes, now: Option<Entry>) {
        let slot = Slot { before: None, now: None, written: false };
        let slot = self.slots.entry(key.clone()).or_insert(slot);
        slot.now = now;
        slot.written = true;
    }

    /// True if there is something to write.
    pub(crate) fn writes(&self) -> bool {
        let in_catalog = self.catalog.as_ref().is_some_and(CatalogDraft::writes);
        in_catalog || self.slots.values().any(|slot| slot.written)
    }

    /// Does the change, if all that was read is still so.
    pub(crate) async fn commit(self) -> Result<Committed, Refusal> {
        let done = self.store.txn(self.transaction()).await?;
        Ok(if done.succeeded { Committed::Done(done.revision) } else { Committed::Changed })
    }

    fn transaction(&self) -> Txn {
        let mut txn = Txn { compare: self.conditions.clone(), ..Txn::default() };
        let at = self.at.unwrap_or(0);
        txn.compare
            .extend(self.listed.iter().map(|prefix| nothing_since(keyspace::kv(prefix), at)));
        // A prefix that is empty afterwards is deleted as one; that nothing was written below it is a condition above.
        let empty: Vec<&Bytes> =
            self.cleared.iter().filter(|prefix| self.is_empty(prefix)).collect();
        let mut outermost: Vec<&Bytes> = Vec::new();
        for prefix in &empty {
            let covers = |other: &&Bytes| other.len() < prefix.len() && prefix.starts_with(other);
            if !empty.iter().any(covers) && !outermost.contains(prefix) {
                outermost.push(prefix);
            }
        }
        let delete = |prefix: &&Bytes| Op::from(DeleteRange::prefix(keyspace::kv(prefix)));
        txn.success.extend(outermost.iter().map(delete));
        for (key, slot) in &self.slots {
            let goes_with_prefix = outermost.iter().any(|prefix| key.starts_with(prefix));
            slot.add(key, goes_with_prefix, &mut txn);
        }
        if let Some(catalog) = &self.catalog {
            catalog.add(&mut txn);
        }
        txn
    }

    fn is_empty(&self, prefix: &Bytes) -> bool {
        let mut below =
            self.slots.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
        below.all(|(_, slot)| slot.now.is_none())
    }
}

impl Slot {
    /// Adds what must be so and what is to be done for this entry.
    fn add(&self, key: &Bytes, goes_with_prefix: bool, txn: &mut Txn) {
        let stored = keyspace::kv(key);
        if !goes_with_prefix {
            let seen = self.before.as_ref().map_or(0, |entry| entry.modify_index);
            txn.compare.push(Compare::unchanged(stored.clone(), seen));
        }
        if !self.written {
            return;
        }
        match &self.now {
            Some(entry) => txn.success.push(Put::new(stored, entry.encode()).into()),
            None if goes_with_prefix || self.before.is_none() => {}
            None => txn.success.push(DeleteRange::key(stored).into()),
        }
        let holder = |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.session);
        txn.success.extend(move_lock(key, holder(&self.before), holder(&self.now)));
    }
}

/// The writes that say in the list of a session's locks who holds a key.
fn move_lock(key: &Bytes, before: Option<Uuid>, now: Option<Uuid>) -> Vec<Op> {
    let mut ops = Vec::new();
    if before != now {
        ops.extend(before.map(|id| Op::from(DeleteRange::key(keyspace::lock(id, key)))));
        ops.extend(now.map(|id| Op::from(Put::new(keyspace::lock(id, key), Bytes::new()))));
    }
    ops
}

/// Holds if no key with a prefix was written after a revision.
pub(crate) fn nothing_since(prefix: Bytes, revision: u64) -> Compare {
    let end = Some(prefix_end(&prefix));
    let operand = Operand::Mod(revision.saturating_add(1));
    Compare { key: prefix, end, op: CompareOp::Less, operand }
}

fn entry(kv: &KeyValue) -> Result<Entry, Refusal> {
    Entry::decode(kv).map_err(|error| Refusal::Failed(error.to_string()))
}
