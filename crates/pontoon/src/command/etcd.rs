//! `pontoon etcd-env`: what etcd's clients need to know, from what this node knows.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pontoon_node::config::etcd_client_in;
use serde_json::{Value, json};

use crate::cli::{EtcdEnv, Global};
use crate::client::Client;
use crate::output;

/// The files, and where the administrator's kubeconfig has what is in them.
const FILES: [(&str, &str, &str); 3] = [
    ("ETCDCTL_CACERT", "ca.pem", "certificate-authority-data: "),
    ("ETCDCTL_CERT", "cert.pem", "client-certificate-data: "),
    ("ETCDCTL_KEY", "key.pem", "client-key-data: "),
];

/// Writes the files and prints the environment, for a shell to evaluate.
///
/// # Errors
/// When this node does not serve etcd's API, or a file cannot be written.
pub(super) async fn env(client: &Client, global: &Global, options: &EtcdEnv) -> anyhow::Result<()> {
    let status = client.get("/pontoon/v1/status").await?;
    let Some(url) = status["etcd"].as_str() else {
        bail!(
            "this node does not serve etcd's API; it does while it is a manager and its daemon was started with --etcd-listen"
        );
    };
    let endpoints = endpoints(url, &status["etcdEndpoints"]);
    let mut variables = vec![("ETCDCTL_API", "3".to_owned()), ("ETCDCTL_ENDPOINTS", endpoints)];
    if !url.starts_with("http:") {
        variables.extend(write_files(client, global, options).await?);
    }
    let words: Vec<String> =
        variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value))).collect();
    let value =
        variables.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    output::say(global.output, &Value::Object(value), &words.join("\n"))
}

/// This manager's endpoint, and then those of the others that can be reached with the same certificates from here.
fn endpoints(own: &str, all: &Value) -> String {
    let others = all.as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_elsewhere = |url: &&str| {
        let uri = url.parse::<http::Uri>().ok();
        let ip = uri
            .as_ref()
            .and_then(http::Uri::host)
            .and_then(|h| h.trim_matches(['[', ']']).parse().ok());
        *url != own && ip.is_some_and(|ip: std::net::IpAddr| !ip.is_loopback())
    };
    let mut endpoints = vec![own];
    if own.starts_with("https:") {
        endpoints.extend(others.filter(|url| url.starts_with("https:")).filter(is_elsewhere));
    }
    endpoints.join(",")
}

/// Writes the certificates and the key to files; answers which variable names which.
async fn write_files(
    client: &Client,
    global: &Global,
    options: &EtcdEnv,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let answer = client.get("/pontoon/v1/kubeconfig").await?;
    let kubeconfig = answer["kubeconfig"].as_str().context("the daemon sent no kubeconfig")?;
    let dir = options.dir.clone().unwrap_or_else(|| etcd_client_in(&global.data_dir));
    let dir = std::path::absolute(&dir).with_context(|| format!("use {}", dir.display()))?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&dir).with_context(|| format!("make {}", dir.display()))?;
    let mut variables = Vec::new();
    for (variable, file, field) in FILES {
        let data = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(field));
        let data = data.with_context(|| format!("the kubeconfig has no {field}"))?;
        let pem = STANDARD.decode(data.trim()).context("decode the kubeconfig")?;
        let path = dir.join(file);
        write_private(&path, &pem).with_context(|| format!("write {}", path.display()))?;
        variables.push((variable, path.display().to_string()));
    }
    Ok(variables)
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_that_answer_from_here_are_named() {
        let all = json!([
            "https://192.0.2.1:2379",
            "https://192.0.2.2:2379",
            "http://192.0.2.3:1",
            "https://127.0.0.1:2379",
            "https://[::1]:2379",
            "https://[2001:db8::1]:2379",
            7
        ]);
        let named = endpoints("https://192.0.2.1:2379", &all);
        assert_eq!(
            named,
            "https://192.0.2.1:2379,https://192.0.2.2:2379,https://[2001:db8::1]:2379"
        );
        assert_eq!(endpoints("http://127.0.0.1:2379", &all), "http://127.0.0.1:2379");
        assert_eq!(endpoints("https://192.0.2.1:2379", &Value::Null), "https://192.0.2.1:2379");
    }
}
