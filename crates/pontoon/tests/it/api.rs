//! The Kubernetes API through a machine's socket, in plain words of HTTP/1.0: no client library in between.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, text};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Longer than whatever a manager waits for before it answers.
const TIMEOUT: Duration = Duration::from_secs(60);

impl World {
    /// What a machine's daemon answers: the status code, and the body when it is JSON.
    pub(crate) fn ask(
        &self,
        machine: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> io::Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.run_dir(machine).join("pontoon.sock"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: pontoon\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or(io::ErrorKind::InvalidData)?;
        Ok((code, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// Tries to create a ConfigMap with so many bytes; `Ok` when the write was acknowledged, else the refusal's
    /// words.
    pub(crate) fn write(&self, machine: &str, name: &str, bytes: usize) -> Result<(), String> {
        let data = json!({ "name": name, "filling": "x".repeat(bytes) });
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data });
        match self.ask(machine, "POST", CONFIG_MAPS, &object) {
            Ok((201, _)) => Ok(()),
            Ok((_, answer)) => Err(answer["message"].as_str().unwrap_or_default().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The names of all ConfigMaps that hold their own name, as a manager tells them.
    pub(crate) fn written(&self, machine: &str) -> Option<BTreeSet<String>> {
        let (code, list) = self.ask(machine, "GET", CONFIG_MAPS, &Value::Null).ok()?;
        let items = list["items"].as_array().filter(|_| code == 200)?.iter();
        let own = items.filter(|item| item["data"]["name"] == item["metadata"]["name"]);
        Some(own.map(|item| text(&item["metadata"]["name"])).collect())
    }
}
