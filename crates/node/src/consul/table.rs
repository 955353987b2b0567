//! What was read from the records of one kind, each read once and again when it has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pontoon_store::KeyValue;

/// By key of the store.
pub(super) struct Table<T> {
    rows: BTreeMap<Bytes, Row<T>>,
}

struct Row<T> {
    revision: u64,
    /// None if it could not be read, or is of no use.
    value: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: BTreeMap::new() }
    }
}

impl<T> Table<T> {
    /// Becomes a table of these records; true if they are others than before. `read` is given what it made of the
    /// record's former state.
    pub(super) fn update(
        &mut self,
        kvs: &[Arc<KeyValue>],
        read: impl Fn(&KeyValue, Option<T>) -> Option<T>,
    ) -> bool {
        let mut before = std::mem::take(&mut self.rows);
        let mut is_changed = false;
        for kv in kvs {
            let row = match before.remove(&kv.key) {
                Some(row) if row.revision == kv.mod_revision => row,
                former => {
                    is_changed = true;
                    let value = read(kv, former.and_then(|row| row.value));
                    Row { revision: kv.mod_revision, value }
                }
            };
            self.rows.insert(kv.key.clone(), row);
        }
        is_changed || !before.is_empty()
    }

    /// What could be read.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.values().filter_map(|row| row.value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, revision: u64) -> Arc<KeyValue> {
        let key = Bytes::from_static(key.as_bytes());
        Arc::new(KeyValue { key, ..super::super::record("", revision) })
    }

    #[test]
    fn a_record_is_read_when_it_is_new() {
        let mut table = Table::<u64>::default();
        let mut update = |kvs: &[Arc<KeyValue>]| {
            let read = |_: &KeyValue, before: Option<u64>| Some(before.unwrap_or(0) + 1);
            let is_changed = table.update(kvs, read);
            (is_changed, table.values().copied().collect::<Vec<_>>())
        };
        assert_eq!(update(&[kv("a", 1), kv("b", 2)]), (true, vec![1, 1]));
        assert_eq!(update(&[kv("a", 1), kv("b", 2)]), (false, vec![1, 1]));
        assert_eq!(update(&[kv("a", 1), kv("b", 3)]), (true, vec![1, 2]));
        assert_eq!(update(&[kv("b", 3)]), (true, vec![2]));
        assert_eq!(update(&[]), (true, vec![]));
        assert_eq!(update(&[]), (false, vec![]));
    }
}
