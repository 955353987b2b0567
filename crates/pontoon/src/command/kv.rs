//! `pontoon kv`: keys of Consul's API, as `consul kv` has them.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::Value;

use super::consul::{Answer, Consul, escape, pause_without};
use crate::cli::{Kv, KvCommand};
use crate::output::Out;

/// The pause before a watch asks again that was refused.
const PAUSE: Duration = Duration::from_secs(1);
/// The largest value, and what is read of a file at most for one.
const VALUE_MAX: u64 = 512 << 10;
/// The largest export that is read.
const EXPORT_MAX: u64 = 256 << 20;

/// Runs a command on keys.
///
/// # Errors
/// What the server says is wrong, or that it cannot be reached.
pub(super) async fn run(options: Kv) -> anyhow::Result<()> {
    let consul = Consul::new(&options.api)?;
    match options.command {
        KvCommand::Get { key, recurse: true, .. } => list(&consul, &key).await,
        KvCommand::Get { key, detailed, .. } => get(&consul, &key, detailed).await,
        KvCommand::Put { key, value, cas, flags } => {
            let mut query = format!("flags={flags}");
            if let Some(index) = cas {
                query.push_str(&format!("&cas={index}"));
            }
            put(&consul, &key, &query, value_of(&value)?).await?;
            say(&format!("Success! Data written to: {key}\n"))
        }
        KvCommand::Delete { key, recurse, cas } => delete(&consul, &key, recurse, cas).await,
        KvCommand::Ls { prefix, separator } => {
            let query = format!("keys&separator={}", escape(&separator));
            let keys = consul.ask(Method::GET, &path(&prefix, &query), Vec::new()).await?;
            let keys =
                if keys.status == StatusCode::NOT_FOUND { Value::Null } else { keys.json()? };
            let keys = keys.as_array().into_iter().flatten().filter_map(Value::as_str);
            say(&keys.map(|key| format!("{key}\n")).collect::<String>())
        }
        KvCommand::Watch { key, once } => watch(&consul, &key, once).await,
        KvCommand::Export { prefix } => say(&exported(&entries(&consul, &prefix).await?)?),
        KvCommand::Import { file } => import(&consul, &file).await,
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(Out.write_all(text.as_bytes())?)
}

/// The path of a key.
fn path(key: &str, query: &str) -> String {
    format!("/v1/kv/{}?{query}", escape(key))
}

/// The entries with a prefix; none if there are none.
async fn entries(consul: &Consul, prefix: &str) -> anyhow::Result<Vec<Value>> {
    let answer = consul.ask(Method::GET, &path(prefix, "recurse"), Vec::new()).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    match answer.json()? {
        Value::Array(entries) => Ok(entries),
        other => bail!("the server sent no list of keys but {other}"),
    }
}

/// The value of an entry; one that is empty is `null`.
fn value(entry: &Value) -> anyhow::Result<Vec<u8>> {
    STANDARD.decode(entry["Value"].as_str().unwrap_or_default()).context("decode a value")
}

async fn get(consul: &Consul, key: &str, detailed: bool) -> anyhow::Result<()> {
    let answer = consul.ask(Method::GET, &path(key, ""), Vec::new()).await?;
    let Some(entry) = only(&answer)? else {
        bail!("no key exists at {key:?}; `pontoon kv ls` lists those that do");
    };
    let value = value(&entry)?;
    if !detailed {
        Out.write_all(&value)?;
        return say("\n");
    }
    for name in ["CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex", "Session"] {
        let shown = match &entry[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        say(&format!("{name:<16} {shown}\n"))?;
    }
    say("Value            ")?;
    Out.write_all(&value)?;
    say("\n")
}

/// The only entry of an answer; none if the key is not there.
fn only(answer: &Answer) -> anyhow::Result<Option<Value>> {
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    Ok(answer.json()?.get(0).cloned())
}

async fn list(consul: &Consul, prefix: &str) -> anyhow::Result<()> {
    for entry in entries(consul, prefix).await? {
        say(&format!("{}:", entry["Key"].as_str().unwrap_or_default()))?;
        Out.write_all(&value(&entry)?)?;
        say("\n")?;
    }
    Ok(())
}

async fn put(consul: &Consul, key: &str, query: &str, value: Vec<u8>) -> anyhow::Result<()> {
    let answer = consul.ask(Method::PUT, &path(key, query), value).await?;
    match answer.json()? {
        Value::Bool(true) => Ok(()),
        _ => bail!("{key} is not written: its ModifyIndex is another one by now; read it again"),
    }
}

/// What is to be written: the text itself, a file's bytes, or standard input.
fn value_of(text: &str) -> anyhow::Result<Vec<u8>> {
    match text {
        "-" => bytes_of(Path::new("-"), VALUE_MAX),
        text => match text.strip_prefix('@') {
            Some(file) => bytes_of(Path::new(file), VALUE_MAX),
            None => Ok(text.as_bytes().to_vec()),
        },
    }
}

/// All of a file, or of standard input, if it is not too large.
fn bytes_of(file: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let from: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => {
            Box::new(std::fs::File::open(file).with_context(|| format!("read {}", file.display()))?)
        }
    };
    let mut bytes = Vec::new();
    let read = from.take(max + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("read {}", file.display()))?;
    if bytes.len() as u64 > max {
        bail!("{} has more than {max} bytes, and no more can be written", file.display());
    }
    Ok(bytes)
}

async fn delete(consul: &Consul, key: &str, recurse: bool, cas: Option<u64>) -> anyhow::Result<()> {
    let query = match cas {
        Some(index) => format!("cas={index}"),
        None => (if recurse { "recurse" } else { "" }).to_owned(),
    };
    let answer = consul.ask(Method::DELETE, &path(key, &query), Vec::new()).await?;
    if answer.json()? != Value::Bool(true) {
        bail!("{key} is not deleted: its ModifyIndex is another one by now; read it again");
    }
    let what = if recurse { "Deleted keys with prefix" } else { "Deleted key" };
    say(&format!("Success! {what}: {key}\n"))
}

/// Prints a value whenever it is another one. What is missed while the server is away is not told afterwards.
async fn watch(consul: &Consul, key: &str, once: bool) -> anyhow::Result<()> {
    let mut index = 0;
    let mut last: Option<Option<Value>> = None;
    loop {
        let asked =
            consul.ask(Method::GET, &path(key, &format!("index={index}")), Vec::new()).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) if last.is_none() => return Err(error),
            Err(error) => {
                eprintln!("{error:#}; it is tried again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // An index that falls is that of another store: begin again.
        let is_again = answer.index < index;
        index = if is_again { 0 } else { answer.index };
        pause_without(index).await;
        let entry = only(&answer)?;
        if last.as_ref() == Some(&entry) {
            continue;
        }
        let is_first = last.is_none();
        if !(once && is_first) {
            match &entry {
                Some(entry) => {
                    Out.write_all(&value(entry)?)?;
                    say("\n")?;
                }
                None if is_first => {}
                None => eprintln!("{key} is not there any more"),
            }
            Out.flush()?;
        }
        if once && !is_first {
            return Ok(());
        }
        last = Some(entry);
    }
}

/// Entries as `consul kv export` writes them: indented by tabs, in this order of fields.
fn exported(entries: &[Value]) -> anyhow::Result<String> {
    if entries.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let line = |entry: &Value| {
        let key = go_string(entry["Key"].as_str().context("an entry has no key")?)?;
        let value = entry["Value"].as_str().unwrap_or_default();
        let flags = &entry["Flags"];
        anyhow::Ok(format!(
            "\t{{\n\t\t\"key\": {key},\n\t\t\"flags\": {flags},\n\t\t\"value\": \"{value}\"\n\t}}"
        ))
    };
    let lines = entries.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// A text as Go writes it in JSON.
fn go_string(text: &str) -> anyhow::Result<String> {
    let quoted = serde_json::to_string(text)?;
    Ok(quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

async fn import(consul: &Consul, file: &Path) -> anyhow::Result<()> {
    let bytes = bytes_of(file, EXPORT_MAX)?;
    for (key, flags, value) in imported(&bytes)? {
        put(consul, &key, &format!("flags={flags}"), value).await?;
        say(&format!("Imported: {key}\n"))?;
    }
    Ok(())
}

/// The keys of an export, read as a whole before anything is written.
fn imported(bytes: &[u8]) -> anyhow::Result<Vec<(String, u64, Vec<u8>)>> {
    let entries: Vec<Value> = serde_json::from_slice(bytes).context("read the export")?;
    let entry = |(at, entry): (usize, &Value)| {
        let bad = || format!("entry {} of the export is damaged", at + 1);
        let key = entry["key"].as_str().with_context(bad)?.to_owned();
        let flags =
            if entry["flags"].is_null() { 0 } else { entry["flags"].as_u64().with_context(bad)? };
        let value =
            STANDARD.decode(entry["value"].as_str().unwrap_or_default()).with_context(bad)?;
        Ok((key, flags, value))
    };
    entries.iter().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exports_are_those_of_consul() {
        let entries = [
            json!({"Key": "a<b", "Flags": 3, "Value": "MQ==", "LockIndex": 0}),
            json!({"Key": "c", "Flags": 0, "Value": null}),
        ];
        let text = exported(&entries).unwrap();
        let wanted = "[\n\t{\n\t\t\"key\": \"a\\u003cb\",\n\t\t\"flags\": 3,\n\t\t\"value\": \"MQ==\"\n\t},\n\t{\n\t\t\"key\": \"c\",\n\t\t\"flags\": 0,\n\t\t\"value\": \"\"\n\t}\n]\n";
        assert_eq!(text, wanted);
        let read = imported(text.as_bytes()).unwrap();
        assert_eq!(read, [("a<b".to_owned(), 3, b"1".to_vec()), ("c".to_owned(), 0, Vec::new())]);
        assert_eq!(exported(&[]).unwrap(), "[]\n");
        for bad in
            ["", "{}", "[1]", r#"[{"key": "a", "value": "%"}]"#, r#"[{"key": "a", "flags": -1}]"#]
        {
            assert!(imported(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_text_or_files() {
        assert_eq!(value_of("text").unwrap(), b"text");
        assert!(value_of("@/nowhere/at/all").is_err());
    }
}
