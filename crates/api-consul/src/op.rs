//! One operation, done on a draft: what a `PUT` or `DELETE` of a key means, and each line of a transaction.

use bytes::Bytes;
use uuid::Uuid;

use crate::catalog::op::CatalogOp;
use crate::catalog::record::{Check, Node, Service};
use crate::draft::Draft;
use crate::entry::Entry;
use crate::keyspace;
use crate::permit::{Permit, Wish};
use crate::refusal::Refusal;

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Set,
    Cas,
    Lock,
    Unlock,
    Get,
    GetOrEmpty,
    GetTree,
    CheckIndex,
    CheckSession,
    CheckNotExists,
    Delete,
    DeleteTree,
    DeleteCas,
}

/// The words for them.
const VERBS: &[(&str, Verb)] = &[
    ("set", Verb::Set),
    ("cas", Verb::Cas),
    ("lock", Verb::Lock),
    ("unlock", Verb::Unlock),
    ("get", Verb::Get),
    ("get-or-empty", Verb::GetOrEmpty),
    ("get-tree", Verb::GetTree),
    ("check-index", Verb::CheckIndex),
    ("check-session", Verb::CheckSession),
    ("check-not-exists", Verb::CheckNotExists),
    ("delete", Verb::Delete),
    ("delete-tree", Verb::DeleteTree),
    ("delete-cas", Verb::DeleteCas),
];

impl Verb {
    pub(crate) fn parse(word: &str) -> Option<Verb> {
        VERBS.iter().find(|(name, _)| *name == word).map(|(_, verb)| *verb)
    }

    /// True if it changes nothing.
    pub(crate) fn only_reads(self) -> bool {
        use Verb::{CheckIndex, CheckNotExists, CheckSession, Get, GetOrEmpty, GetTree};
        matches!(self, Get | GetOrEmpty | GetTree | CheckIndex | CheckSession | CheckNotExists)
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct KvOp {
    pub(crate) verb: Verb,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) flags: u64,
    /// What the entry's index must be, for those that compare it.
    pub(crate) index: u64,
    /// The session that locks, unlocks or must hold the key.
    pub(crate) session: String,
}

impl KvOp {
    pub(crate) fn new(verb: Verb, key: Bytes) -> KvOp {
        let (value, session) = (Bytes::new(), String::new());
        KvOp { verb, key, value, flags: 0, index: 0, session }
    }
}

/// What an operation answers with.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Entry {
        key: Bytes,
        entry: Entry,
        /// True for reads; what was written is answered without its value.
        shows_value: bool,
    },
    Node(Node),
    Service(Service),
    Check(Box<CheckItem>),
}

/// A check, its node's name, and the service that it is about.
#[derive(Clone, Debug)]
pub(crate) struct CheckItem {
    pub(crate) node: String,
    pub(crate) service: Option<Service>,
    pub(crate) check: Check,
}

impl Item {
    /// The indexes that it was created and changed at.
    pub(crate) fn indexes(&mut self) -> [&mut u64; 2] {
        match self {
            Item::Entry { entry, .. } => [&mut entry.create_index, &mut entry.modify_index],
            Item::Node(node) => [&mut node.create_index, &mut node.modify_index],
            Item::Service(service) => [&mut service.create_index, &mut service.modify_index],
            Item::Check(item) => [&mut item.check.create_index, &mut item.check.modify_index],
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Key(KvOp),
    Catalog(Box<CatalogOp>),
}

impl Operation {
    /// True if it changes nothing.
    pub(crate) fn only_reads(&self) -> bool {
        match self {
            Operation::Key(op) => op.verb.only_reads(),
            Operation::Catalog(op) => op.only_reads(),
        }
    }
}

/// Why an operation was not done; nothing of its transaction is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpError {
    /// Things are not as the client wants them: somebody else was faster, or holds the lock.
    #[error("{0}")]
    Declined(String),
    /// It cannot be done.
    #[error("{0}")]
    Failed(String),
    /// The token may not do it.
    #[error("Permission denied")]
    Denied,
    /// The whole transaction cannot be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Does one operation.
pub(crate) async fn apply(
    draft: &mut Draft<'_>,
    op: &Operation,
    permit: &dyn Permit,
) -> Result<Vec<Item>, OpError> {
    match op {
        Operation::Key(op) => on_key(draft, op, permit).await,
        Operation::Catalog(op) => {
            let catalog = draft.catalog.as_mut();
            let catalog = catalog.ok_or_else(|| Refusal::failed("the catalog was not read"))?;
            Ok(op.apply(catalog, permit)?.into_iter().collect())
        }
    }
}

async fn on_key(
    draft: &mut Draft<'_>,
    op: &KvOp,
    permit: &dyn Permit,
) -> Result<Vec<Item>, OpError> {
    check(op, permit)?;
    let key = &op.key;
    let shows_value = matches!(op.verb, Verb::Get | Verb::GetOrEmpty | Verb::GetTree);
    let item = |(key, entry)| Item::Entry { key, entry, shows_value };
    let one = |entry| vec![item((key.clone(), entry))];
    match op.verb {
        Verb::Set => Ok(one(set(draft, op).await?)),
        Verb::Cas => Ok(one(cas(draft, op).await?)),
        Verb::Lock => Ok(one(lock(draft, op).await?)),
        Verb::Unlock => Ok(one(unlock(draft, op).await?)),
        // As in Consul, and nothing is told of whether it is there.
        Verb::Get | Verb::GetOrEmpty if !permit.allows(Wish::KeyRead(key)) => Ok(Vec::new()),
        Verb::Get | Verb::GetOrEmpty => {
            let found = draft.get(key).await?.cloned();
            let empty = || {
                (op.verb == Verb::GetOrEmpty).then(|| Entry { flags: op.flags, ..Entry::default() })
            };
            let missing = || OpError::Failed(format!("key {} doesn't exist", quote(key)));
            found.or_else(empty).map(one).ok_or_else(missing)
        }
        Verb::GetTree => Ok(draft.tree(key).await?.into_iter().map(item).collect()),
        Verb::CheckIndex | Verb::CheckSession => Ok(one(compare(draft, op).await?)),
        Verb::CheckNotExists => match draft.get(key).await? {
            None => Ok(Vec::new()),
            Some(_) => Err(OpError::Failed(format!("key {} exists", quote(key)))),
        },
        Verb::Delete => Ok(draft.delete(key).await.map(|()| Vec::new())?),
        Verb::DeleteTree => Ok(draft.delete_tree(key).await.map(|()| Vec::new())?),
        Verb::DeleteCas => Ok(delete_cas(draft, op).await.map(|()| Vec::new())?),
    }
}

/// What can be said before anything is read.
fn check(op: &KvOp, permit: &dyn Permit) -> Result<(), OpError> {
    let key = &op.key[..];
    if key.is_empty() && op.verb != Verb::DeleteTree {
        return Err(OpError::Failed("Must provide key".to_owned()));
    }
    let wish = match op.verb {
        Verb::DeleteTree => Wish::KeyWriteTree(key),
        // What may not be read is left out of the answer.
        Verb::Get | Verb::GetOrEmpty | Verb::GetTree => return Ok(()),
        verb if verb.only_reads() => Wish::KeyRead(key),
        _ => Wish::KeyWrite(key),
    };
    if permit.allows(wish) { Ok(()) } else { Err(OpError::Denied) }
}

async fn set(draft: &mut Draft<'_>, op: &KvOp) -> Result<Entry, OpError> {
    // The lock stays with whoever holds it.
    let (lock_index, session) =
        draft.get(&op.key).await?.map_or((0, None), |entry| (entry.lock_index, entry.session));
    Ok(draft.put(&op.key, written(op, lock_index, session)).await?)
}

async fn cas(draft: &mut Draft<'_>, op: &KvOp) -> Result<Entry, OpError> {
    let present = draft.get(&op.key).await?.map_or(0, |entry| entry.modify_index);
    if present != op.index {
        let words = format!("failed to set key {}, index is stale", quote(&op.key));
        return Err(OpError::Declined(words));
    }
    set(draft, op).await
}

async fn lock(draft: &mut Draft<'_>, op: &KvOp) -> Result<Entry, OpError> {
    if op.session.is_empty() {
        return Err(OpError::Failed("missing session".to_owned()));
    }
    let invalid = || OpError::Failed(format!("invalid session {:?}", op.session));
    let id = keyspace::parse_session_id(&op.session).map_err(OpError::Failed)?;
    let key = quote(&op.key);
    let present = draft.get(&op.key).await?.cloned().unwrap_or_default();
    if draft.depend_on(keyspace::lock_delay(&op.key)).await?.is_some() {
        let words = format!("failed to lock key {key} due to lock delay");
        return Err(OpError::Declined(words));
    }
    // A session that ends before this is done takes no lock.
    draft.depend_on(keyspace::session(id)).await?.ok_or_else(invalid)?;
    let lock_index = match present.session {
        Some(holder) if holder == id => present.lock_index,
        Some(_) => {
            let words = format!("failed to lock key {key}, lock is already held");
            return Err(OpError::Declined(words));
        }
        None => present.lock_index + 1,
    };
    Ok(draft.put(&op.key, written(op, lock_index, Some(id))).await?)
}

async fn unlock(draft: &mut Draft<'_>, op: &KvOp) -> Result<Entry, OpError> {
    if op.session.is_empty() {
        return Err(OpError::Failed("missing session".to_owned()));
    }
    let id = Uuid::try_parse(&op.session).ok();
    let present = draft.get(&op.key).await?;
    match present.filter(|entry| entry.session.is_some() && entry.session == id) {
        Some(present) => {
            let lock_index = present.lock_index;
            Ok(draft.put(&op.key, written(op, lock_index, None)).await?)
        }
        None => Err(OpError::Declined(format!(
            "failed to unlock key {}, lock isn't held, or is held by another session",
            quote(&op.key)
        ))),
    }
}

async fn compare(draft: &mut Draft<'_>, op: &KvOp) -> Result<Entry, OpError> {
    let what = if op.verb == Verb::CheckIndex { "index" } else { "session" };
    let key = quote(&op.key);
    let missing = || OpError::Failed(format!("failed to check {what}, key {key} doesn't exist"));
    let present = draft.get(&op.key).await?.ok_or_else(missing)?;
    if op.verb == Verb::CheckIndex {
        if present.modify_index == op.index {
            return Ok(present.clone());
        }
        return Err(OpError::Failed(format!(
            "failed index check for key {key}, current modify index {} != {}",
            present.modify_index, op.index
        )));
    }
    let holder = present.session.map(|id| id.to_string()).unwrap_or_default();
    if holder.eq_ignore_ascii_case(&op.session) {
        return Ok(present.clone());
    }
    Err(OpError::Failed(format!(
        "failed session check for key {key}, current session {holder:?} != {:?}",
        op.session
    )))
}

async fn delete_cas(draft: &mut Draft<'_>, op: &KvOp) -> Result<(), OpError> {
    match draft.get(&op.key).await?.map(|entry| entry.modify_index) {
        // What is not there needs no delete, whatever its index was.
        None => Ok(()),
        Some(index) if index == op.index => Ok(draft.delete(&op.key).await?),
        Some(_) => {
            let words = format!("failed to delete key {}, index is stale", quote(&op.key));
            Err(OpError::Declined(words))
        }
    }
}

/// The entry that an operation writes; a draft sets its indexes.
fn written(op: &KvOp, lock_index: u64, session: Option<Uuid>) -> Entry {
    let (flags, value) = (op.flags, op.value.clone());
    Entry { flags, lock_index, session, value, ..Entry::default() }
}

/// A key in a message.
fn quote(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}
