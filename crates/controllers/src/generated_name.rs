//! Names of things that reconcilers make, as a function of what they are made for.
//!
//! A reconciler sees only its cache. Were names random, a plan made twice from the same state,
//! because the cache lags or an answer was lost, would make twice the pods. So an owner's pods
//! take the first names of a sequence, fixed for a leader's term, that nobody has or has had: the
//! same state gives the same names, and the second creation meets `AlreadyExists`. A new leader does
//! not know what names there were, so each term has its own sequence.

use std::hash::Hash;

use pontoon_model::resource;
use pontoon_scheduler::fnv::hash_of;
use serde_json::Value;

use crate::cache::Cache;
use crate::key::Key;

/// Letters and digits that make no words and are not mistaken for each other, as Kubernetes has it.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// A generated name is a label of DNS.
const LONGEST: usize = 63;

/// Some letters that stand for the value.
pub(crate) fn letters<T: Hash + ?Sized>(of: &T, count: usize) -> String {
    let mut rest = hash_of(of);
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        let at = usize::try_from(rest % 27).expect("a remainder of 27 fits");
        text.push(char::from(ALPHABET[at]));
        rest /= 27;
    }
    text
}

/// `base-suffix`, the base cut so that the whole is a DNS label.
pub(crate) fn join(base: &str, suffix: &str) -> String {
    let mut room = LONGEST.saturating_sub(suffix.len() + 1).min(base.len());
    while !base.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}-{suffix}", &base[..room])
}

/// The names for an owner's next pods, an endless sequence. `slot` tells apart the sequences of
/// one owner, as a DaemonSet has one for each node.
pub(crate) fn next_pods<'a>(
    cache: &'a Cache,
    owner: &'a Key,
    uid: &'a str,
    slot: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let names = (0u64..).map(move |n| join(&owner.name, &letters(&(uid, slot, cache.term, n), 5)));
    names.filter(move |name| {
        let key = Key::new(resource::PODS, owner.namespace.as_deref(), name);
        cache.entry(&key).is_none() && !cache.is_retired(uid, name)
    })
}

/// The hash of a JSON value that does not depend on the order of its keys; nulls count as absent.
pub(crate) fn json_hash(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bool(b) => hash_of(&(1u8, b)),
        Value::Number(n) => hash_of(&(2u8, n.to_string())),
        Value::String(s) => hash_of(&(3u8, s)),
        Value::Array(items) => hash_of(&(4u8, items.iter().map(json_hash).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, v)| !v.is_null()).collect();
            fields.sort_by_key(|(k, _)| *k);
            let hashes: Vec<_> = fields.into_iter().map(|(k, v)| (k, json_hash(v))).collect();
            hash_of(&(5u8, hashes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_dns_labels() {
        let long = "a".repeat(80);
        assert_eq!(join(&long, "bcdfg").len(), LONGEST);
        assert_eq!(join("web", "bcdfg"), "web-bcdfg");
    }

    #[test]
    fn json_hash_ignores_order_and_nulls() {
        let a = json!({"a": 1, "b": [1, {"c": "x", "d": null}]});
        let b = json!({"b": [1, {"c": "x"}], "a": 1, "z": null});
        assert_eq!(json_hash(&a), json_hash(&b));
        assert_ne!(json_hash(&json!([1, 2])), json_hash(&json!([2, 1])));
        assert_ne!(json_hash(&json!("1")), json_hash(&json!(1)));
    }
}
