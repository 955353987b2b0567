//! What clients send of services and checks, and what is wrong with it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalog::record::{
    Check, Probe, Service, ServiceAddress, Source, Status, Steps, Weights,
};
use crate::duration::GoDuration;
use crate::refusal::Refusal;

pub(crate) use crate::catalog::record::Texts;

/// A name becomes part of a key.
const NAME_MAX: usize = 512;

/// Refuses a name that is missing, or that cannot be one.
pub(crate) fn named(name: &str, missing: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::failed(missing));
    }
    if name.len() > NAME_MAX || name.contains('\0') {
        let words = format!("a name has at most {NAME_MAX} bytes, none of them NUL");
        return Err(Refusal::BadRequest(words));
    }
    Ok(())
}

/// A service as a client describes it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewService {
    kind: String,
    id: String,
    service: String,
    /// An agent's word for `service`.
    name: String,
    tags: Vec<String>,
    address: String,
    #[serde(rename = "taggedaddresses")]
    tagged_addresses: BTreeMap<String, ServiceAddress>,
    meta: Texts,
    port: u16,
    weights: Option<Weights>,
    #[serde(rename = "enabletagoverride")]
    enable_tag_override: bool,
    check: Option<NewCheck>,
    checks: Vec<NewCheck>,
}

impl NewService {
    pub(crate) fn name(&self) -> &str {
        if self.service.is_empty() { &self.name } else { &self.service }
    }

    pub(crate) fn service(&self) -> Result<Service, Refusal> {
        let name = self.name();
        named(name, "Must provide service name with ID")?;
        let id = if self.id.is_empty() { name } else { &self.id };
        named(id, "Must provide service name with ID")?;
        Ok(Service { id: id.to_owned(), ..self.as_it_is()? })
    }

    /// The service with such an id and name as the client has given, be they empty.
    pub(crate) fn as_it_is(&self) -> Result<Service, Refusal> {
        if !self.kind.is_empty() {
            return Err(Refusal::NotServed(format!("a service of kind {:?}", self.kind)));
        }
        Ok(Service {
            id: self.id.clone(),
            name: self.name().to_owned(),
            tags: self.tags.clone(),
            address: self.address.clone(),
            tagged_addresses: self.tagged_addresses.clone(),
            meta: self.meta.clone(),
            port: self.port,
            weights: self.weights.unwrap_or_default(),
            enable_tag_override: self.enable_tag_override,
            ..Service::default()
        })
    }

    /// The checks that come with it, with their ids; the first of several has number 1.
    pub(crate) fn checks(&self, service: &Service) -> Result<Vec<Check>, Refusal> {
        let all: Vec<_> = self.check.iter().chain(&self.checks).collect();
        let one = |(at, new): (usize, &&NewCheck)| {
            let mut check = new.check()?;
            if check.id.is_empty() {
                check.id = match all.len() {
                    1 => format!("service:{}", service.id),
                    _ => format!("service:{}:{}", service.id, at + 1),
                };
            }
            if check.name.is_empty() {
                check.name = format!("Service '{}' check", service.name);
            }
            service.id.clone_into(&mut check.service_id);
            Ok(check)
        };
        all.iter().enumerate().map(one).collect()
    }
}

/// A check as a client describes it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewCheck {
    id: String,
    #[serde(rename = "checkid")]
    check_id: String,
    pub(crate) name: String,
    status: String,
    notes: String,
    #[serde(rename = "serviceid")]
    service_id: String,
    ttl: Option<GoDuration>,
    interval: Option<GoDuration>,
    timeout: Option<GoDuration>,
    http: String,
    header: BTreeMap<String, Vec<String>>,
    method: String,
    body: String,
    tcp: String,
    udp: String,
    grpc: String,
    #[serde(rename = "grpcusetls")]
    grpc_tls: bool,
    #[serde(rename = "tlsskipverify")]
    skip_verify: bool,
    #[serde(rename = "successbeforepassing")]
    successes: u32,
    #[serde(rename = "failuresbeforecritical")]
    failures: u32,
    #[serde(rename = "dockercontainerid")]
    docker: String,
    args: Vec<String>,
    script: String,
    #[serde(rename = "aliasnode")]
    alias_node: String,
    #[serde(rename = "aliasservice")]
    alias_service: String,
    #[serde(rename = "deregistercriticalserviceafter")]
    deregister_after: Option<GoDuration>,
}

impl NewCheck {
    /// The check, whose id and name may still be empty.
    pub(crate) fn check(&self) -> Result<Check, Refusal> {
        let id = if self.check_id.is_empty() { &self.id } else { &self.check_id };
        if !id.is_empty() {
            named(id, "")?;
        }
        let status = match self.status.as_str() {
            "" => Status::Critical,
            word => Status::parse(word).ok_or_else(|| Refusal::bad_request("Bad check status"))?,
        };
        let deregister_after = self.deregister_after.filter(|after| after.nanos > 0);
        Ok(Check {
            id: id.clone(),
            name: self.name.clone(),
            status,
            notes: self.notes.clone(),
            service_id: self.service_id.clone(),
            source: self.source()?,
            deregister_after: deregister_after.map(|after| after.max(DEREGISTER_AFTER_MIN)),
            ..Check::default()
        })
    }

    /// True if the client says how it is at first.
    pub(crate) fn says_status(&self) -> bool {
        !self.status.is_empty()
    }

    fn source(&self) -> Result<Source, Refusal> {
        let invalid = |words: &str| Err(Refusal::BadRequest(format!("Invalid check: {words}")));
        if !self.args.is_empty() || !self.script.is_empty() || !self.docker.is_empty() {
            let words = "Scripts are disabled on this agent from remote calls; they are not served";
            return Err(Refusal::failed(words));
        }
        let ttl = self.ttl.filter(|ttl| ttl.nanos > 0);
        let every = self.interval.filter(|every| every.nanos > 0);
        if ttl.is_some() && self.interval.is_some_and(|every| every.nanos != 0) {
            return invalid("Interval and TTL cannot both be specified");
        }
        if !self.alias_node.is_empty() || !self.alias_service.is_empty() {
            let (node, service) = (self.alias_node.clone(), self.alias_service.clone());
            return Ok(Source::Alias { node, service });
        }
        let how = match [&self.http, &self.tcp, &self.udp, &self.grpc].map(String::as_str) {
            ["", "", "", ""] => None,
            ["", "", "", target] => Some(self.grpc_probe(target)?),
            ["", "", address, _] => Some(Probe::Udp(with_port(address)?)),
            ["", address, ..] => Some(Probe::Tcp(address.to_owned())),
            [url, ..] => Some(self.http_probe(url)?),
        };
        match (how, every, ttl) {
            (Some(how), Some(every), _) => {
                let every = every.max(INTERVAL_MIN);
                let within = self.timeout.filter(|time| time.nanos > 0);
                let steps = Steps { successes: self.successes, failures: self.failures };
                Ok(Source::Probe { how, every, within, steps })
            }
            (Some(_), None, _) => invalid("Interval must be > 0 for Script, HTTP, or TCP checks"),
            (None, _, Some(ttl)) => Ok(Source::Ttl(ttl)),
            (None, _, None) => invalid("TTL must be > 0 for TTL checks"),
        }
    }

    fn http_probe(&self, url: &str) -> Result<Probe, Refusal> {
        let is_url = url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some());
        if !is_url {
            return Err(Refusal::BadRequest(format!("Invalid check: {url:?} is no URL")));
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let words = format!("Invalid check: {url:?} is neither http:// nor https://");
            return Err(Refusal::BadRequest(words));
        }
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        Ok(Probe::Http {
            url: url.to_owned(),
            method: method.to_owned(),
            header: self.header.clone(),
            body: self.body.clone(),
            skip_verify: self.skip_verify,
        })
    }

    fn grpc_probe(&self, target: &str) -> Result<Probe, Refusal> {
        with_port(target.split_once('/').map_or(target, |(address, _)| address))?;
        let (tls, skip_verify) = (self.grpc_tls, self.skip_verify);
        Ok(Probe::Grpc { target: target.to_owned(), tls, skip_verify })
    }
}

/// An address that names its port.
fn with_port(address: &str) -> Result<String, Refusal> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let missing = || Refusal::BadRequest(format!("Invalid check: {address:?} is no HOST:PORT"));
    port.map(|_| address.to_owned()).ok_or_else(missing)
}

/// The least that is waited before a critical service goes, as in Consul.
const DEREGISTER_AFTER_MIN: GoDuration = GoDuration { nanos: 60_000_000_000 };
/// The least pause between two probes, as in Consul.
const INTERVAL_MIN: GoDuration = GoDuration { nanos: 1_000_000_000 };
