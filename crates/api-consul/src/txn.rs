//! `/v1/txn`: several operations on keys, all of them or none.

mod decode;

use http::StatusCode;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::kv::Shown;
use crate::op::{Item, OpError};
use crate::permit::Wish;
use crate::refusal::Refusal;
use crate::transact::{Outcome, read_only, transact};

/// Operations of one transaction, as in Consul 1.8.
const OPS_MAX: usize = 64;

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'i> {
    results: Option<Vec<Line<'i>>>,
    errors: Option<Vec<Failure>>,
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
    let ops = decode::operations(&call.body, OPS_MAX)?;
    let permit = call.permit.as_ref();
    if !ops.iter().all(|op| op.verb.only_reads()) {
        let outcome = transact(call.store(), &ops, permit).await?;
        return report(&call, outcome);
    }
    let options = call.options()?;
    let outcome = read_only(call.store(), &ops, permit, options.consistency.read()).await?;
    Ok(report(&call, outcome)?.with_meta(call.meta(&options, None)))
}

fn report(call: &Call, outcome: Outcome) -> Result<Answer, Refusal> {
    match outcome {
        Outcome::Done(items) => {
            let lines = items.iter().filter(|item| call.permit.allows(Wish::KeyRead(&item.key)));
            let lines = lines.map(line).collect();
            call.json(&Report { results: Some(lines), errors: None })
        }
        Outcome::Undone(errors) => {
            let failure =
                |(op_index, error): (usize, OpError)| Failure { op_index, what: error.to_string() };
            let errors = Some(errors.into_iter().map(failure).collect());
            let report = Report { results: None, errors };
            Answer::json_with(StatusCode::CONFLICT, &report, call.pretty())
        }
    }
}

fn line(item: &Item) -> Line<'_> {
    let shown = Shown::of(&item.key, &item.entry);
    Line { kv: if item.shows_value { shown } else { shown.without_value() } }
}
