//! `/v1/txn`: several operations on keys, nodes, services and checks, all of them or none.

mod decode;

use http::StatusCode;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::shown::{ShownCheck, ShownNode, ShownService};
use crate::kv::Shown;
use crate::op::{Item, OpError, Operation};
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

/// What one operation has to show.
#[derive(Serialize)]
enum Line<'i> {
    #[serde(rename = "KV")]
    Key(Shown<'i>),
    Node(ShownNode<'i>),
    Service(ShownService<'i>),
    Check(ShownCheck<'i>),
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
    let writes = lines.iter().flatten().any(|op| !op.only_reads());
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
        Ok(ops) if writes => transact(&call.server, &ops, permit).await?,
        Ok(ops) => read_only(&call.server, &ops, permit, options.consistency.read()).await?,
    };
    let answer = report(&call, outcome, read)?;
    Ok(if writes { answer } else { answer.with_meta(meta) })
}

/// All operations, or the errors of those that are none.
fn read_all(
    lines: Vec<Result<Operation, String>>,
) -> Result<Vec<Operation>, Vec<(usize, OpError)>> {
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
            let datacenter = &call.server.inner.settings.datacenter;
            let seen = items.iter().filter(|item| may_see(call, item));
            let lines = seen.map(|item| line(item, datacenter)).collect();
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

/// What may not be read is left out, as of all lists. What was read of the catalog was permitted before.
fn may_see(call: &Call, item: &Item) -> bool {
    match item {
        Item::Entry { key, .. } => call.permit.allows(Wish::KeyRead(key)),
        Item::Node(node) => call.permit.allows(Wish::NodeRead(&node.name)),
        Item::Service(service) => call.permit.allows(Wish::ServiceRead(&service.name)),
        Item::Check(item) => call.permit.allows(match &item.service {
            Some(service) => Wish::ServiceRead(&service.name),
            None => Wish::NodeRead(&item.node),
        }),
    }
}

fn line<'i>(item: &'i Item, datacenter: &'i str) -> Line<'i> {
    match item {
        Item::Entry { key, entry, shows_value } => {
            let shown = Shown::of(key, entry);
            Line::Key(if *shows_value { shown } else { shown.without_value() })
        }
        Item::Node(node) => Line::Node(ShownNode::of(node, datacenter)),
        Item::Service(service) => Line::Service(ShownService::of(service).with_null_tags()),
        Item::Check(item) => {
            let shown = ShownCheck::beside(&item.node, item.service.as_ref(), &item.check);
            Line::Check(shown.with_null_tags())
        }
    }
}
