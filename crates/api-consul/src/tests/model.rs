//! Keys and sessions against a simple model: after every step the whole state is what the model says.

mod state;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Bed, bed};
use state::{Model, Step, Verb};

const KEYS: [&str; 5] = ["a", "a/b", "a/b/c", "b", "b//%"];
const SESSIONS: usize = 3;

fn verbs() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => (0..4_u64).prop_map(|flags| Verb::Set { flags }),
        2 => any::<bool>().prop_map(|right| Verb::Cas { right }),
        5 => (0..SESSIONS).prop_map(Verb::Lock),
        3 => (0..SESSIONS).prop_map(Verb::Unlock),
        2 => Just(Verb::Delete),
        1 => any::<bool>().prop_map(|right| Verb::DeleteCas { right }),
        1 => Just(Verb::DeleteTree),
        1 => any::<bool>().prop_map(|right| Verb::CheckIndex { right }),
        1 => (0..SESSIONS).prop_map(Verb::CheckSession),
        1 => Just(Verb::CheckNotExists),
    ]
}

fn operations() -> impl Strategy<Value = (Verb, &'static str, &'static str)> {
    (verbs(), prop::sample::select(KEYS.to_vec()), prop::sample::select(vec!["", "1", "2"]))
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => operations().prop_map(|(verb, key, value)| Step::Txn(vec![(verb, key, value)])),
        3 => prop::collection::vec(operations(), 2..5).prop_map(Step::Txn),
        1 => (0..SESSIONS, any::<bool>(), any::<bool>())
            .prop_map(|(session, deletes, delays)| Step::Create { session, deletes, delays }),
        1 => (0..SESSIONS).prop_map(Step::Destroy),
        1 => Just(Step::TimePasses),
    ]
}

/// The real side: which session each number stands for, and where the case's keys are.
struct Real<'b> {
    bed: &'b Bed,
    prefix: String,
    sessions: [String; SESSIONS],
}

impl Real<'_> {
    async fn step(&mut self, step: &Step, model: &Model) -> bool {
        match step {
            Step::Create { session, deletes, delays } => {
                let behavior = if *deletes { "delete" } else { "release" };
                let delay = if *delays { "60s" } else { "0s" };
                let body = json!({"Behavior": behavior, "LockDelay": delay}).to_string();
                self.sessions[*session] = self.bed.session(&body).await;
                true
            }
            Step::Destroy(session) => {
                let uri = format!("/v1/session/destroy/{}", self.sessions[*session]);
                self.bed.put(&uri, "").await
            }
            Step::TimePasses => {
                self.bed.time_passes().await;
                true
            }
            Step::Txn(ops) => {
                let lines: Vec<Value> = ops.iter().map(|op| self.line(op, model)).collect();
                let said = self.bed.ask("PUT", "/v1/txn", Value::from(lines).to_string()).await;
                match said.status.as_u16() {
                    200 => true,
                    409 => false,
                    _ => panic!("{}", said.text()),
                }
            }
        }
    }

    fn line(&self, (verb, key, value): &(Verb, &str, &str), model: &Model) -> Value {
        let mut kv = json!({
            "Verb": verb.word(),
            "Key": format!("{}{key}", self.prefix),
            "Value": base64_of(value),
        });
        let right_index = model.index(key);
        match *verb {
            Verb::Set { flags } => kv["Flags"] = json!(flags),
            Verb::Cas { right } | Verb::DeleteCas { right } | Verb::CheckIndex { right } => {
                kv["Index"] = json!(if right { right_index } else { right_index + 1 });
            }
            Verb::Lock(session) | Verb::Unlock(session) | Verb::CheckSession(session) => {
                kv["Session"] = json!(self.sessions[session]);
            }
            Verb::Delete | Verb::DeleteTree | Verb::CheckNotExists => {}
        }
        json!({ "KV": kv })
    }

    /// The entries as they are.
    async fn entries(&self) -> Vec<Value> {
        let said = self.bed.get(&format!("/v1/kv/{}?recurse", self.prefix)).await;
        if said.body.is_empty() { Vec::new() } else { said.json().as_array().unwrap().clone() }
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Compares an entry with the model's, and tells the model the indexes if it was written.
fn compare(model: &mut Model, real: &Real<'_>, entries: &[Value]) -> Result<(), TestCaseError> {
    let keys: Vec<&str> =
        entries.iter().map(|entry| &entry["Key"].as_str().unwrap()[real.prefix.len()..]).collect();
    prop_assert_eq!(&keys, &model.keys());
    let newest = model.newest;
    for (key, entry) in keys.into_iter().zip(entries) {
        let wanted = model.entry(key);
        let value = (!wanted.value.is_empty()).then(|| base64_of(wanted.value));
        prop_assert_eq!(&entry["Value"], &json!(value), "{}", key);
        prop_assert_eq!(&entry["Flags"], &json!(wanted.flags), "{}", key);
        prop_assert_eq!(&entry["LockIndex"], &json!(wanted.lock_index), "{}", key);
        let holder = wanted.session.map(|session| real.sessions[session].as_str());
        prop_assert_eq!(&entry["Session"], &json!(holder), "{}", key);
        let indexes = ["CreateIndex", "ModifyIndex"].map(|name| entry[name].as_u64().unwrap());
        let [create, modify] = indexes;
        if wanted.modify == 0 {
            prop_assert!(modify > newest, "{key} was written: {modify} > {newest}");
        } else {
            prop_assert_eq!(modify, wanted.modify, "{} was not written", key);
        }
        let created = if wanted.create == 0 { modify } else { wanted.create };
        prop_assert_eq!(create, created, "{}", key);
        model.learn(key, create, modify);
    }
    Ok(())
}

async fn run(bed: &Bed, case: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let sessions = std::array::from_fn(|_| uuid::Uuid::nil().to_string());
    let mut real = Real { bed, prefix: format!("case-{case}/"), sessions };
    let mut model = Model::default();
    for step in steps {
        if model.would_lose_a_session(step) {
            continue;
        }
        let done = real.step(step, &model).await;
        prop_assert_eq!(done, model.step(step), "{:?}", step);
        compare(&mut model, &real, &real.entries().await)?;
    }
    Ok(())
}

#[test]
fn keys_and_sessions_are_as_in_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bed = runtime.block_on(bed());
    let case = std::cell::Cell::new(0);
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(96) });
    let checked = runner.run(&prop::collection::vec(steps(), 1..40), |steps| {
        case.set(case.get() + 1);
        runtime.block_on(run(&bed, case.get(), &steps))
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    drop(bed);
}
