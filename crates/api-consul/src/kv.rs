//! `/v1/kv/`: reads, writes and deletes of keys.

mod show;

use bytes::Bytes;
use http::Method;
use pontoon_store::{KeyValue, Range};

use crate::answer::Answer;
use crate::blocking;
use crate::call::Call;
use crate::entry::Entry;
use crate::keyspace;
use crate::op::{KvOp, OpError, Operation, Verb};
use crate::permit::Wish;
use crate::refusal::Refusal;
use crate::transact::{Outcome, transact};

pub(crate) use show::Shown;

pub(crate) async fn answer(call: Call) -> Result<Answer, Refusal> {
    match call.method {
        Method::PUT => put(&call).await,
        Method::DELETE => delete(&call).await,
        _ if call.query.has("keys") => keys(&call).await,
        _ if call.query.has("recurse") => list(&call).await,
        _ => get(&call).await,
    }
}

async fn get(call: &Call) -> Result<Answer, Refusal> {
    let key = key(call)?;
    call.require(Wish::KeyRead(&key))?;
    let options = call.options()?;
    let range = Range::key(keyspace::kv(&key));
    let found = blocking::query(call.store(), &options, range).await?;
    let meta = call.meta(&options, Some(found.index));
    let answer = match found.response.kvs.first() {
        None => Answer::nothing(),
        Some(kv) if call.query.has("raw") => Answer::raw(entry(kv)?.value),
        Some(kv) => call.json(&[Shown::of(&key, &entry(kv)?)])?,
    };
    Ok(answer.with_meta(meta))
}

async fn list(call: &Call) -> Result<Answer, Refusal> {
    call.require(Wish::KeyList(&call.rest))?;
    let options = call.options()?;
    let range = Range::prefix(keyspace::kv(&call.rest));
    let found = blocking::query(call.store(), &options, range).await?;
    let meta = call.meta(&options, Some(found.index));
    let mut shown = Vec::with_capacity(found.response.kvs.len());
    for kv in &found.response.kvs {
        let key = &kv.key[keyspace::KV.len()..];
        if call.permit.allows(Wish::KeyRead(key)) {
            shown.push(Shown::of(key, &entry(kv)?));
        }
    }
    let answer = if shown.is_empty() { Answer::nothing() } else { call.json(&shown)? };
    Ok(answer.with_meta(meta))
}

async fn keys(call: &Call) -> Result<Answer, Refusal> {
    call.require(Wish::KeyList(&call.rest))?;
    let options = call.options()?;
    let range = Range { keys_only: true, ..Range::prefix(keyspace::kv(&call.rest)) };
    let found = blocking::query(call.store(), &options, range).await?;
    let meta = call.meta(&options, Some(found.index));
    // Consul once misspelt it, and goes on to understand both.
    let separator = call.query.bytes("separator").or_else(|| call.query.bytes("seperator"));
    let separator = separator.unwrap_or_default();
    let mut shown: Vec<&[u8]> = Vec::new();
    for kv in &found.response.kvs {
        let key = &kv.key[keyspace::KV.len()..];
        if !call.permit.allows(Wish::KeyRead(key)) {
            continue;
        }
        let key = cut(key, call.rest.len(), separator);
        // Keys are in order, so that those with one beginning follow each other.
        if shown.last() != Some(&key) {
            shown.push(key);
        }
    }
    if shown.is_empty() && !call.rest.is_empty() {
        return Ok(Answer::nothing().with_meta(meta));
    }
    let shown: Vec<_> = shown.into_iter().map(String::from_utf8_lossy).collect();
    Ok(call.json(&shown)?.with_meta(meta))
}

/// A key up to the first separator after the prefix.
fn cut<'k>(key: &'k [u8], prefix: usize, separator: &[u8]) -> &'k [u8] {
    if separator.is_empty() {
        return key;
    }
    let mut windows = key[prefix..].windows(separator.len());
    let found = windows.position(|window| window == separator);
    found.map_or(key, |at| &key[..prefix + at + separator.len()])
}

async fn put(call: &Call) -> Result<Answer, Refusal> {
    let key = key(call)?;
    call.query.at_most_one_of(&["cas", "acquire", "release"])?;
    let flags = call.query.number("flags")?.unwrap_or(0);
    let mut op = KvOp { flags, value: call.body.clone(), ..KvOp::new(Verb::Set, key) };
    if let Some(index) = call.query.number("cas")? {
        (op.verb, op.index) = (Verb::Cas, index);
    }
    for (name, verb) in [("acquire", Verb::Lock), ("release", Verb::Unlock)] {
        if call.query.has(name) {
            (op.verb, op.session) = (verb, call.query.text(name).into_owned());
        }
    }
    one(call, op).await
}

async fn delete(call: &Call) -> Result<Answer, Refusal> {
    call.query.at_most_one_of(&["recurse", "cas"])?;
    if call.query.has("recurse") {
        return one(call, KvOp::new(Verb::DeleteTree, call.rest.clone())).await;
    }
    let mut op = KvOp::new(Verb::Delete, key(call)?);
    if let Some(index) = call.query.number("cas")? {
        (op.verb, op.index) = (Verb::DeleteCas, index);
    }
    one(call, op).await
}

/// Does one operation; true if it was done, false if things were not as the client wants them.
async fn one(call: &Call, op: KvOp) -> Result<Answer, Refusal> {
    let op = Operation::Key(op);
    let outcome = transact(&call.server, &[op], &call.permit).await?;
    let done = match outcome {
        Outcome::Done(_) => true,
        Outcome::Undone(errors) => match errors.into_iter().next() {
            Some((_, OpError::Denied)) => return Err(Refusal::Denied),
            Some((_, OpError::Failed(words))) => return Err(Refusal::Failed(words)),
            _ => false,
        },
    };
    call.json(&done)
}

/// The key that a request is about.
fn key(call: &Call) -> Result<Bytes, Refusal> {
    match call.rest.is_empty() {
        true => Err(Refusal::bad_request("Missing key name")),
        false => Ok(call.rest.clone()),
    }
}

fn entry(kv: &KeyValue) -> Result<Entry, Refusal> {
    Entry::decode(kv).map_err(|error| Refusal::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_at_the_separator() {
        let cut = |key: &'static str, prefix, separator: &str| {
            String::from_utf8_lossy(cut(key.as_bytes(), prefix, separator.as_bytes())).into_owned()
        };
        assert_eq!(cut("a/b/c", 0, "/"), "a/");
        assert_eq!(cut("a/b/c", 2, "/"), "a/b/");
        assert_eq!(cut("a/b", 2, "/"), "a/b");
        assert_eq!(cut("a/b", 0, ""), "a/b");
        assert_eq!(cut("a::b::c", 1, "::"), "a::");
    }
}
