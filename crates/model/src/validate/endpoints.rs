//! Endpoints and EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::faults::Faults;
use super::kinds::Check;
use super::path::Path;
use super::{container, name};

/// The most endpoints of one slice.
const SLICE_MAX: usize = 1000;
const ADDRESS_RULE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

impl Check for Endpoints {
    fn check(&self, faults: &mut Faults) {
        const SUBSETS: Path<'static> = Path::root("subsets");
        for (i, subset) in self.subsets.iter().flatten().enumerate() {
            let at = SUBSETS.index(i);
            let lists = [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ];
            for (field, addresses) in lists {
                for (j, address) in addresses.iter().flatten().enumerate() {
                    if address.ip.parse::<IpAddr>().is_err() {
                        let list = at.child(field);
                        faults.invalid(&list.index(j).child("ip"), &address.ip, ADDRESS_RULE);
                    }
                }
            }
            for (j, port) in subset.ports.iter().flatten().enumerate() {
                let list = at.child("ports");
                let at = list.index(j);
                if !(1..=65535).contains(&port.port) {
                    let why = "must be between 1 and 65535, inclusive";
                    faults.invalid(&at.child("port"), port.port, why);
                }
                let protocol = port.protocol.as_deref().unwrap_or_default();
                faults.one_of(&at.child("protocol"), protocol, container::PROTOCOLS);
            }
        }
    }
}

impl Check for EndpointSlice {
    fn check(&self, faults: &mut Faults) {
        const ENDPOINTS: Path<'static> = Path::root("endpoints");
        let kind = Path::root("addressType");
        if self.address_type.is_empty() {
            faults.required(&kind, "");
        } else {
            faults.one_of(&kind, &self.address_type, &["FQDN", "IPv4", "IPv6"]);
        }
        if self.endpoints.as_ref().map_or(0, Vec::len) > SLICE_MAX {
            faults.too_long(&ENDPOINTS, SLICE_MAX);
        }
        for (i, endpoint) in self.endpoints.iter().flatten().enumerate() {
            let at = ENDPOINTS.index(i);
            let at = at.child("addresses");
            if endpoint.addresses.is_empty() {
                faults.required(&at, "must contain at least 1 address");
            }
            for (j, address) in endpoint.addresses.iter().enumerate() {
                let right = match self.address_type.as_str() {
                    "IPv4" => matches!(address.parse(), Ok(IpAddr::V4(_))),
                    "IPv6" => matches!(address.parse(), Ok(IpAddr::V6(_))),
                    _ => true,
                };
                if !right {
                    faults.invalid(&at.index(j), address, ADDRESS_RULE);
                }
            }
        }
        for (i, port) in self.ports.iter().flatten().enumerate() {
            let ports = Path::root("ports");
            let at = ports.index(i);
            if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                faults.all_invalid(&at.child("name"), name, name::dns_label(name));
            }
            let protocol = port.protocol.as_deref().unwrap_or_default();
            faults.one_of(&at.child("protocol"), protocol, container::PROTOCOLS);
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&Path::root("addressType"), &self.address_type, &old.address_type);
    }
}
