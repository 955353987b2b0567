//! The fields of pods and services that this cluster cannot honour yet, as data. An object that sets one of
//! them is refused with the field's name, or taken with a warning where it does its work all the same: nothing that
//! changes its meaning is silently ignored. `docs/kubernetes.md` is the same for people.

use serde_json::Value;

use crate::resource::{self, Resource};
use crate::validate::{Faults, Path};

/// When a field is one that cannot be honoured.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Whenever it says something.
    Set,
    /// If it says anything but these.
    Not(&'static [&'static str]),
    /// If it is this.
    Is(&'static str),
    /// If it is a number other than 0.
    NotZero,
    /// If it is true.
    True,
    /// If it is false.
    False,
}

/// A field below `spec`; `*` stands for every item of a list, and what is said of containers holds of init
/// containers, too.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    pub path: &'static [&'static str],
    pub when: When,
}

const fn no(path: &'static [&'static str], when: When) -> Unsupported {
    Unsupported { path, when }
}

/// A field that is taken although nothing is done for it, and what people are told.
#[derive(Clone, Copy, Debug)]
pub struct Unheeded {
    pub field: Unsupported,
    pub warning: &'static str,
}

const fn warn(path: &'static [&'static str], when: When, warning: &'static str) -> Unheeded {
    Unheeded { field: no(path, when), warning }
}

/// What pods are refused for. To honour a field in the node or the scheduler, take its line away.
pub const FIELDS: &[Unsupported] = &[
    no(&["ephemeralContainers"], When::Set),
    no(&["runtimeClassName"], When::Set),
    no(&["resourceClaims"], When::Set),
    no(&["resources"], When::Set),
    no(&["overhead"], When::Set),
    no(&["schedulingGates"], When::Set),
    no(&["schedulingGroup"], When::Set),
    no(&["evictionResponders"], When::Set),
    no(&["priorityClassName"], When::Set),
    no(&["priority"], When::NotZero),
    no(&["hostUsers"], When::False),
    no(&["hostnameOverride"], When::Set),
    no(&["setHostnameAsFQDN"], When::True),
    no(&["os", "name"], When::Not(&["linux"])),
    no(&["schedulerName"], When::Not(&["default-scheduler"])),
    no(&["securityContext", "windowsOptions"], When::Set),
    no(&["securityContext", "seLinuxOptions"], When::Set),
    no(
        &["securityContext", "appArmorProfile", "type"],
        When::Not(&["RuntimeDefault", "Unconfined"]),
    ),
    no(&["securityContext", "seccompProfile", "type"], When::Is("Localhost")),
    no(&["securityContext", "seLinuxChangePolicy"], When::Set),
    no(&["securityContext", "supplementalGroupsPolicy"], When::Not(&["Merge"])),
    no(&["containers", "*", "volumeDevices"], When::Set),
    no(&["containers", "*", "restartPolicyRules"], When::Set),
    no(&["containers", "*", "resources", "claims"], When::Set),
    no(&["containers", "*", "livenessProbe", "grpc"], When::Set),
    no(&["containers", "*", "readinessProbe", "grpc"], When::Set),
    no(&["containers", "*", "startupProbe", "grpc"], When::Set),
    no(&["containers", "*", "livenessProbe", "httpGet", "protocol"], When::Not(&["HTTP1"])),
    no(&["containers", "*", "readinessProbe", "httpGet", "protocol"], When::Not(&["HTTP1"])),
    no(&["containers", "*", "startupProbe", "httpGet", "protocol"], When::Not(&["HTTP1"])),
    no(&["containers", "*", "securityContext", "windowsOptions"], When::Set),
    no(&["containers", "*", "securityContext", "seLinuxOptions"], When::Set),
    no(&["containers", "*", "securityContext", "procMount"], When::Not(&["Default"])),
    no(&["containers", "*", "securityContext", "seccompProfile", "type"], When::Is("Localhost")),
    no(
        &["containers", "*", "securityContext", "appArmorProfile", "type"],
        When::Not(&["RuntimeDefault", "Unconfined"]),
    ),
    no(&["containers", "*", "env", "*", "valueFrom", "fileKeyRef"], When::Set),
    no(&["containers", "*", "volumeMounts", "*", "mountPropagation"], When::Not(&["None"])),
    no(&["containers", "*", "volumeMounts", "*", "recursiveReadOnly"], When::Not(&["Disabled"])),
    no(&["containers", "*", "volumeMounts", "*", "bindMountOptions"], When::Set),
    no(&["volumes", "*", "emptyDir", "mode"], When::Set),
    no(&["volumes", "*", "configMap", "defaultUser"], When::Set),
    no(&["volumes", "*", "configMap", "items", "*", "user"], When::Set),
    no(&["volumes", "*", "secret", "defaultUser"], When::Set),
    no(&["volumes", "*", "secret", "items", "*", "user"], When::Set),
    no(&["volumes", "*", "downwardAPI", "defaultUser"], When::Set),
    no(&["volumes", "*", "downwardAPI", "items", "*", "user"], When::Set),
    no(&["volumes", "*", "projected", "defaultUser"], When::Set),
    no(
        &["volumes", "*", "projected", "sources", "*", "configMap", "items", "*", "user"],
        When::Set,
    ),
    no(&["volumes", "*", "projected", "sources", "*", "secret", "items", "*", "user"], When::Set),
    no(
        &["volumes", "*", "projected", "sources", "*", "downwardAPI", "items", "*", "user"],
        When::Set,
    ),
    no(&["volumes", "*", "emptyDir", "medium"], When::Not(&["", "Memory"])),
    no(&["volumes", "*", "projected", "sources", "*", "clusterTrustBundle"], When::Set),
    no(&["volumes", "*", "projected", "sources", "*", "podCertificate"], When::Set),
    no(&["volumes", "*", "projected", "sources", "*", "serviceAccountToken"], When::Set),
    no(&["volumes", "*", "awsElasticBlockStore"], When::Set),
    no(&["volumes", "*", "azureDisk"], When::Set),
    no(&["volumes", "*", "azureFile"], When::Set),
    no(&["volumes", "*", "cephfs"], When::Set),
    no(&["volumes", "*", "cinder"], When::Set),
    no(&["volumes", "*", "csi"], When::Set),
    no(&["volumes", "*", "ephemeral"], When::Set),
    no(&["volumes", "*", "fc"], When::Set),
    no(&["volumes", "*", "flexVolume"], When::Set),
    no(&["volumes", "*", "flocker"], When::Set),
    no(&["volumes", "*", "gcePersistentDisk"], When::Set),
    no(&["volumes", "*", "gitRepo"], When::Set),
    no(&["volumes", "*", "glusterfs"], When::Set),
    no(&["volumes", "*", "image"], When::Set),
    no(&["volumes", "*", "iscsi"], When::Set),
    no(&["volumes", "*", "nfs"], When::Set),
    no(&["volumes", "*", "persistentVolumeClaim"], When::Set),
    no(&["volumes", "*", "photonPersistentDisk"], When::Set),
    no(&["volumes", "*", "portworxVolume"], When::Set),
    no(&["volumes", "*", "quobyte"], When::Set),
    no(&["volumes", "*", "rbd"], When::Set),
    no(&["volumes", "*", "scaleIO"], When::Set),
    no(&["volumes", "*", "storageos"], When::Set),
    no(&["volumes", "*", "vsphereVolume"], When::Set),
];

/// What services are refused for.
pub const SERVICE_FIELDS: &[Unsupported] = &[
    no(&["externalIPs"], When::Set),
    no(&["healthCheckNodePort"], When::NotZero),
    no(&["ipFamilyPolicy"], When::Is("RequireDualStack")),
    no(&["ports", "*", "protocol"], When::Is("SCTP")),
];

const NO_APP_ARMOR: &str = "no AppArmor profile is applied by this cluster";
const NO_BALANCER: &str =
    "this cluster has no load balancer of its own; the service is reached at its node ports";

/// What is said of pods that are taken all the same.
pub const WARNINGS: &[Unheeded] = &[
    warn(
        &["automountServiceAccountToken"],
        When::True,
        "this cluster issues no tokens to pods; none is mounted",
    ),
    warn(&["securityContext", "appArmorProfile", "type"], When::Is("RuntimeDefault"), NO_APP_ARMOR),
    warn(
        &["containers", "*", "securityContext", "appArmorProfile", "type"],
        When::Is("RuntimeDefault"),
        NO_APP_ARMOR,
    ),
];

/// What is said of services that are taken all the same.
pub const SERVICE_WARNINGS: &[Unheeded] = &[
    warn(
        &["trafficDistribution"],
        When::Set,
        "connections go to all endpoints in turn, near or far",
    ),
    warn(&["loadBalancerIP"], When::Set, NO_BALANCER),
    warn(&["loadBalancerClass"], When::Set, NO_BALANCER),
    warn(
        &["loadBalancerSourceRanges"],
        When::Set,
        "this cluster has no load balancer of its own; node ports are open to everybody",
    ),
];

/// Adds a fault for every field of a pod, of a pod template, or of a service that cannot be honoured.
pub fn check(resource: &Resource, object: &Value, faults: &mut Faults) {
    let (fields, _) = tables(resource);
    with_spec(resource, object, |at, spec| {
        for field in fields {
            each(at, spec, field, &mut |at, value| {
                faults.forbidden(at, &words(value, field.when));
            });
        }
    });
}

/// What people should know of an object that is taken: nothing is done for some of its fields.
#[must_use]
pub fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    let mut told = Vec::new();
    let (_, warnings) = tables(resource);
    with_spec(resource, object, |at, spec| {
        for Unheeded { field, warning } in warnings {
            each(at, spec, field, &mut |at, _| told.push(format!("{at}: {warning}")));
        }
    });
    told
}

/// Whether objects of the resource have warnings at all.
#[must_use]
pub fn may_warn(resource: &Resource) -> bool {
    [
        resource::PODS,
        resource::SERVICES,
        resource::DEPLOYMENTS,
        resource::REPLICA_SETS,
        resource::DAEMON_SETS,
    ]
    .iter()
    .any(|warned| **warned == *resource)
}

fn tables(resource: &Resource) -> (&'static [Unsupported], &'static [Unheeded]) {
    match *resource == *resource::SERVICES {
        true => (SERVICE_FIELDS, SERVICE_WARNINGS),
        false => (FIELDS, WARNINGS),
    }
}

/// Calls `f` with the specification that the tables are about, and where it stands.
fn with_spec(resource: &Resource, object: &Value, mut f: impl FnMut(&Path<'_>, &Value)) {
    const SPEC: Path<'static> = Path::root("spec");
    let Some(spec) = object.get("spec") else { return };
    if *resource == *resource::PODS || *resource == *resource::SERVICES {
        f(&SPEC, spec);
    } else if let Some(spec) = spec.get("template").and_then(|t| t.get("spec")) {
        f(&SPEC.child("template").child("spec"), spec);
    }
}

type Found<'f> = dyn FnMut(&Path<'_>, &Value) + 'f;

/// Calls `found` for the field wherever it cannot be honoured.
fn each(at: &Path<'_>, spec: &Value, field: &Unsupported, found: &mut Found<'_>) {
    find(at, spec, field.path, field.when, found);
    if let ["containers", rest @ ..] = field.path
        && let Some(containers) = spec.get("initContainers")
    {
        find(&at.child("initContainers"), containers, rest, field.when, found);
    }
}

fn find(at: &Path<'_>, value: &Value, path: &[&str], when: When, found: &mut Found<'_>) {
    match path {
        [] => {
            if cannot(value, when) {
                found(at, value);
            }
        }
        ["*", rest @ ..] => {
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                find(&at.index(i), item, rest, when, found);
            }
        }
        [name, rest @ ..] => {
            if let Some(value) = value.get(*name) {
                find(&at.child(name), value, rest, when, found);
            }
        }
    }
}

fn cannot(value: &Value, when: When) -> bool {
    let text = value.as_str();
    match when {
        When::Set => match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        },
        When::Not(known) => text.is_some_and(|t| !t.is_empty() && !known.contains(&t)),
        When::Is(word) => text == Some(word),
        When::NotZero => value.as_i64().is_some_and(|n| n != 0),
        When::True => value == &Value::Bool(true),
        When::False => value == &Value::Bool(false),
    }
}

fn words(value: &Value, when: When) -> String {
    match when {
        When::Set => "this cluster does not support the field yet".to_owned(),
        _ => format!("this cluster does not support the value {value} yet"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_for_people_names_every_field() {
        let page = include_str!("../../../docs/kubernetes.md");
        let warned = WARNINGS.iter().chain(SERVICE_WARNINGS).map(|w| &w.field);
        for field in FIELDS.iter().chain(SERVICE_FIELDS).chain(warned) {
            let named = field.path.iter().rfind(|name| !["*", "type", "name"].contains(name));
            let name = format!("`{}`", named.expect("a field has a name"));
            assert!(page.contains(&name), "docs/kubernetes.md does not name {name}");
        }
    }

    #[test]
    fn what_is_taken_and_not_done_is_said() {
        let spec = json!({
            "automountServiceAccountToken": true,
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}],
        });
        let deployment = json!({"spec": {"template": {"spec": spec}}});
        let told = warnings(resource::DEPLOYMENTS, &deployment);
        let fields: Vec<&str> = told.iter().filter_map(|w| Some(w.split_once(": ")?.0)).collect();
        assert_eq!(
            fields,
            [
                "spec.template.spec.automountServiceAccountToken",
                "spec.template.spec.securityContext.appArmorProfile.type",
                "spec.template.spec.initContainers[0].securityContext.appArmorProfile.type",
            ]
        );
        let service =
            json!({"spec": {"trafficDistribution": "PreferClose", "loadBalancerIP": "1.2.3.4"}});
        assert_eq!(warnings(resource::SERVICES, &service).len(), 2);
        let plain = json!({"spec": {"automountServiceAccountToken": false, "containers": [{}]}});
        assert!(warnings(resource::PODS, &plain).is_empty());
    }
}
