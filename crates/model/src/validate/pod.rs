//! Pods, and the specifications in templates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::container::Containers;
use super::faults::Faults;
use super::kinds::Check;
use super::name;
use super::path::Path;
use super::{pod_update, scheduling, volume};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// The longest time that a pod, or one of its containers, may be given to end, in seconds: 68 years. Kubernetes has no
/// bound, but what is added to a clock must have one.
pub const MAX_GRACE_SECONDS: i64 = i32::MAX as i64;
/// The kernel parameters that are a pod's own.
const OWN_SYSCTLS: &[&str] = &["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
/// The largest user or group number.
const MAX_ID: i64 = i32::MAX as i64;

impl Check for Pod {
    fn check(&self, faults: &mut Faults) {
        const SPEC: Path<'static> = Path::root("spec");
        match &self.spec {
            Some(spec) => pod_spec(&SPEC, spec, faults),
            None => faults.required(&SPEC, ""),
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            pod_update::check(new, old, faults);
        }
    }
}

pub(super) fn pod_spec(at: &Path<'_>, spec: &PodSpec, faults: &mut Faults) {
    let volumes = volume::volumes(&at.child("volumes"), spec, faults);
    let containers = Containers { spec, volumes: &volumes };
    containers.check(at, faults);
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    faults.one_of(&at.child("restartPolicy"), restart, RESTART_POLICIES);
    let dns = spec.dns_policy.as_deref().unwrap_or_default();
    faults.one_of(&at.child("dnsPolicy"), dns, DNS_POLICIES);
    let grace = at.child("terminationGracePeriodSeconds");
    faults.not_negative(&grace, spec.termination_grace_period_seconds);
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|s| *s > MAX_GRACE_SECONDS)
    {
        faults.invalid(&grace, seconds, "must be less than or equal to 2147483647");
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        faults.invalid(&at.child("activeDeadlineSeconds"), seconds, why);
    }
    names(at, spec, faults);
    dns_config(at, spec, faults);
    security(at, spec, faults);
    scheduling::check(at, spec, faults);
}

fn names(at: &Path<'_>, spec: &PodSpec, faults: &mut Faults) {
    if let Some(account) = spec.service_account_name.as_deref().filter(|a| !a.is_empty()) {
        faults.all_invalid(&at.child("serviceAccountName"), account, name::dns_subdomain(account));
    }
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        faults.all_invalid(&at.child("nodeName"), node, name::dns_subdomain(node));
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            faults.all_invalid(&at.child(field), value, name::dns_label(value));
        }
    }
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let list = at.child("hostAliases");
        let at = list.index(i);
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            faults.invalid(&at.child("ip"), &alias.ip, why);
        }
        for host in alias.hostnames.iter().flatten() {
            faults.all_invalid(&at.child("hostnames"), host, name::dns_subdomain(host));
        }
    }
    for (i, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            faults.required(&at.child("imagePullSecrets").index(i).child("name"), "");
        }
    }
}

fn dns_config(at: &Path<'_>, spec: &PodSpec, faults: &mut Faults) {
    const MOST_SERVERS: usize = 3;
    const MOST_SEARCHES: usize = 32;
    let at = at.child("dnsConfig");
    let servers = spec.dns_config.iter().flat_map(|c| c.nameservers.iter().flatten());
    let servers: Vec<&String> = servers.collect();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        faults.required(&at.child("nameservers"), why);
    }
    if servers.len() > MOST_SERVERS {
        faults.invalid(&at.child("nameservers"), &servers, "must not have more than 3 nameservers");
    }
    for (i, server) in servers.iter().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            faults.invalid(&at.child("nameservers").index(i), server, why);
        }
    }
    let searches = spec.dns_config.iter().flat_map(|c| c.searches.iter().flatten());
    for (i, search) in searches.enumerate() {
        let list = at.child("searches");
        if i == MOST_SEARCHES {
            faults.invalid(&list, i + 1, "must not have more than 32 search paths");
            break;
        }
        let plain = search.trim_end_matches('.').replace('_', "-");
        if !plain.is_empty() {
            faults.all_invalid(&list.index(i), search, name::dns_subdomain(&plain));
        }
    }
}

fn security(at: &Path<'_>, spec: &PodSpec, faults: &mut Faults) {
    let at = at.child("securityContext");
    let Some(context) = &spec.security_context else { return };
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ] {
        user_id(&at.child(field), id, faults);
    }
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        user_id(&at.child("supplementalGroups").index(i), Some(*group), faults);
    }
    let mut seen = BTreeSet::new();
    for (i, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let list = at.child("sysctls");
        let at = list.index(i);
        let at = at.child("name");
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./".contains(c);
        if sysctl.name.is_empty() {
            faults.required(&at, "");
        } else if !sysctl.name.chars().all(word) || sysctl.name.contains("..") {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            faults.invalid(&at, &sysctl.name, why);
        } else if !seen.insert(&sysctl.name) {
            faults.duplicate(&at, &sysctl.name);
        } else if let Some(why) = not_its_own(&sysctl.name, spec) {
            faults.forbidden(&at, &why);
        }
    }
}

/// Why a pod may not set a kernel parameter: it is the whole machine's.
fn not_its_own(sysctl: &str, spec: &PodSpec) -> Option<String> {
    let name = sysctl.replace('/', ".");
    if !OWN_SYSCTLS.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(format!("sysctl {name:?} is the node's, not the pod's"));
    }
    let (shared, field) = match name.starts_with("net.") {
        true => (spec.host_network, "hostNetwork"),
        false => (spec.host_ipc, "hostIPC"),
    };
    (shared == Some(true)).then(|| format!("sysctl {name:?} not allowed with {field} set to true"))
}

/// The number of a user or a group.
pub(super) fn user_id(at: &Path<'_>, id: Option<i64>, faults: &mut Faults) {
    if let Some(id) = id.filter(|id| !(0..=MAX_ID).contains(id)) {
        faults.invalid(at, id, "must be between 0 and 2147483647, inclusive");
    }
}
