//! What is in the volumes that come from objects: ConfigMaps, Secrets, the pod's own fields, and those put together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume};

use crate::container::{ConfigError, Surroundings, downward};

/// A file's bytes and permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by their path inside the volume.
pub(crate) type Files = BTreeMap<String, File>;

const DEFAULT_MODE: u32 = 0o644;

/// Which keys of an object go where.
struct Selection<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
    mode: u32,
}

/// The files of `volume`, or why it cannot have them.
pub(crate) fn files(around: &Surroundings<'_>, volume: &Volume) -> Result<Files, ConfigError> {
    if let Some(map) = &volume.config_map {
        let selection = Selection {
            name: &map.name,
            items: map.items.as_deref(),
            optional: map.optional.unwrap_or(false),
            mode: mode(map.default_mode, DEFAULT_MODE)?,
        };
        return select("ConfigMap", config_map(around, &map.name), &selection, around);
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let selection = Selection {
            name,
            items: secret.items.as_deref(),
            optional: secret.optional.unwrap_or(false),
            mode: mode(secret.default_mode, DEFAULT_MODE)?,
        };
        return select("Secret", self::secret(around, name), &selection, around);
    }
    if let Some(downward) = &volume.downward_api {
        let mode = mode(downward.default_mode, DEFAULT_MODE)?;
        return fields(around, downward.items.as_deref().unwrap_or_default(), mode);
    }
    if volume.projected.is_some() {
        return projected(around, volume);
    }
    Err(ConfigError::Unsupported("this kind of volume"))
}

fn projected(around: &Surroundings<'_>, volume: &Volume) -> Result<Files, ConfigError> {
    let projected = volume.projected.clone().unwrap_or_default();
    let mode = mode(projected.default_mode, DEFAULT_MODE)?;
    let mut all = Files::new();
    for source in projected.sources.iter().flatten() {
        let files = if let Some(map) = &source.config_map {
            let selection = Selection {
                name: &map.name,
                items: map.items.as_deref(),
                optional: map.optional.unwrap_or(false),
                mode,
            };
            select("ConfigMap", config_map(around, &map.name), &selection, around)?
        } else if let Some(secret) = &source.secret {
            let selection = Selection {
                name: &secret.name,
                items: secret.items.as_deref(),
                optional: secret.optional.unwrap_or(false),
                mode,
            };
            select("Secret", self::secret(around, &secret.name), &selection, around)?
        } else if let Some(downward) = &source.downward_api {
            fields(around, downward.items.as_deref().unwrap_or_default(), mode)?
        } else {
            return Err(ConfigError::Unsupported("this source of a projected volume"));
        };
        all.extend(files);
    }
    Ok(all)
}

type Keys = Option<BTreeMap<String, Vec<u8>>>;

fn config_map(around: &Surroundings<'_>, name: &str) -> Keys {
    let namespace = around.pod.metadata.namespace.clone().unwrap_or_default();
    let map = around.assignments.config_maps.get(&(namespace, name.to_owned()))?;
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    Some(text.chain(binary).collect())
}

fn secret(around: &Surroundings<'_>, name: &str) -> Keys {
    let namespace = around.pod.metadata.namespace.clone().unwrap_or_default();
    let secret = around.assignments.secrets.get(&(namespace, name.to_owned()))?;
    Some(secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect())
}

fn select(
    kind: &'static str,
    keys: Keys,
    selection: &Selection<'_>,
    around: &Surroundings<'_>,
) -> Result<Files, ConfigError> {
    let Some(keys) = keys else {
        let kind = if kind == "Secret" { "secret" } else { "configmap" };
        let missing = ConfigError::NoObject { kind, name: selection.name.to_owned() };
        return if selection.optional { Ok(Files::new()) } else { Err(missing) };
    };
    let Some(items) = selection.items.filter(|items| !items.is_empty()) else {
        let file = |(path, data)| (path, File { data, mode: selection.mode });
        return Ok(keys.into_iter().map(file).collect());
    };
    let mut files = Files::new();
    for item in items {
        match keys.get(&item.key) {
            Some(data) => {
                let mode = mode(item.mode, selection.mode)?;
                files.insert(item.path.clone(), File { data: data.clone(), mode });
            }
            None if selection.optional => {}
            None => {
                return Err(ConfigError::NoKey {
                    kind,
                    namespace: around.pod.metadata.namespace.clone().unwrap_or_default(),
                    name: selection.name.to_owned(),
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(files)
}

fn fields(
    around: &Surroundings<'_>,
    items: &[DownwardAPIVolumeFile],
    default: u32,
) -> Result<Files, ConfigError> {
    let mut files = Files::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(around, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(around, None, resource)?
        } else {
            return Err(ConfigError::Unsupported("a downwardAPI item without a source"));
        };
        let mode = mode(item.mode, default)?;
        files.insert(item.path.clone(), File { data: text.into_bytes(), mode });
    }
    Ok(files)
}

fn mode(given: Option<i32>, default: u32) -> Result<u32, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    let mode = u32::try_from(given).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| ConfigError::Invalid { what: "file mode", text: given.to_string() })
}
