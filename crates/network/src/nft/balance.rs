//! The rules that choose a backend: the next in turn, or the one that the client had.

use super::batch::{Batch, Values};
use super::element::{Data, Field, target, turn};
use super::program::Affinity;
use super::rule::{End, KEY, SetRef, TARGET, Verdict};
use std::net::SocketAddrV4;

/// Ends a chain: each connection goes to one of the backends; with none it goes on.
pub(super) fn write_balance(
    batch: &mut Batch,
    chain: &str,
    backends: &[SocketAddrV4],
    affinity: Option<&Affinity>,
) {
    match (backends, affinity) {
        ([], _) => {}
        (_, Some(affinity)) => write_sticky(batch, chain, backends, affinity),
        ([only], None) => batch.add_rule(chain, |rule| {
            rule.load_target(*only).send_to(TARGET);
        }),
        (many, None) => {
            let targets = many.iter().map(|one| Data::Value(target(*one)));
            let map = add_turns(batch, Values::Targets, targets);
            batch.add_rule(chain, |rule| {
                rule.next_turn(many.len() as u32, KEY)
                    .lookup(SetRef::Anonymous(map), KEY, TARGET)
                    .send_to(TARGET);
            });
        }
    }
}

/// A client that a backend's set remembers goes to that backend's chain; else the next in turn. (One map from
/// clients to backends would be shorter, but `nft list` breaks off at a map that is asked with a map's answer.)
fn write_sticky(batch: &mut Batch, chain: &str, backends: &[SocketAddrV4], affinity: &Affinity) {
    for backend in backends {
        let (clients, own) = (affinity.clients(*backend), affinity.chain(*backend));
        batch.add_rule(chain, |rule| {
            rule.address(End::Source, KEY)
                .if_member(SetRef::Named(&clients), KEY)
                .verdict(Verdict::Goto(&own));
        });
    }
    let chains = backends.iter().map(|backend| Data::Goto(affinity.chain(*backend)));
    let map = add_turns(batch, Values::Verdicts, chains);
    batch.add_rule(chain, |rule| {
        rule.next_turn(backends.len() as u32, KEY).dispatch(SetRef::Anonymous(map), KEY);
    });
}

/// One backend's own chain: it remembers the client.
pub(super) fn write_backend(
    batch: &mut Batch,
    chain: &str,
    backend: SocketAddrV4,
    affinity: &Affinity,
) {
    batch.add_rule(chain, |rule| {
        rule.address(End::Source, KEY)
            .remember(&affinity.clients(backend), affinity.seconds)
            .load_target(backend)
            .send_to(TARGET);
    });
}

/// A map from positions to what is at each.
fn add_turns(batch: &mut Batch, values: Values, each: impl Iterator<Item = Data>) -> u32 {
    let elements: Vec<_> = (0..).zip(each).map(|(position, data)| (turn(position), data)).collect();
    batch.add_anonymous(&[Field::Integer], values, &elements)
}
