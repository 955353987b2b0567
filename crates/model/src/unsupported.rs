//! The fields of pods that this cluster cannot honour yet, as data. A pod that sets one of them is
//! refused with the field's name: nothing that changes its meaning is silently ignored.

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

/// A field below the pod's `spec`; `*` stands for every item of a list.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    pub path: &'static [&'static str],
    pub when: When,
}

const fn no(path: &'static [&'static str], when: When) -> Unsupported {
    Unsupported { path, when }
}

/// The list. To honour a field in the node or the scheduler, take its line away.
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
    no(&["securityContext", "supplementalGroupsPolicy"], When::Not(&["Merge"])),
    no(&["containers", "*", "volumeDevices"], When::Set),
    no(&["containers", "*", "restartPolicyRules"], When::Set),
    no(&["containers", "*", "resources", "claims"], When::Set),
    no(&["containers", "*", "livenessProbe", "grpc"], When::Set),
    no(&["containers", "*", "readinessProbe", "grpc"], When::Set),
    no(&["containers", "*", "startupProbe", "grpc"], When::Set),
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
    no(&["initContainers", "*", "volumeDevices"], When::Set),
    no(&["initContainers", "*", "restartPolicyRules"], When::Set),
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

/// Adds a fault for every field of a pod, or of a pod template, that cannot be honoured.
pub fn check(resource: &Resource, object: &Value, faults: &mut Faults) {
    const SPEC: Path<'static> = Path::root("spec");
    let Some(spec) = object.get("spec") else { return };
    if *resource == *resource::PODS {
        check_spec(&SPEC, spec, faults);
    } else if let Some(spec) = spec.get("template").and_then(|t| t.get("spec")) {
        check_spec(&SPEC.child("template").child("spec"), spec, faults);
    }
}

fn check_spec(at: &Path<'_>, spec: &Value, faults: &mut Faults) {
    for field in FIELDS {
        find(at, spec, field.path, field.when, faults);
    }
}

fn find(at: &Path<'_>, value: &Value, path: &[&str], when: When, faults: &mut Faults) {
    match path {
        [] => {
            if cannot(value, when) {
                faults.forbidden(at, &words(value, when));
            }
        }
        ["*", rest @ ..] => {
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                find(&at.index(i), item, rest, when, faults);
            }
        }
        [name, rest @ ..] => {
            if let Some(value) = value.get(*name) {
                find(&at.child(name), value, rest, when, faults);
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
