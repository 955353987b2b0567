//! Cases for volumes made from objects, and for the mounts that containers get of them.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::assignments::Assignments;

fn assignments() -> Assignments {
    let mut assignments = Assignments::default();
    let key = |name: &str| ("d".to_owned(), name.to_owned());
    let map = json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"bin": "AAE="}});
    assignments.config_maps.insert(key("map"), Arc::new(serde_json::from_value(map).unwrap()));
    let secret = json!({"metadata": {}, "data": {"s": "c2VjcmV0"}});
    assignments.secrets.insert(key("sec"), Arc::new(serde_json::from_value(secret).unwrap()));
    assignments
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn dirs(&self) -> PodDirs {
        PodDirs::new(&self.dir.path().join("data"), &self.dir.path().join("run"), "uid")
    }

    fn prepare(&self, volume: Value) -> Result<Volume, String> {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "labels": {"l": "v"}},
            "spec": {"containers": [], "volumes": [volume]}});
        let pod = serde_json::from_value(pod).unwrap();
        let around = Surroundings {
            pod: &pod,
            pod_ip: None,
            node_name: "n",
            host_ip: "h",
            node_cpu_millis: 0,
            node_memory_bytes: 0,
            assignments: &assignments(),
        };
        let volumes = prepare(&around, &self.dirs()).map_err(|error| error.to_string())?;
        Ok(volumes["v"].clone())
    }

    #[track_caller]
    fn check(&self, volume: Value, expected: &[(&str, &str)]) {
        let volume = self.prepare(volume).unwrap();
        for (path, text) in expected {
            assert_eq!(fs::read_to_string(volume.path.join(path)).unwrap(), *text, "{path}");
        }
    }
}

#[test]
fn config_maps_and_secrets_become_files() {
    let case = Case::new();
    case.check(
        json!({"name": "v", "configMap": {"name": "map"}}),
        &[("a", "1"), ("bin", "\0\u{1}")],
    );
    let volume = json!({"name": "v", "secret": {"secretName": "sec",
        "items": [{"key": "s", "path": "deep/name", "mode": 256}]}});
    case.check(volume, &[("deep/name", "secret")]);
    assert!(case.dirs().payload("v").starts_with(case.dir.path().join("run")));
}

#[test]
fn projected_volumes_put_sources_together() {
    let volume = json!({"name": "v", "projected": {"sources": [
        {"configMap": {"name": "map", "items": [{"key": "a", "path": "x"}]}},
        {"secret": {"name": "sec"}},
        {"configMap": {"name": "none", "optional": true}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}});
    Case::new().check(volume, &[("x", "1"), ("s", "secret"), ("labels", "l=\"v\"")]);
}

#[test]
fn what_is_missing_or_not_served_is_said() {
    let case = Case::new();
    for (source, said) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "z", "path": "z"}]}}),
            "couldn't find key z in ConfigMap d/map",
        ),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "a", "path": "../z"}]}}),
            "is no path in a volume",
        ),
        (json!({"nfs": {"server": "s", "path": "/"}}), "this kind of volume is not supported"),
        (json!({"emptyDir": {"medium": "HugePages"}}), "this medium of an emptyDir"),
    ] {
        let mut volume = source;
        volume["name"] = json!("v");
        let error = case.prepare(volume).unwrap_err();
        assert!(error.contains(said) && error.contains("volume \"v\""), "{error}");
    }
}

#[test]
fn empty_directories_are_on_disk_or_in_memory() {
    let case = Case::new();
    let disk = case.prepare(json!({"name": "v", "emptyDir": {}})).unwrap();
    assert!(disk.memory.is_none() && disk.path.starts_with(case.dir.path().join("data")));
    assert_eq!(fs::metadata(&disk.path).unwrap().permissions().mode() & 0o7777, 0o777);
    let memory = json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    assert_eq!(case.prepare(memory).unwrap().memory, Some(Some(1 << 20)));
}

fn mounts_of(mount: Value) -> Result<ContainerMounts, ConfigError> {
    let container = serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
    let volume = Volume { path: "/vol".into(), memory: None };
    let volumes = BTreeMap::from([("v".to_owned(), volume)]);
    let mut variables = Variables::default();
    variables.set("NAME".into(), "x".into());
    let dirs = PodDirs::new(Path::new("/data"), Path::new("/run"), "uid");
    mounts(&container, &volumes, &variables, &dirs)
}

#[test]
fn containers_mount_volumes_and_parts_of_them() {
    let whole = mounts_of(json!({"name": "v", "mountPath": "/m", "readOnly": true})).unwrap();
    let kind = MountKind::Bind { source: "/vol".into() };
    assert_eq!(whole.mounts, [Mount { target: "/m".into(), kind, read_only: true }]);
    let part =
        mounts_of(json!({"name": "v", "mountPath": "/m", "subPathExpr": "a/$(NAME)"})).unwrap();
    let target = Path::new("/run/pods/uid/subpaths/c/0");
    assert_eq!(part.sub_paths, [SubPath::new(Path::new("/vol"), "a/x", target).unwrap()]);
    for refused in [
        json!({"name": "none", "mountPath": "/m"}),
        json!({"name": "v", "mountPath": "/m", "subPath": "../x"}),
        json!({"name": "v", "mountPath": "/m", "mountPropagation": "Bidirectional"}),
    ] {
        assert!(mounts_of(refused).is_err());
    }
}

#[test]
fn an_empty_directory_in_use_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let volume = || case.prepare(json!({"name": "v", "emptyDir": {}})).unwrap();
    let path = volume().path;
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o777);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(path.join("file"), "kept").unwrap();
    assert_eq!(volume().path, path);
    assert_eq!(mode(), 0o700, "a database refuses a directory that others can read");
    assert!(path.join("file").exists());
}
