//! The containers of a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, PodSpec, SecurityContext, VolumeMount,
};

use super::faults::Faults;
use super::name;
use super::path::Path;
use super::pod::user_id;
use super::{probe, resources};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// The containers of a pod with what they refer to.
pub(super) struct Containers<'p> {
    pub(super) spec: &'p PodSpec,
    /// The names of the pod's volumes.
    pub(super) volumes: &'p BTreeSet<&'p str>,
}

impl Containers<'_> {
    pub(super) fn check(&self, at: &Path<'_>, faults: &mut Faults) {
        let mut names = BTreeSet::new();
        let list = at.child("containers");
        if self.spec.containers.is_empty() {
            faults.required(&list, "");
        }
        for (i, container) in self.spec.containers.iter().enumerate() {
            self.named(&list.index(i), container, &mut names, faults);
        }
        host_ports(&list, &self.spec.containers, faults);
        let list = at.child("initContainers");
        for (i, container) in self.spec.init_containers.iter().flatten().enumerate() {
            let at = list.index(i);
            self.named(&at, container, &mut names, faults);
            if container.restart_policy.as_deref() != Some("Always") {
                initial(&at, container, faults);
            }
        }
    }

    fn named<'c>(
        &self,
        at: &Path<'_>,
        container: &'c Container,
        names: &mut BTreeSet<&'c str>,
        faults: &mut Faults,
    ) {
        let name = at.child("name");
        if container.name.is_empty() {
            faults.required(&name, "");
        } else {
            faults.all_invalid(&name, &container.name, name::dns_label(&container.name));
        }
        if !names.insert(&container.name) {
            faults.duplicate(&name, &container.name);
        }
        self.container(at, container, faults);
    }

    fn container(&self, at: &Path<'_>, container: &Container, faults: &mut Faults) {
        let image = container.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            faults.required(&at.child("image"), "");
        } else if image != image.trim() {
            let why = "must not have leading or trailing whitespace";
            faults.invalid(&at.child("image"), image, why);
        }
        let policy = container.image_pull_policy.as_deref().unwrap_or_default();
        faults.one_of(&at.child("imagePullPolicy"), policy, PULL_POLICIES);
        if let Some(restart) = container.restart_policy.as_deref() {
            let policies = &["Always", "Never", "OnFailure"];
            faults.one_of(&at.child("restartPolicy"), restart, policies);
        }
        let message = container.termination_message_policy.as_deref().unwrap_or_default();
        faults.one_of(&at.child("terminationMessagePolicy"), message, MESSAGE_POLICIES);
        let host_network = self.spec.host_network == Some(true);
        ports(
            &at.child("ports"),
            container.ports.as_deref().unwrap_or_default(),
            host_network,
            faults,
        );
        environment(&at.child("env"), container.env.as_deref().unwrap_or_default(), faults);
        environment_from(at, container, faults);
        self.mounts(at, container.volume_mounts.as_deref().unwrap_or_default(), faults);
        if let Some(resources) = &container.resources {
            resources::requirements(&at.child("resources"), resources, faults);
        }
        probe::of_container(at, container, faults);
        if let Some(lifecycle) = &container.lifecycle {
            let grace = self.spec.termination_grace_period_seconds.unwrap_or(0);
            probe::hooks(&at.child("lifecycle"), lifecycle, grace, faults);
        }
        if let Some(context) = &container.security_context {
            security(&at.child("securityContext"), context, faults);
        }
    }

    fn mounts(&self, at: &Path<'_>, mounts: &[VolumeMount], faults: &mut Faults) {
        let list = at.child("volumeMounts");
        let mut paths = BTreeSet::new();
        for (i, mount) in mounts.iter().enumerate() {
            let at = list.index(i);
            if mount.name.is_empty() {
                faults.required(&at.child("name"), "");
            } else if !self.volumes.contains(mount.name.as_str()) {
                faults.not_found(&at.child("name"), &mount.name);
            }
            if mount.mount_path.is_empty() {
                faults.required(&at.child("mountPath"), "");
            } else if !paths.insert(&mount.mount_path) {
                faults.invalid(&at.child("mountPath"), &mount.mount_path, "must be unique");
            }
            for (field, path) in
                [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)]
            {
                let Some(path) = path.as_deref().filter(|p| !p.is_empty()) else { continue };
                inside(&at.child(field), path, faults);
            }
            if mount.sub_path.is_some() && mount.sub_path_expr.is_some() {
                faults.invalid(
                    &at.child("subPathExpr"),
                    &mount.sub_path_expr,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
        }
    }
}

/// A path that leads nowhere but down.
pub(super) fn inside(at: &Path<'_>, path: &str, faults: &mut Faults) {
    if path.starts_with('/') {
        faults.invalid(at, path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        faults.invalid(at, path, "must not contain '..'");
    }
}

/// What makes no sense for a container that runs to its end before the others.
fn initial(at: &Path<'_>, container: &Container, faults: &mut Faults) {
    let why = "may not be set for init containers without restartPolicy=Always";
    let probes = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in probes.iter().filter(|(_, set)| *set) {
        faults.forbidden(&at.child(field), why);
    }
}

fn port_number(at: &Path<'_>, port: i32, faults: &mut Faults) {
    if !(1..=65535).contains(&port) {
        faults.invalid(at, port, "must be between 1 and 65535, inclusive");
    }
}

fn ports(at: &Path<'_>, ports: &[ContainerPort], host_network: bool, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            faults.all_invalid(&at.child("name"), name, name::port_name(name));
            if !names.insert(name) {
                faults.duplicate(&at.child("name"), name);
            }
        }
        if port.container_port == 0 {
            faults.required(&at.child("containerPort"), "");
        } else {
            port_number(&at.child("containerPort"), port.container_port, faults);
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            port_number(&at.child("hostPort"), host, faults);
            if !host_network {
                host_port(&at, port, faults);
            }
            if host_network && host != port.container_port {
                let why = "must match `hostPort` when `hostNetwork` is true";
                faults.invalid(&at.child("containerPort"), port.container_port, why);
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        faults.one_of(&at.child("protocol"), protocol, PROTOCOLS);
    }
}

/// What a node cannot lead to a pod.
fn host_port(at: &Path<'_>, port: &ContainerPort, faults: &mut Faults) {
    if port.protocol.as_deref() == Some("SCTP") {
        let why = "this cluster leads only TCP and UDP ports of a node to a pod";
        faults.invalid(&at.child("protocol"), "SCTP", why);
    }
    let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) else { return };
    let why = match ip.parse::<IpAddr>() {
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        Ok(IpAddr::V6(_)) => "must be an IPv4 address: this cluster has no others",
        Ok(IpAddr::V4(ip)) if ip.is_loopback() => {
            "must not be a loopback address: this cluster leads none of their ports to a pod"
        }
        Ok(IpAddr::V4(_)) => return,
    };
    faults.invalid(&at.child("hostIP"), ip, why);
}

/// No two containers of a pod take the same port of the node.
fn host_ports(at: &Path<'_>, containers: &[Container], faults: &mut Faults) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|p| *p != 0) else { continue };
            let address = port.host_ip.as_deref().unwrap_or_default();
            if !taken.insert((port.protocol.as_deref(), address, host)) {
                let at = at.index(i);
                let at = at.child("ports");
                faults.duplicate(&at.index(j).child("hostPort"), host);
            }
        }
    }
}

fn environment(at: &Path<'_>, variables: &[EnvVar], faults: &mut Faults) {
    for (i, variable) in variables.iter().enumerate() {
        let at = at.index(i);
        if variable.name.is_empty() {
            faults.required(&at.child("name"), "");
        } else {
            let wrong = name::environment_name(&variable.name);
            faults.all_invalid(&at.child("name"), &variable.name, wrong);
        }
        let Some(from) = &variable.value_from else { continue };
        let at = at.child("valueFrom");
        let sources = [
            from.field_ref.is_some(),
            from.resource_field_ref.is_some(),
            from.config_map_key_ref.is_some(),
            from.secret_key_ref.is_some(),
            from.file_key_ref.is_some(),
        ];
        let count = sources.iter().filter(|s| **s).count();
        if variable.value.as_deref().is_some_and(|v| !v.is_empty()) && count > 0 {
            faults.invalid(&at, "", "may not be specified when `value` is not empty");
        }
        match count {
            0 => faults.invalid(&at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
            1 => {}
            _ => faults.invalid(&at, "", "may not have more than one field specified at a time"),
        }
        key_references(&at, from, faults);
    }
}

fn key_references(
    at: &Path<'_>,
    from: &k8s_openapi::api::core::v1::EnvVarSource,
    faults: &mut Faults,
) {
    let references = [
        ("configMapKeyRef", from.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key))),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|r| (&r.name, &r.key))),
    ];
    for (field, reference) in references {
        let Some((name, key)) = reference else { continue };
        let at = at.child(field);
        if name.is_empty() {
            faults.required(&at.child("name"), "");
        }
        if key.is_empty() {
            faults.required(&at.child("key"), "");
        } else {
            faults.all_invalid(&at.child("key"), key, name::config_key(key));
        }
    }
    if let Some(field) = &from.field_ref {
        field_path(&at.child("fieldRef"), &field.field_path, ENVIRONMENT_FIELDS, faults);
    }
}

const ENVIRONMENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// A field of the pod that a container may learn of.
pub(super) fn field_path(at: &Path<'_>, path: &str, supported: &[&str], faults: &mut Faults) {
    let at = at.child("fieldPath");
    if path.is_empty() {
        faults.required(&at, "");
        return;
    }
    let keyed = ["metadata.labels['", "metadata.annotations['"];
    let keyed = keyed.iter().any(|p| path.starts_with(p)) && path.ends_with("']");
    if !keyed && !supported.contains(&path) {
        faults.not_supported(&at, path, supported);
    }
}

fn environment_from(at: &Path<'_>, container: &Container, faults: &mut Faults) {
    let list = at.child("envFrom");
    for (i, source) in container.env_from.iter().flatten().enumerate() {
        let at = list.index(i);
        match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), None) if map.name.is_empty() => {
                faults.required(&at.child("configMapRef").child("name"), "");
            }
            (None, Some(secret)) if secret.name.is_empty() => {
                faults.required(&at.child("secretRef").child("name"), "");
            }
            (Some(_), Some(_)) => {
                faults.invalid(&at, "", "may not have more than one field specified at a time");
            }
            (None, None) => {
                faults.invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`");
            }
            _ => {}
        }
    }
}

fn security(at: &Path<'_>, context: &SecurityContext, faults: &mut Faults) {
    user_id(&at.child("runAsUser"), context.run_as_user, faults);
    user_id(&at.child("runAsGroup"), context.run_as_group, faults);
    if context.allow_privilege_escalation == Some(false) {
        let at = at.child("allowPrivilegeEscalation");
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            faults.invalid(&at, false, why);
        }
        let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        if added.into_iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            faults.invalid(&at, false, why);
        }
    }
}
