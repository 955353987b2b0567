//! The credentials for registries that a pod brings along, out of its `imagePullSecrets`.

use k8s_openapi::api::core::v1::{Pod, Secret};
use pontoon_image::Keychain;

use super::spec::spec;
use crate::assignments::Assignments;

/// The types of Secrets that hold credentials, and the key that does.
const CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const DOCKERCFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

/// The pod's credentials, and what is wrong with those of its secrets that give none.
pub(crate) fn pull_secrets(pod: &Pod, assignments: &Assignments) -> (Keychain, Vec<String>) {
    let (mut keychain, mut faults) = (Keychain::default(), Vec::new());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for secret in spec(pod).image_pull_secrets.iter().flatten() {
        let name = secret.name.as_str();
        let found = assignments.secrets.get(&(namespace.to_owned(), name.to_owned()));
        let read = found.ok_or_else(|| "there is no such secret".to_owned()).and_then(|s| read(s));
        match read {
            Ok(keys) => keychain.extend(keys),
            Err(why) => faults.push(format!("secret {namespace}/{name}: {why}")),
        }
    }
    (keychain, faults)
}

fn read(secret: &Secret) -> Result<Keychain, String> {
    let bytes = |key: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(key));
        found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("it has no key {key}"))
    };
    let (read, key) = match secret.type_.as_deref().unwrap_or_default() {
        kind if kind == CONFIG_JSON.0 => {
            (Keychain::of_config_json(bytes(CONFIG_JSON.1)?), CONFIG_JSON.1)
        }
        kind if kind == DOCKERCFG.0 => (Keychain::of_dockercfg(bytes(DOCKERCFG.1)?), DOCKERCFG.1),
        other => {
            let (one, two) = (CONFIG_JSON.0, DOCKERCFG.0);
            return Err(format!("its type is {other:?}; what is wanted is {one} or {two}"));
        }
    };
    read.map_err(|error| format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn assignments(secrets: &[(&str, &str, &str, &str)]) -> Assignments {
        let mut assignments = Assignments::default();
        for (name, kind, key, text) in secrets {
            let bytes = ByteString(text.as_bytes().to_vec());
            let secret = json!({"metadata": {"name": name}, "type": kind, "data": {*key: bytes}});
            let secret = Arc::new(serde_json::from_value(secret).unwrap());
            assignments.secrets.insert(("d".into(), (*name).into()), secret);
        }
        assignments
    }

    #[test]
    fn all_secrets_are_put_together_and_the_bad_ones_named() {
        let entry = r#"{"r.example": {"username": "u", "password": "p"}}"#;
        let new = format!(r#"{{"auths": {entry}}}"#);
        let assignments = assignments(&[
            ("new", CONFIG_JSON.0, CONFIG_JSON.1, &new),
            ("old", DOCKERCFG.0, DOCKERCFG.1, entry),
            ("opaque", "Opaque", CONFIG_JSON.1, &new),
            ("bad", CONFIG_JSON.0, CONFIG_JSON.1, "hunter2"),
            ("empty", CONFIG_JSON.0, "other", &new),
        ]);
        let names = ["new", "old", "opaque", "bad", "empty", "none"].map(|n| json!({"name": n}));
        let pod = json!({"metadata": {"namespace": "d"}, "spec": {"containers": [], "imagePullSecrets": names}});
        let (keychain, faults) = pull_secrets(&serde_json::from_value(pod).unwrap(), &assignments);
        let mut both = Keychain::of_config_json(new.as_bytes()).unwrap();
        both.extend(Keychain::of_dockercfg(entry.as_bytes()).unwrap());
        assert_eq!(keychain, both);
        let faults = faults.join("; ");
        for said in [
            "d/opaque: its type is \"Opaque\"",
            "d/bad: .dockerconfigjson: it is no JSON",
            "d/empty: it has no key",
            "d/none: there is no such secret",
        ] {
            assert!(faults.contains(said), "{faults}");
        }
        assert!(!faults.contains("hunter2"));
    }
}
