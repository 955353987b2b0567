//! `/v1/txn`: several operations on keys, all of them or none.

mod decode;

use http::StatusCode;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::kv::Shown;
use crate::op::{Item, KvOp, OpError};
use crate::permit::Wish;
use crate::refusal::Refusal;
use crate::transact::{Outcome, read_only, transact};

/// Operations of one transaction. Consul 1.8 takes half as many, later ones these.
const OPS_MAX: usize = 128;

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'i> {
    results: Option<Vec<Line<'i>>>,
    errors: Option<Vec<Failure>>,
    #[serde(flatten)]
    read: Option<ReadMeta>,
}

/// What Consul adds to the report of a transaction that only reads.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadMeta {
    index: u64,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
}

#[derive(Serialize)]
struct Line<'i> {
    #[serde(rename = "KV")]
    kv: Shown<'i>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    op_index: usize,
    what: String,
}

pub(crate) async fn answer(call: Call) -> Result<Answer, Refusal> {
    let lines = decode::operations(&call.body, OPS_MAX)?;
    let permit = &call.permit;
    let writes = lines.iter().flatten().any(|op| !op.verb.only_reads());
    let options = call.options()?;
    let meta = call.meta(&options, None);
    let read = (!writes).then_some(ReadMeta {
        index: 0,
        last_contact: 0,
        known_leader: meta.known_leader,
        consistency_level: "",
    });
    let outcome = match read_all(lines) {
        Err(unknown) => Outcome::Undone(unknown),
        Ok(ops) if writes => transact(call.store(), &ops, permit).await?,
        Ok(ops) => read_only(call.store(), &ops, permit, options.consistency.read()).await?,
    };
    let answer = report(&call, outcome, read)?;
    Ok(if writes { answer } else { answer.with_meta(meta) })
}

/// All operations, or the errors of those that are none.
fn read_all(lines: Vec<Result<KvOp, String>>) -> Result<Vec<KvOp>, Vec<(usize, OpError)>> {
    let (mut ops, mut unknown) = (Vec::with_capacity(lines.len()), Vec::new());
    for (place, line) in lines.into_iter().enumerate() {
        match line {
            Ok(op) => ops.push(op),
            Err(words) => unknown.push((place, OpError::Failed(words))),
        }
    }
    if unknown.is_empty() { Ok(ops) } else { Err(unknown) }
}

fn report(call: &Call, outcome: Outcome, read: Option<ReadMeta>) -> Result<Answer, Refusal> {
    match outcome {
        Outcome::Done(items) => {
            let lines = items.iter().filter(|item| call.permit.allows(Wish::KeyRead(&item.key)));
            let lines = lines.map(line).collect();
            call.json(&Report { results: Some(lines), errors: None, read })
        }
        Outcome::Undone(errors) => {
            let failure =
                |(op_index, error): (usize, OpError)| Failure { op_index, what: error.to_string() };
            let errors = Some(errors.into_iter().map(failure).collect());
            let report = Report { results: None, errors, read };
            Answer::json_with(StatusCode::CONFLICT, &report, call.pretty())
        }
    }
}

fn line(item: &Item) -> Line<'_> {
    let shown = Shown::of(&item.key, &item.entry);
    Line { kv: if item.shows_value { shown } else { shown.without_value() } }
}
