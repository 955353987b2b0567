//! What `GET /version` tells of this build.

use serde_json::{Value, json};

/// The Kubernetes minor version whose API is spoken: clients compare it with their own.
const KUBERNETES: &str = "v1.32.0";

/// This build of Pontoon, as given by the binary.
#[derive(Clone, Debug)]
pub struct BuildInfo {
    /// Semantic version without a `v`: `0.1.0`.
    pub version: String,
    /// Commit that was built, or empty.
    pub commit: String,
    /// RFC 3339 time of the build, or empty.
    pub date: String,
}

impl BuildInfo {
    /// The version alone, of a build that does not know its commit.
    pub fn of_version(version: impl Into<String>) -> BuildInfo {
        BuildInfo { version: version.into(), commit: String::new(), date: String::new() }
    }

    /// The version as Kubernetes words it: `v1.32.0+pontoon-0.1.0`.
    pub(crate) fn git_version(&self) -> String {
        format!("{KUBERNETES}+pontoon-{}", self.version)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "major": "1",
            "minor": "32",
            "gitVersion": self.git_version(),
            "gitCommit": self.commit,
            "gitTreeState": "clean",
            "buildDate": self.date,
            "goVersion": "none",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, architecture()),
        })
    }
}

/// Go's name of this machine's architecture, which clients expect here.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
