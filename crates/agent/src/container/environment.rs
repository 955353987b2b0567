//! A container's environment: services, `envFrom`, `env`, in the order in which one overrides the other.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource};

use super::expand::expand;
use super::service_variables::service_variables;
use super::{ConfigError, Surroundings, downward};
use crate::pod::spec::spec;

/// Variables in the order in which they were first set, each once.
#[derive(Default)]
pub(crate) struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Variables {
    pub(crate) fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(&at) => self.list[at].1 = value,
            None => {
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.index.get(name).map(|&at| self.list[at].1.clone())
    }

    pub(crate) fn into_list(self) -> Vec<(String, String)> {
        self.list
    }
}

/// The variables that the pod's specification gives to `container`; those of its image are not among them.
pub(crate) fn environment(
    around: &Surroundings<'_>,
    container: &Container,
) -> Result<Variables, ConfigError> {
    let namespace = around.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut variables = Variables::default();
    let links = spec(around.pod).enable_service_links.unwrap_or(true);
    for (name, value) in service_variables(around.assignments, namespace, links) {
        variables.set(name, value);
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            let pairs = config_map(around, namespace, &reference.name, optional)?;
            pairs
                .into_iter()
                .for_each(|(key, value)| variables.set(format!("{prefix}{key}"), value));
        }
        if let Some(reference) = &source.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            let pairs = secret(around, namespace, &reference.name, optional)?;
            pairs
                .into_iter()
                .for_each(|(key, value)| variables.set(format!("{prefix}{key}"), value));
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(around, container, variable, &variables)? {
            variables.set(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn value(
    around: &Surroundings<'_>,
    container: &Container,
    variable: &EnvVar,
    before: &Variables,
) -> Result<Option<String>, ConfigError> {
    match &variable.value_from {
        Some(source) => from_source(around, container, source),
        None => {
            let text = variable.value.as_deref().unwrap_or_default();
            Ok(Some(expand(text, |name| before.get(name))))
        }
    }
}

fn from_source(
    around: &Surroundings<'_>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    let namespace = around.pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return downward::field(around, &field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return downward::resource(around, Some(container), resource).map(Some);
    }
    let (kind, name, key, optional, pairs) = if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional.unwrap_or(false);
        let pairs = config_map(around, &namespace, &r.name, optional)?;
        ("ConfigMap", &r.name, &r.key, optional, pairs)
    } else if let Some(r) = &source.secret_key_ref {
        let optional = r.optional.unwrap_or(false);
        ("Secret", &r.name, &r.key, optional, secret(around, &namespace, &r.name, optional)?)
    } else {
        return Err(ConfigError::Unsupported("this source of an environment variable"));
    };
    match pairs.into_iter().find(|(found, _)| found == key) {
        Some((_, value)) => Ok(Some(value)),
        None if optional => Ok(None),
        None => {
            let (name, key) = (name.clone(), key.clone());
            Err(ConfigError::NoKey { kind, namespace, name, key })
        }
    }
}

type Pairs = Vec<(String, String)>;

fn config_map(
    around: &Surroundings<'_>,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Pairs, ConfigError> {
    let key = (namespace.to_owned(), name.to_owned());
    match around.assignments.config_maps.get(&key) {
        Some(map) => Ok(map.data.clone().unwrap_or_default().into_iter().collect()),
        None if optional => Ok(Vec::new()),
        None => Err(ConfigError::NoObject { kind: "configmap", name: name.to_owned() }),
    }
}

fn secret(
    around: &Surroundings<'_>,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Pairs, ConfigError> {
    let key = (namespace.to_owned(), name.to_owned());
    let Some(secret) = around.assignments.secrets.get(&key) else {
        let missing = ConfigError::NoObject { kind: "secret", name: name.to_owned() };
        return if optional { Ok(Vec::new()) } else { Err(missing) };
    };
    let text = |(key, value): (&String, &k8s_openapi::ByteString)| {
        let text = String::from_utf8(value.0.clone()).ok().filter(|text| !text.contains('\0'));
        let not_text =
            || ConfigError::NotText { kind: "secret", name: name.to_owned(), key: key.clone() };
        Ok((key.clone(), text.ok_or_else(not_text)?))
    };
    secret.data.iter().flatten().map(text).collect()
}

#[cfg(test)]
mod tests;
