//! A token for one prefix reaches what begins so, and nothing else, whatever it asks: against a model that looks at each
//! key.

use std::collections::BTreeMap;

use ::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Guarded, deny};

const KEYS: [&str; 7] = ["a", "a/", "a/b", "a/b/c", "ab", "b", "b/a"];

#[derive(Clone, Copy, Debug)]
enum Ask {
    Get,
    List,
    Keys,
    Put,
    Delete,
    DeleteTree,
    TxnGet,
    TxnTree,
    TxnSet,
    TxnDeleteTree,
    /// Sets two keys: this one and one that all may be denied.
    TxnTwo,
}

fn asks() -> impl Strategy<Value = (Ask, &'static str)> {
    use Ask::*;
    let asks = vec![
        Get,
        List,
        Keys,
        Put,
        Delete,
        DeleteTree,
        TxnGet,
        TxnTree,
        TxnSet,
        TxnDeleteTree,
        TxnTwo,
    ];
    (prop::sample::select(asks), prop::sample::select(KEYS.to_vec()))
}

type Keys = BTreeMap<String, String>;

/// What is there, and what the token may do.
struct Model<'p> {
    prefix: &'p str,
    writes: bool,
    keys: Keys,
}

impl Model<'_> {
    fn may_read(&self, key: &str) -> bool {
        key.starts_with(self.prefix)
    }

    fn may_write(&self, key: &str) -> bool {
        self.writes && self.may_read(key)
    }

    /// Does what is asked; none if it is denied, else the keys that it shows.
    fn ask(&mut self, ask: Ask, key: &str) -> Option<Vec<String>> {
        let below =
            |keys: &Keys| keys.keys().filter(|k| k.starts_with(key)).cloned().collect::<Vec<_>>();
        match ask {
            Ask::Get => self
                .may_read(key)
                .then(|| self.keys.keys().filter(|k| *k == key).cloned().collect()),
            Ask::TxnGet => {
                Some(self.keys.keys().filter(|k| *k == key && self.may_read(k)).cloned().collect())
            }
            Ask::List | Ask::Keys | Ask::TxnTree => {
                Some(below(&self.keys).into_iter().filter(|k| self.may_read(k)).collect())
            }
            Ask::Put | Ask::TxnSet => self.may_write(key).then(|| {
                self.keys.insert(key.to_owned(), "new".to_owned());
                if matches!(ask, Ask::TxnSet) { vec![key.to_owned()] } else { Vec::new() }
            }),
            Ask::TxnTwo => (self.may_write(key) && self.may_write("b")).then(|| {
                self.keys.insert(key.to_owned(), "new".to_owned());
                self.keys.insert("b".to_owned(), "new".to_owned());
                vec![key.to_owned(), "b".to_owned()]
            }),
            Ask::Delete => self.may_write(key).then(|| {
                self.keys.remove(key);
                Vec::new()
            }),
            Ask::DeleteTree | Ask::TxnDeleteTree => self.may_write(key).then(|| {
                self.keys.retain(|k, _| !k.starts_with(key));
                Vec::new()
            }),
        }
    }
}

/// Asks the server: none if it is denied, else the keys that it shows.
async fn ask(all: &Guarded, secret: &str, ask: Ask, key: &str) -> Option<Vec<String>> {
    let operation = |verb: &str, key: &str| json!({ "KV": { "Verb": verb, "Key": key, "Value": STANDARD.encode("new") } });
    let txn = match ask {
        Ask::TxnGet => vec![operation("get", key)],
        Ask::TxnTree => vec![operation("get-tree", key)],
        Ask::TxnSet => vec![operation("set", key)],
        Ask::TxnTwo => vec![operation("set", key), operation("set", "b")],
        Ask::TxnDeleteTree => vec![operation("delete-tree", key)],
        _ => Vec::new(),
    };
    let at = |query: &str| format!("/v1/kv/{key}{query}");
    let said = match ask {
        Ask::Get => all.ask(secret, "GET", &at(""), "").await,
        Ask::List => all.ask(secret, "GET", &at("?recurse"), "").await,
        Ask::Keys => all.ask(secret, "GET", &at("?keys"), "").await,
        Ask::Put => all.ask(secret, "PUT", &at(""), "new").await,
        Ask::Delete => all.ask(secret, "DELETE", &at(""), "").await,
        Ask::DeleteTree => all.ask(secret, "DELETE", &at("?recurse"), "").await,
        _ => all.ask(secret, "PUT", "/v1/txn", Value::from(txn).to_string()).await,
    };
    match said.status {
        StatusCode::FORBIDDEN => None,
        StatusCode::CONFLICT if said.text().contains("Permission denied") => None,
        // A key that is not there, which only who may read it is told.
        StatusCode::CONFLICT if matches!(ask, Ask::TxnGet) => Some(Vec::new()),
        StatusCode::NOT_FOUND => Some(Vec::new()),
        StatusCode::OK => Some(shown(&said.json())),
        status => panic!("{ask:?} {key}: {status} {}", said.text()),
    }
}

/// The keys of an answer.
fn shown(answer: &Value) -> Vec<String> {
    let all = match answer {
        Value::Object(report) => report["Results"].as_array().cloned().unwrap_or_default(),
        Value::Array(all) => all.clone(),
        _ => Vec::new(),
    };
    let key = |item: Value| match &item {
        Value::String(key) => key.clone(),
        item if item.get("KV").is_some() => item["KV"]["Key"].as_str().unwrap().to_owned(),
        item => item["Key"].as_str().unwrap().to_owned(),
    };
    all.into_iter().map(key).collect()
}

/// All keys as they are.
async fn keys(all: &Guarded) -> Keys {
    let said = all.ask(&all.management, "GET", "/v1/kv/?recurse", "").await;
    if said.body.is_empty() {
        return Keys::new();
    }
    let entry = |entry: &Value| {
        let value = STANDARD.decode(entry["Value"].as_str().unwrap()).unwrap();
        (entry["Key"].as_str().unwrap().to_owned(), String::from_utf8(value).unwrap())
    };
    said.json().as_array().unwrap().iter().map(entry).collect()
}

async fn run(
    all: &Guarded,
    (policy, secret): (&str, &str),
    (prefix, writes): (&str, bool),
    asked: &[(Ask, &'static str)],
) -> Result<(), TestCaseError> {
    let word = if writes { "write" } else { "read" };
    let rules = format!("key_prefix {prefix:?} {{ policy = {word:?} }}");
    let body = json!({ "Name": "prefix", "Rules": rules }).to_string();
    all.manage("PUT", policy, body).await;
    all.manage("DELETE", "/v1/kv/?recurse", "").await;
    for key in KEYS {
        all.manage("PUT", &format!("/v1/kv/{key}"), "old").await;
    }
    let old = KEYS.map(|key| (key.to_owned(), "old".to_owned()));
    let mut model = Model { prefix, writes, keys: old.into() };
    for (what, key) in asked {
        let found = ask(all, secret, *what, key).await;
        prop_assert_eq!(found, model.ask(*what, key), "{:?} {}", what, key);
        prop_assert_eq!(&keys(all).await, &model.keys, "{:?} {}", what, key);
    }
    Ok(())
}

#[test]
fn a_token_for_one_prefix_reaches_nothing_else() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = runtime.block_on(deny());
    let (_, secret) = runtime.block_on(all.token("prefix", ""));
    let policy =
        runtime.block_on(all.manage("GET", "/v1/acl/policy/name/prefix", ""))["ID"].clone();
    let policy = format!("/v1/acl/policy/{}", policy.as_str().unwrap());
    let prefixes = prop::sample::select(vec!["", "a", "a/", "a/b", "b", "b/", "c"]);
    let cases = ((prefixes, any::<bool>()), prop::collection::vec(asks(), 1..24));
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(48) });
    let checked = runner
        .run(&cases, |(rule, asked)| runtime.block_on(run(&all, (&policy, &secret), rule, &asked)));
    if let Err(error) = checked {
        panic!("{error}");
    }
}
