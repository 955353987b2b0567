//! `/v1/health/`: how nodes and services are.

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::Asked;
use crate::catalog::record::Status;
use crate::catalog::shown::{ServiceHealth, ShownCheck};
use crate::catalog::state::{Entry, worst};
use crate::catalog::view;
use crate::filter::answers;
use crate::refusal::Refusal;

pub(crate) async fn node(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing node name")?;
    let asked = Asked::of(&call, &answers::CHECK)?;
    view::answer(&call, |catalog| {
        let entry = catalog.node(&name).filter(|entry| asked.wants(&entry.node));
        let shown = entry.into_iter().flat_map(|entry| checks(&asked, entry));
        call.encode(&asked.filtered(shown)?)
    })
    .await
}

pub(crate) async fn of_service(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing service name")?;
    let asked = Asked::of(&call, &answers::CHECK)?;
    view::answer(&call, |catalog| {
        let shown = asked.instances(catalog, &name).into_iter().flat_map(|(entry, service)| {
            let of_it = entry.checks_of(service).filter(|check| !check.service_id.is_empty());
            of_it.map(|check| ShownCheck::of(entry, check))
        });
        let mut shown: Vec<_> = shown.collect();
        if !call.query.has("near") {
            shown.sort_by_key(ShownCheck::place);
        }
        call.encode(&asked.filtered(shown.into_iter())?)
    })
    .await
}

pub(crate) async fn state(call: Call) -> Result<Answer, Refusal> {
    let word = call.name("Missing check state")?;
    let asked = Asked::of(&call, &answers::CHECK)?;
    view::answer(&call, |catalog| {
        let mut entries: Vec<_> =
            catalog.nodes().filter(|entry| asked.wants(&entry.node)).collect();
        asked.sort(catalog, &mut entries, |entry| &entry.node.name);
        let all = entries.into_iter().flat_map(|entry| checks(&asked, entry));
        let wanted = all.filter(|check| word == "any" || check.status() == word);
        call.encode(&asked.filtered(wanted)?)
    })
    .await
}

/// The checks of a node that may be seen.
fn checks<'c>(asked: &Asked<'_>, entry: &'c Entry) -> Vec<ShownCheck<'c>> {
    let may_see = |service| asked.may_see(service);
    let seen = entry.checks.values().filter(|check| entry.service_of(check).is_none_or(may_see));
    seen.map(|check| ShownCheck::of(entry, check)).collect()
}

pub(crate) async fn service(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing service name")?;
    let asked = Asked::of(&call, &answers::SERVICE_HEALTH)?;
    let passing = match call.query.text("passing").as_ref() {
        "" => call.query.has("passing"),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return Err(Refusal::bad_request("Invalid value for ?passing")),
    };
    view::answer(&call, |catalog| {
        let mut instances = asked.instances(catalog, &name);
        if passing {
            instances.retain(|(entry, service)| worst(entry.checks_of(service)) == Status::Passing);
        }
        let shown = instances.into_iter();
        let shown =
            shown.map(|(entry, service)| ServiceHealth::of(entry, service, asked.datacenter()));
        call.encode(&asked.filtered(shown)?)
    })
    .await
}
