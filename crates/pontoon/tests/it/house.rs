//! The rules of the house, checked: the layer table in ARCHITECTURE.md is what the manifests say, pure
//! crates are pure, and every source file keeps the form that CONTRIBUTING.md asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that must not have a clock, randomness, I/O or a runtime, however they would come by it.
const PURE: [&str; 3] = ["model", "scheduler", "controllers"];
/// Packages that bring one of these.
const IMPURE_PACKAGES: [&str; 8] =
    ["tokio", "rand", "hyper", "reqwest", "rustix", "nix", "openraft", "mio"];
/// Words that reach for the world in a pure crate.
const IMPURE_WORDS: [&str; 8] = [
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
];
/// Lines that a source file may have.
const LINES_MAX: usize = 600;
/// File names that say nothing.
const BANNED_NAMES: [&str; 6] = ["utils", "common", "helpers", "misc", "base", "mod"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Our crates with the crates of ours that each is built with.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let short = |name: &str| name.trim_start_matches("pontoon-").to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().filter(|p| p["source"].is_null());
    ours.map(|package| {
        let needs = package["dependencies"].as_array().unwrap().iter();
        let needs = needs
            .filter(|d| d["kind"].is_null() && d["source"].is_null())
            .map(|d| short(d["name"].as_str().unwrap()));
        (short(package["name"].as_str().unwrap()), needs.collect())
    })
    .collect()
}

/// The layer table: `| layer | crate | what it is | knows |`.
fn layer_table() -> BTreeMap<String, (u32, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [layer, name, _, knows] = cells.as_slice() else { continue };
        let Ok(layer) = layer.parse() else { continue };
        let knows =
            knows.split_whitespace().filter(|w| *w != "–").map(|w| w.trim_matches('`').to_owned());
        table.insert(name.trim_matches('`').to_owned(), (layer, knows.collect()));
    }
    table
}

#[test]
fn the_layer_table_is_what_the_manifests_say() {
    let table = layer_table();
    let manifests = dependencies(&metadata());
    let names: BTreeSet<_> = manifests.keys().collect();
    assert_eq!(
        table.keys().collect::<BTreeSet<_>>(),
        names,
        "crates in ARCHITECTURE.md and in crates/"
    );
    for (name, needs) in &manifests {
        let (layer, knows) = &table[name];
        assert_eq!(knows, needs, "{name}: what ARCHITECTURE.md says it knows, and its Cargo.toml");
        for other in needs {
            assert!(
                table[other].0 < *layer,
                "{name} (layer {layer}) stands on {other}, which is not below it"
            );
        }
    }
}

#[test]
fn pure_crates_are_pure() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["id"].as_str().unwrap(), n))
        .collect();
    for pure in PURE {
        let start = names.iter().find(|(_, n)| **n == format!("pontoon-{pure}")).unwrap().0;
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            assert!(!IMPURE_PACKAGES.contains(&names[id]), "{pure} is built with {}", names[id]);
            let needs = nodes[id]["deps"].as_array().unwrap().iter();
            let normal =
                |d: &&Value| d["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"].is_null());
            open.extend(needs.filter(normal).map(|d| d["pkg"].as_str().unwrap()));
        }
        let files = sources(&root().join("crates").join(pure).join("src"));
        let tests = test_modules(&files);
        for file in files {
            if file.components().any(|part| {
                let name = Path::new(&part).file_stem().unwrap_or_default();
                tests.contains(name.to_str().unwrap_or_default())
            }) {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in IMPURE_WORDS {
                assert!(!code.contains(word), "{}: a pure crate says {word}", file.display());
            }
        }
    }
}

#[test]
fn the_tree_has_no_banned_package() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for banned in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls", "libseccomp-sys"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "{banned} came into the tree");
    }
}

/// What may be executed: this file itself, and in a machine what it was made for.
#[test]
fn no_program_is_executed_but_this_one() {
    let own = ["\"/proc/self/exe\"", "std::env::current_exe()?", "format!(\"/proc/self/fd/{}\""];
    let of_machines =
        ["machine/src/init.rs", "machine/src/enter.rs", "pontoon/src/command/lock.rs"];
    let mut faults = Vec::new();
    let mut found = 0;
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let files = sources(&entry.unwrap().path().join("src"));
        let tests = test_modules(&files);
        let is_test = |file: &Path| {
            file.components().any(|part| {
                let part = Path::new(&part).file_stem().unwrap_or_default();
                tests.contains(part.to_str().unwrap_or_default())
            })
        };
        for file in files.iter().filter(|file| !is_test(file)) {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for call in code.split("Command::new(").skip(1) {
                found += 1;
                let is_own = own.iter().any(|own| call.starts_with(own))
                    || of_machines.iter().any(|end| file.ends_with(end));
                if !is_own && !call.starts_with(")") {
                    faults.push(format!("{}: {}", file.display(), call.lines().next().unwrap()));
                }
            }
        }
    }
    assert!(found > 0);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_keeps_the_form() {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        for file in sources(&entry.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap();
            let shown = file.strip_prefix(root().join("crates")).unwrap().display().to_string();
            if !text.starts_with("//!") {
                faults.push(format!("{shown}: does not open with //!"));
            }
            if text.lines().count() > LINES_MAX {
                faults.push(format!("{shown}: {} lines, over {LINES_MAX}", text.lines().count()));
            }
            if BANNED_NAMES.contains(&file.file_stem().unwrap().to_str().unwrap()) {
                faults.push(format!("{shown}: a name that says nothing"));
            }
            for word in ["#[ignore", "todo!(", "unimplemented!(", "#[allow("] {
                if text.contains(word) && !shown.ends_with("house.rs") {
                    faults.push(format!("{shown}: has {word}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Names of modules that are compiled for tests only.
fn test_modules(files: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for rest in text.split("#[cfg(test)]").skip(1) {
            let line = rest.trim_start().lines().next().unwrap_or_default();
            let name = line.strip_prefix("mod ").and_then(|l| l.strip_suffix(';'));
            found.extend(name.map(str::to_owned));
        }
    }
    found
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
