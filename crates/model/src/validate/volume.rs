//! The volumes of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeProjection,
};
use serde_json::Value;

use super::container::{field_path, inside};
use super::faults::Faults;
use super::name;
use super::path::Path;
use super::resources::amount_of;

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
];
const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks them and answers with their names.
pub(super) fn volumes<'s>(
    at: &Path<'_>,
    spec: &'s PodSpec,
    faults: &mut Faults,
) -> BTreeSet<&'s str> {
    let mut names = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = at.index(i);
        let name = at.child("name");
        if volume.name.is_empty() {
            faults.required(&name, "");
        } else {
            faults.all_invalid(&name, &volume.name, name::dns_label(&volume.name));
            if !names.insert(volume.name.as_str()) {
                faults.duplicate(&name, &volume.name);
            }
        }
        check(&at, volume, faults);
    }
    names
}

fn check(at: &Path<'_>, volume: &Volume, faults: &mut Faults) {
    match sources(volume).as_slice() {
        [] => faults.required(at, "must specify a volume type"),
        [_] => {}
        [_, second, ..] => {
            faults.forbidden(&at.child(second), "may not specify more than 1 volume type")
        }
    }
    if let Some(map) = &volume.config_map {
        let at = at.child("configMap");
        if map.name.is_empty() {
            faults.required(&at.child("name"), "");
        }
        items(&at, map.items.as_deref().unwrap_or_default(), faults);
        mode(&at.child("defaultMode"), map.default_mode, faults);
    }
    if let Some(secret) = &volume.secret {
        let at = at.child("secret");
        if secret.secret_name.as_deref().unwrap_or_default().is_empty() {
            faults.required(&at.child("secretName"), "");
        }
        items(&at, secret.items.as_deref().unwrap_or_default(), faults);
        mode(&at.child("defaultMode"), secret.default_mode, faults);
    }
    if let Some(path) = &volume.host_path {
        let at = at.child("hostPath");
        if path.path.is_empty() {
            faults.required(&at.child("path"), "");
        } else if path.path.split('/').any(|part| part == "..") {
            faults.invalid(&at.child("path"), &path.path, "must not contain '..'");
        }
        let kind = path.type_.as_deref().unwrap_or_default();
        faults.one_of(&at.child("type"), kind, HOST_PATH_TYPES);
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref()) {
        amount_of(&at.child("emptyDir").child("sizeLimit"), &limit.0, faults);
    }
    if let Some(api) = &volume.downward_api {
        let at = at.child("downwardAPI");
        mode(&at.child("defaultMode"), api.default_mode, faults);
        downward(&at, api.items.as_deref().unwrap_or_default(), faults);
    }
    if let Some(projected) = &volume.projected {
        let at = at.child("projected");
        mode(&at.child("defaultMode"), projected.default_mode, faults);
        for (i, source) in projected.sources.iter().flatten().enumerate() {
            projection(&at.child("sources").index(i), source, faults);
        }
    }
}

fn projection(at: &Path<'_>, source: &VolumeProjection, faults: &mut Faults) {
    let objects = [
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, &s.items))),
        ("secret", source.secret.as_ref().map(|s| (&s.name, &s.items))),
    ];
    let set = [
        source.config_map.is_some(),
        source.secret.is_some(),
        source.downward_api.is_some(),
        source.service_account_token.is_some(),
        source.cluster_trust_bundle.is_some(),
    ];
    match set.iter().filter(|set| **set).count() {
        0 => faults.required(at, "must specify a source type"),
        1 => {}
        _ => faults.forbidden(at, "may not specify more than 1 volume type per source"),
    }
    for (field, object) in objects {
        let Some((name, keys)) = object else { continue };
        let at = at.child(field);
        if name.is_empty() {
            faults.required(&at.child("name"), "");
        }
        items(&at, keys.as_deref().unwrap_or_default(), faults);
    }
    if let Some(api) = &source.downward_api {
        let files = api.items.as_deref().unwrap_or_default();
        downward(&at.child("downwardAPI"), files, faults);
    }
}

fn downward(at: &Path<'_>, files: &[DownwardAPIVolumeFile], faults: &mut Faults) {
    let list = at.child("items");
    for (i, file) in files.iter().enumerate() {
        let at = list.index(i);
        if file.path.is_empty() {
            faults.required(&at.child("path"), "");
        }
        inside(&at.child("path"), &file.path, faults);
        mode(&at.child("mode"), file.mode, faults);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), None) => {
                field_path(&at.child("fieldRef"), &field.field_path, VOLUME_FIELDS, faults);
            }
            (None, Some(_)) => {}
            (None, None) => {
                faults.required(&at, "one of fieldRef and resourceFieldRef is required");
            }
            (Some(_), Some(_)) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                faults.invalid(&at, "resource", why);
            }
        }
    }
}

/// The members of a volume that say where it comes from.
fn sources(volume: &Volume) -> Vec<String> {
    match serde_json::to_value(volume) {
        Ok(Value::Object(map)) => map.into_iter().map(|(k, _)| k).filter(|k| k != "name").collect(),
        _ => Vec::new(),
    }
}

fn items(at: &Path<'_>, items: &[KeyToPath], faults: &mut Faults) {
    let list = at.child("items");
    for (i, item) in items.iter().enumerate() {
        let at = list.index(i);
        if item.key.is_empty() {
            faults.required(&at.child("key"), "");
        }
        if item.path.is_empty() {
            faults.required(&at.child("path"), "");
        }
        inside(&at.child("path"), &item.path, faults);
        mode(&at.child("mode"), item.mode, faults);
    }
}

fn mode(at: &Path<'_>, mode: Option<i32>, faults: &mut Faults) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        faults.invalid(at, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
