//! What a service is given: its address and its ports on nodes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use pontoon_model::names;
use pontoon_model::resource::{Resource, SERVICES};
use pontoon_model::status::Status;
use pontoon_model::validate::FieldError;
use serde_json::{Map, Value, json};

use crate::failure::{fault, of_faults};
use crate::objects::Objects;
use crate::reservation::{Reservation, Reservations};

type Spec = Map<String, Value>;

fn text<'s>(spec: &'s Spec, field: &str) -> &'s str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn wants_address(spec: &Spec) -> bool {
    text(spec, "type") != "ExternalName" && text(spec, "clusterIP") != "None"
}

fn wants_ports(spec: &Spec) -> bool {
    let kind = text(spec, "type");
    let without = spec.get("allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    kind == "NodePort" || (kind == "LoadBalancer" && !without)
}

/// What a stored service has reserved.
pub(crate) fn reserved(service: &Value) -> BTreeSet<Reservation> {
    let Some(spec) = service.get("spec").and_then(Value::as_object) else { return BTreeSet::new() };
    let address = text(spec, "clusterIP").parse().ok().map(Reservation::Address);
    let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    address.into_iter().chain(ports.filter_map(node_port).map(Reservation::NodePort)).collect()
}

fn node_port(port: &Value) -> Option<u16> {
    let number = port.get("nodePort")?.as_u64()?;
    u16::try_from(number).ok().filter(|n| *n != 0)
}

/// An update that does not name what the service was given keeps it.
pub(crate) fn keep_given(new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (
        new.get_mut("spec").and_then(Value::as_object_mut),
        old.get("spec").and_then(Value::as_object),
    ) else {
        return;
    };
    if text(new, "type") == "ExternalName" {
        return;
    }
    if text(new, "clusterIP").is_empty() && text(old, "type") != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(given) = old.get(field) {
                new.insert(field.to_owned(), given.clone());
            }
        }
    }
    let old_ports = old.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let keeps = wants_ports(new);
    let Some(Value::Array(ports)) = new.get_mut("ports") else { return };
    for port in ports.iter_mut().filter(|p| p.is_object()) {
        if !keeps {
            // Of another type now; a number that was given and not asked for goes.
            let given = node_port(port);
            if given.is_some()
                && old_ports.iter().any(|o| node_port(o) == given)
                && let Some(map) = port.as_object_mut()
            {
                map.remove("nodePort");
            }
        } else if node_port(port).is_none() {
            let same = |o: &&Value| {
                o.get("port") == port.get("port") && o.get("protocol") == port.get("protocol")
            };
            if let Some(number) = old_ports.iter().find(same).and_then(node_port) {
                port["nodePort"] = json!(number);
            }
        }
    }
}

impl Objects {
    /// Gives the service what it wants and has not, and says what has to be reserved for it.
    /// Nothing for other kinds.
    pub(crate) async fn give(
        &self,
        resource: &'static Resource,
        name: &str,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservations, Status> {
        if *resource != *SERVICES {
            return Ok(Reservations::default());
        }
        let had = old.map(reserved).unwrap_or_default();
        let namespace = new.pointer("/metadata/namespace").and_then(Value::as_str);
        let is_api = (namespace, name) == (Some(names::NAMESPACE_DEFAULT), names::API_SERVICE);
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            of_faults(resource, name, self.misplaced(spec, &had, is_api))?;
            self.give_address(spec).await?;
            self.give_ports(spec, &had).await?;
        }
        Ok(Reservations::step(&had, &reserved(new)))
    }

    async fn give_address(&self, spec: &mut Spec) -> Result<(), Status> {
        if text(spec, "type") == "ExternalName" {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
            return Ok(());
        }
        if wants_address(spec) && text(spec, "clusterIP").is_empty() {
            let listed = spec.get("clusterIPs").and_then(|l| l.get(0)).and_then(Value::as_str);
            let address = match listed {
                Some(listed) => listed.to_owned(),
                None => self.free_address().await?.ok_or_else(exhausted)?.to_string(),
            };
            spec.insert("clusterIP".to_owned(), Value::String(address));
        }
        if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let address = spec["clusterIP"].clone();
            spec.insert("clusterIPs".to_owned(), json!([address]));
        }
        Ok(())
    }

    async fn give_ports(&self, spec: &mut Spec, had: &BTreeSet<Reservation>) -> Result<(), Status> {
        if !wants_ports(spec) {
            return Ok(());
        }
        let Some(Value::Array(ports)) = spec.get_mut("ports") else { return Ok(()) };
        let mut used: BTreeSet<Reservation> =
            ports.iter().filter_map(node_port).map(Reservation::NodePort).collect();
        used.extend(had);
        for port in ports.iter_mut().filter(|p| p.is_object()) {
            if node_port(port).is_none() {
                let number = self.free_port(&used).await?.ok_or_else(exhausted)?;
                used.insert(Reservation::NodePort(number));
                port["nodePort"] = json!(number);
            }
        }
        Ok(())
    }

    /// Numbers that were asked for and are not in their range, or kept for the service of the cluster's own API.
    fn misplaced(&self, spec: &Spec, had: &BTreeSet<Reservation>, is_api: bool) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let range = self.config().service_cidr;
        let address: Option<Ipv4Addr> = text(spec, "clusterIP").parse().ok();
        if let Some(address) = address.filter(|a| !had.contains(&Reservation::Address(*a))) {
            let edge = address == range.network() || address == range.broadcast();
            if !range.contains(&address) || edge {
                let why = format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
                );
                faults.push(fault("spec.clusterIPs", &format!("[\"{address}\"]"), &why));
            } else if address == names::api_address(range.network()) && !is_api {
                let why = format!(
                    "failed to allocate IP {address}: it is kept for the service {} in the namespace {}",
                    names::API_SERVICE,
                    names::NAMESPACE_DEFAULT
                );
                faults.push(fault("spec.clusterIPs", &format!("[\"{address}\"]"), &why));
            }
        }
        let (first, last) = self.config().node_ports;
        let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
        for (i, port) in ports.enumerate() {
            let Some(number) = node_port(port) else { continue };
            let kept = had.contains(&Reservation::NodePort(number));
            if !kept && !(first..=last).contains(&number) {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                );
                let field = format!("spec.ports[{i}].nodePort");
                faults.push(fault(&field, &number.to_string(), &why));
            }
        }
        faults
    }
}

fn exhausted() -> Status {
    Status::service_unavailable("all service addresses or node ports of their range are taken")
}

/// The refusal when something that was asked for by number turns out to be another service's.
pub(crate) fn taken(name: &str, service: &Value, what: Reservation) -> Status {
    let fault = match what {
        Reservation::Address(address) => {
            let why = format!("failed to allocate IP {address}: provided IP is already allocated");
            fault("spec.clusterIPs", &format!("[\"{address}\"]"), &why)
        }
        Reservation::NodePort(number) => {
            let ports = service.pointer("/spec/ports").and_then(Value::as_array);
            let index = ports.and_then(|p| p.iter().position(|p| node_port(p) == Some(number)));
            let field = format!("spec.ports[{}].nodePort", index.unwrap_or(0));
            fault(&field, &number.to_string(), "provided port is already allocated")
        }
    };
    Status::invalid(SERVICES, name, vec![fault.into()])
}
