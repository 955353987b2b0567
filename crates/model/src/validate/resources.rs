//! What containers request and what they are limited to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::faults::Faults;
use super::name;
use super::path::Path;
use crate::quantity;

const PLAIN: &[&str] = &["cpu", "memory", "ephemeral-storage"];

pub(super) fn requirements(at: &Path<'_>, resources: &ResourceRequirements, faults: &mut Faults) {
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    list(&at.child("limits"), limits, faults);
    list(&at.child("requests"), requests, faults);
    for (name, request) in requests {
        let Some(limit) = limits.get(name) else { continue };
        let (Ok(asked), Ok(most)) = (quantity::nanos(&request.0), quantity::nanos(&limit.0)) else {
            continue;
        };
        if asked > most {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            faults.invalid(&at.child("requests"), &request.0, &why);
        }
    }
}

fn list(at: &Path<'_>, list: &BTreeMap<String, Quantity>, faults: &mut Faults) {
    for (name, amount) in list {
        let at = at.key(name);
        faults.all_invalid(&at, name, name::qualified_name(name));
        if !name.contains('/') && !PLAIN.contains(&name.as_str()) && !name.starts_with("hugepages-")
        {
            faults.invalid(&at, name, "must be a standard resource for containers");
        }
        amount_of(&at, &amount.0, faults);
    }
}

/// An amount that is not negative.
pub(super) fn amount_of(at: &Path<'_>, amount: &str, faults: &mut Faults) {
    match quantity::nanos(amount) {
        Err(wrong) => faults.invalid(at, amount, &wrong.to_string()),
        Ok(n) if n < 0 => faults.invalid(at, amount, "must be greater than or equal to 0"),
        Ok(_) => {}
    }
}
