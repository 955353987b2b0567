//! Transactions: etcd's onto the store's, and the answers back into the shape that was asked.

use bytes::Bytes;
use pontoon_store::TxnResponse;
use pontoon_store::{Compare, CompareOp, Op, OpResponse, Operand, Range, RangeResponse, Txn};

use super::select::Selection;
use super::{deletes, key_value, own, put};
use crate::keyspace::Span;
use crate::proto::{self, CompareResult, CompareTarget, Request, Response, ResponseHeader};
use crate::server::{revision, signed};
use crate::status::{Code, EMPTY_KEY, KEY_NOT_FOUND, PERMISSION_DENIED, Status, TOO_MANY_OPS};

/// Operations of one transaction, those of inner ones included, as in etcd.
const OPS_MAX: usize = 128;

/// What was asked, to make the answer of.
pub(super) struct Shape {
    success: Vec<Step>,
    failure: Vec<Step>,
}

/// One operation; those on ranges may be several of the store's.
enum Step {
    Range(Selection, usize),
    Put,
    Delete(usize),
    Txn(Shape),
}

/// True if all that is done are reads that this member may answer from its own copy; as in etcd.
pub(super) fn is_serializable(request: &proto::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(Request::Range(range)) if range.serializable))
}

/// A transaction as the store does it, and the shape of its answer.
pub(super) fn translate(request: proto::TxnRequest) -> Result<(Txn, Shape), Status> {
    translate_within(request, OPS_MAX)
}

fn translate_within(request: proto::TxnRequest, limit: usize) -> Result<(Txn, Shape), Status> {
    let proto::TxnRequest { compare, success, failure } = request;
    let most = compare.len().max(success.len()).max(failure.len());
    let left = limit.checked_sub(most).ok_or(TOO_MANY_OPS)?;
    let mut txn = Txn::new();
    txn.compare = compare.into_iter().map(translate_compare).collect::<Result<_, _>>()?;
    let success = branch(success, left, &mut txn.success)?;
    let failure = branch(failure, left, &mut txn.failure)?;
    Ok((txn, Shape { success, failure }))
}

fn branch(
    requests: Vec<proto::RequestOp>,
    left: usize,
    ops: &mut Vec<Op>,
) -> Result<Vec<Step>, Status> {
    requests.into_iter().map(|request| step(request, left, ops)).collect()
}

fn step(request: proto::RequestOp, left: usize, ops: &mut Vec<Op>) -> Result<Step, Status> {
    let before = ops.len();
    match request.request.ok_or(KEY_NOT_FOUND)? {
        Request::Range(request) => {
            let selection = Selection::of(&request)?;
            let range = selection.range(revision(request.revision));
            let parts = Span::asked(own(&request.key), own(&request.range_end)).visible();
            ops.extend(
                parts
                    .into_iter()
                    .flatten()
                    .map(|Span { key, end }| Op::Range(Range { key, end, ..range.clone() })),
            );
            Ok(Step::Range(selection, ops.len() - before))
        }
        Request::Put(request) => {
            ops.push(Op::Put(put(request)?));
            Ok(Step::Put)
        }
        Request::DeleteRange(request) => {
            if request.key.is_empty() {
                return Err(EMPTY_KEY);
            }
            ops.extend(deletes(request).into_iter().flatten());
            Ok(Step::Delete(ops.len() - before))
        }
        Request::Txn(request) => {
            let (txn, shape) = translate_within(request, left)?;
            ops.push(Op::Txn(Box::new(txn)));
            Ok(Step::Txn(shape))
        }
    }
}

fn translate_compare(compare: proto::Compare) -> Result<Compare, Status> {
    if compare.key.is_empty() {
        return Err(EMPTY_KEY);
    }
    let unknown = |_| Status::new(Code::InvalidArgument, "etcdserver: unknown kind of compare");
    let op = match CompareResult::try_from(compare.result).map_err(unknown)? {
        CompareResult::Equal => CompareOp::Equal,
        CompareResult::Greater => CompareOp::Greater,
        CompareResult::Less => CompareOp::Less,
        CompareResult::NotEqual => CompareOp::NotEqual,
    };
    let target = CompareTarget::try_from(compare.target).map_err(unknown)?;
    let (op, operand) = operand(target, op, compare.operand);
    let span = Span::asked(own(&compare.key), own(&compare.range_end));
    // A compare could be asked until it has told a hidden value.
    if span.touches_hidden() {
        return Err(PERMISSION_DENIED);
    }
    Ok(Compare { key: span.key, end: span.end, op, operand })
}

/// What a key is compared with; an operand of another kind than the target counts as zero, as in etcd.
fn operand(
    target: CompareTarget,
    op: CompareOp,
    operand: Option<proto::Operand>,
) -> (CompareOp, Operand) {
    use proto::Operand as Asked;
    match target {
        CompareTarget::Version => {
            let number = if let Some(Asked::Version(n)) = operand { n } else { 0 };
            number_operand(op, number, Operand::Version)
        }
        CompareTarget::Create => {
            let number = if let Some(Asked::Create(n)) = operand { n } else { 0 };
            number_operand(op, number, Operand::Create)
        }
        CompareTarget::Mod => {
            let number = if let Some(Asked::Mod(n)) = operand { n } else { 0 };
            number_operand(op, number, Operand::Mod)
        }
        CompareTarget::Value => {
            let value = if let Some(Asked::Value(v)) = operand { own(&v) } else { Bytes::new() };
            (op, Operand::Value(value))
        }
        CompareTarget::Lease => {
            let number = if let Some(Asked::Lease(n)) = operand { n } else { 0 };
            (op, Operand::Lease(number))
        }
    }
}

/// Revisions and versions are never negative, so a compare with a negative number is decided already; it becomes
/// one with the largest number there is, which no revision reaches.
fn number_operand(
    op: CompareOp,
    number: i64,
    make: impl FnOnce(u64) -> Operand,
) -> (CompareOp, Operand) {
    match u64::try_from(number) {
        Ok(number) => (op, make(number)),
        Err(_) => match op {
            CompareOp::Equal | CompareOp::Less => (CompareOp::Equal, make(u64::MAX)),
            CompareOp::Greater | CompareOp::NotEqual => (CompareOp::NotEqual, make(u64::MAX)),
        },
    }
}

impl Shape {
    /// The answer, made of the store's.
    pub(super) fn answer(
        &self,
        header: Option<ResponseHeader>,
        done: TxnResponse,
    ) -> Result<proto::TxnResponse, Status> {
        let steps = if done.succeeded { &self.success } else { &self.failure };
        let mut answers = done.responses.into_iter();
        let answer = |step: &Step| {
            let response = Some(step.answer(header, &mut answers)?);
            Ok(proto::ResponseOp { response })
        };
        let responses = steps.iter().map(answer).collect::<Result<_, Status>>()?;
        Ok(proto::TxnResponse { header, succeeded: done.succeeded, responses })
    }
}

impl Step {
    fn answer(
        &self,
        header: Option<ResponseHeader>,
        answers: &mut impl Iterator<Item = OpResponse>,
    ) -> Result<Response, Status> {
        Ok(match self {
            Step::Range(selection, parts) => {
                let mut found = RangeResponse::default();
                for answer in answers.take(*parts) {
                    let OpResponse::Range(part) = answer else { continue };
                    found.count += part.count;
                    found.kvs.extend(part.kvs);
                }
                Response::Range(selection.answer(header, found)?)
            }
            Step::Put => {
                let prev = match answers.next() {
                    Some(OpResponse::Put { prev }) => prev,
                    _ => None,
                };
                let prev_kv = prev.map(|kv| key_value(&kv, false));
                Response::Put(proto::PutResponse { header, prev_kv })
            }
            Step::Delete(parts) => Response::DeleteRange(deleted(header, answers.take(*parts))),
            Step::Txn(shape) => {
                let done = match answers.next() {
                    Some(OpResponse::Txn(done)) => done,
                    _ => TxnResponse::default(),
                };
                Response::Txn(shape.answer(header, done)?)
            }
        })
    }
}

/// The answer to a delete, made of those of its parts.
pub(super) fn deleted(
    header: Option<ResponseHeader>,
    parts: impl IntoIterator<Item = OpResponse>,
) -> proto::DeleteRangeResponse {
    let mut count = 0;
    let mut prev_kvs = Vec::new();
    for part in parts {
        let OpResponse::DeleteRange { deleted, prev } = part else { continue };
        count += deleted;
        prev_kvs.extend(prev.iter().map(|kv| key_value(kv, false)));
    }
    proto::DeleteRangeResponse { header, deleted: signed(count), prev_kvs }
}
