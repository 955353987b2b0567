//! ConfigMaps, Secrets, ServiceAccounts and Events.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret, ServiceAccount};

use super::faults::Faults;
use super::kinds::Check;
use super::name;
use super::path::Path;

/// All data of a ConfigMap or Secret together, in bytes.
const DATA_MAX: usize = 1024 * 1024;
const DATA: Path<'static> = Path::root("data");

fn keys<'k>(keys: impl Iterator<Item = &'k String>, faults: &mut Faults) {
    for key in keys {
        faults.all_invalid(&DATA.key(key), key, name::config_key(key));
    }
}

fn size(bytes: usize, faults: &mut Faults) {
    if bytes > DATA_MAX {
        faults.too_long(&DATA, DATA_MAX);
    }
}

impl Check for ConfigMap {
    fn check(&self, faults: &mut Faults) {
        let text = self.data.iter().flatten();
        let binary = self.binary_data.iter().flatten();
        keys(text.clone().map(|(k, _)| k).chain(binary.clone().map(|(k, _)| k)), faults);
        for (key, _) in binary.clone() {
            if self.data.as_ref().is_some_and(|d| d.contains_key(key)) {
                let at = DATA.key(key);
                faults.invalid(&at, key, "duplicate of key present in binaryData");
            }
        }
        let bytes: usize = text.map(|(_, v)| v.len()).sum();
        size(bytes + binary.map(|(_, v)| v.0.len()).sum::<usize>(), faults);
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        if old.immutable != Some(true) {
            return;
        }
        let why = "field is immutable when `immutable` is set";
        if self.immutable != Some(true) {
            faults.forbidden(&Path::root("immutable"), why);
        }
        if self.data != old.data {
            faults.forbidden(&DATA, why);
        }
        if self.binary_data != old.binary_data {
            faults.forbidden(&Path::root("binaryData"), why);
        }
    }
}

/// What secrets of a type must hold.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

impl Check for Secret {
    fn check(&self, faults: &mut Faults) {
        keys(self.data.iter().flatten().map(|(k, _)| k), faults);
        size(self.data.iter().flatten().map(|(_, v)| v.0.len()).sum(), faults);
        let kind = self.type_.as_deref().unwrap_or_default();
        let needed = SECRET_KEYS.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, keys)| keys);
        for key in needed {
            if !self.data.as_ref().is_some_and(|d| d.contains_key(*key)) {
                faults.required(&DATA.key(key), "");
            }
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&Path::root("type"), &self.type_, &old.type_);
        if old.immutable != Some(true) {
            return;
        }
        let why = "field is immutable when `immutable` is set";
        if self.immutable != Some(true) {
            faults.forbidden(&Path::root("immutable"), why);
        }
        if self.data != old.data {
            faults.forbidden(&DATA, why);
        }
    }
}

impl Check for ServiceAccount {
    fn check(&self, _faults: &mut Faults) {}
}

impl Check for Event {
    fn check(&self, faults: &mut Faults) {
        let about = self.involved_object.namespace.as_deref().unwrap_or_default();
        let here = self.metadata.namespace.as_deref().unwrap_or_default();
        // Events about what belongs to the cluster are in the default namespace.
        let fits = about == here || (about.is_empty() && here == crate::names::NAMESPACE_DEFAULT);
        if !fits {
            let at = Path::root("involvedObject.namespace");
            faults.invalid(&at, about, "does not match event.namespace");
        }
    }
}
