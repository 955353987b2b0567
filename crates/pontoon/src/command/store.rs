//! Commands on the replicated state: backups, and whether it is whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{Method, header};
use http_body_util::BodyExt;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pontoon_node::backup;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::daemon::host_name;
use crate::cli::{Global, Output, Snapshot, Store};
use crate::client::{Client, checked, full, request};
use crate::output::{self, Table, text};

/// Runs a command on the state.
///
/// # Errors
/// What is wrong with the file or the managers.
pub(super) async fn run(
    global: &Global,
    client: &Client,
    command: Store,
) -> anyhow::Result<ExitCode> {
    let output = global.output;
    match command {
        Store::Snapshot(Snapshot::Save { file }) => save(client, output, &file).await?,
        Store::Snapshot(Snapshot::Status { file }) => {
            let working = output::working("reading the snapshot …");
            let found = blocking(move || backup::inspect(&file)).await?;
            drop(working);
            print(output, &found)?;
        }
        Store::Snapshot(Snapshot::Restore { file, node_name, advertise_addr }) => {
            restore(global, file, node_name, advertise_addr).await?;
        }
        Store::Verify { offline: true } => return verify_files(global).await,
        Store::Verify { offline: false } => return verify_managers(client, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn blocking<T: Send + 'static, E: std::error::Error + Send + Sync + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Writes a snapshot beside the file, reads it back, and only then gives it its name.
async fn save(client: &Client, output: Output, file: &Path) -> anyhow::Result<()> {
    if file == Path::new("-") {
        // It is read back before it counts, which standard output cannot be.
        bail!(
            "a backup is written to a file and read back, so not to standard output; give the name of a file (./- if \
             that is its name)"
        );
    }
    if file.is_dir() {
        bail!("{} is a directory; give the name of a file in it", file.display());
    }
    refuse_to_overwrite(file)?;
    let mut name = file.file_name().context("give the name of a file")?.to_owned();
    name.push(".partial");
    let partial = file.with_file_name(name);
    let out = open_partial(&partial)?;
    let saved = save_as(client, &out, &partial, file).await;
    if saved.is_err() {
        // Half a backup is none.
        fs::remove_file(&partial).ok();
    }
    print(output, &saved?)
}

fn refuse_to_overwrite(file: &Path) -> anyhow::Result<()> {
    if file.symlink_metadata().is_ok() { Err(exists(file)) } else { Ok(()) }
}

fn exists(file: &Path) -> anyhow::Error {
    let file = file.display();
    anyhow!("save the snapshot: {file} exists; give another name, or remove that file first")
}

/// The file that is written; what a save that was killed left of it is written over.
fn open_partial(partial: &Path) -> anyhow::Result<File> {
    let action = || format!("write {}", partial.display());
    // All the secrets of the cluster are in it.
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let out = options.open(partial).with_context(action)?;
    match out.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another command is writing {}; wait for it, or give another name",
                partial.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(action),
    }
    out.set_len(0).with_context(action)?;
    Ok(out)
}

async fn save_as(
    client: &Client,
    mut out: &File,
    partial: &Path,
    file: &Path,
) -> anyhow::Result<Value> {
    let action = || format!("write {}", partial.display());
    let waiting = output::working("the manager writes a snapshot …");
    let asked = request(Method::GET, "/pontoon/v1/store/snapshot", full(""))?;
    let response = checked(client.send(asked).await?).await?;
    drop(waiting);
    let confirmed = response.headers().get(backup::CONFIRMED).is_some_and(|value| value == "true");
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let bar = bytes_bar(length);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("read the snapshot from the daemon")?;
        if let Some(chunk) = frame.data_ref() {
            out.write_all(chunk).with_context(action)?;
            bar.inc(chunk.len() as u64);
        }
    }
    out.sync_all().with_context(action)?;
    bar.finish_and_clear();
    let reading = output::working("reading it back …");
    let check = partial.to_owned();
    let mut found = blocking(move || backup::inspect(&check)).await?;
    drop(reading);
    give_name(partial, file)?;
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).with_context(action)?;
    found["file"] = json!(file);
    if !confirmed {
        found["warning"] = json!(
            "no quorum of managers answered: what the others acknowledged without this one is missing"
        );
    }
    Ok(found)
}

/// Renames a file to a name that nothing has.
fn give_name(partial: &Path, file: &Path) -> anyhow::Result<()> {
    let renamed = match renameat_with(CWD, partial, CWD, file, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Err(exists(file)),
        // Some file systems on other machines cannot; then it was looked for just before.
        Err(Errno::INVAL | Errno::NOSYS) => {
            refuse_to_overwrite(file)?;
            fs::rename(partial, file)
        }
        other => other.map_err(io::Error::from),
    };
    renamed.with_context(|| format!("name {}", file.display()))
}

fn bytes_bar(length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let form = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}";
    if let (Some(_), Ok(style)) = (length, ProgressStyle::with_template(form)) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn print(output: Output, found: &Value) -> anyhow::Result<()> {
    output::print(output, found, |found| {
        let mut table = Table::new(&["FILE", "REVISION", "KEYS", "BYTES", "HASH"], 0);
        let names = ["file", "revision", "keys", "bytes", "hash"];
        table.row(names.iter().map(|name| text(&found[*name])).collect());
        table
    })
}

async fn restore(
    global: &Global,
    file: PathBuf,
    node: Option<String>,
    address: Option<IpAddr>,
) -> anyhow::Result<()> {
    let node = node.map_or_else(host_name, Ok)?;
    // The directory may have come from the environment, and much depends on it.
    output::note(&format!(
        "restoring {} to the data directory {}",
        file.display(),
        global.data_dir.display()
    ));
    let working = output::working("reading the snapshot and writing the state …");
    let wanted = backup::Restore { file, data_dir: global.data_dir.clone(), node, address };
    let made = blocking(move || backup::restore(&wanted)).await?;
    drop(working);
    let words = format!(
        "{dir} holds manager {node} of the cluster, at {address}, with {keys} keys.\n\
         Start it with `pontoon daemon --node-name {node} --data-dir {dir}`. The other managers of the backup were \
         removed: let them join anew; workers find it by themselves if its address is that of a former manager.",
        dir = text(&made["dataDir"]),
        node = text(&made["node"]),
        address = text(&made["address"]),
        keys = text(&made["keys"]),
    );
    output::say(global.output, &made, &words)
}

async fn verify_files(global: &Global) -> anyhow::Result<ExitCode> {
    let dir = global.data_dir.clone();
    let working = output::working(format!("reading the state in {} …", dir.display()));
    let report = blocking(move || backup::verify(&dir)).await?;
    drop(working);
    let torn = match report["tornBytes"].as_u64() {
        None | Some(0) => String::new(),
        Some(bytes) => format!(
            "; {bytes} bytes at the end of the log are half written, as a crash leaves them: they were never \
             acknowledged, and the next start cuts them off"
        ),
    };
    let words = format!(
        "{}: {} files of the log with {} bytes and {} snapshots are whole{torn}",
        text(&report["dir"]),
        text(&report["logFiles"]),
        text(&report["logBytes"]),
        report["snapshots"].as_array().map_or(0, Vec::len),
    );
    let problems: Vec<String> =
        report["problems"].as_array().into_iter().flatten().map(text).collect();
    if problems.is_empty() || matches!(global.output, Output::Json | Output::Yaml) {
        output::say(global.output, &report, &words)?;
    }
    verdict(&report, &problems)
}

async fn verify_managers(client: &Client, output: Output) -> anyhow::Result<ExitCode> {
    let working = output::working("the managers read their files and sum up their copies …");
    let report = client.get("/pontoon/v1/store/verify").await?;
    drop(working);
    let managers = || report["managers"].as_array().into_iter().flatten();
    output::print(output, &report, |_| {
        let headings = ["MANAGER", "LOG", "SNAPSHOTS", "REVISION", "SINCE", "HASH", "PROBLEMS"];
        let mut table = Table::new(&headings, 0);
        for manager in managers() {
            let size = |name: &str| match manager[name].as_u64() {
                Some(bytes) => HumanBytes(bytes).to_string(),
                None => "-".to_owned(),
            };
            let mut row = vec![text(&manager["name"]), size("logBytes"), size("snapshotBytes")];
            let rest = ["revision", "compactRevision", "hash"];
            row.extend(rest.iter().map(|name| text(&manager[*name])));
            row.push(manager["problems"].as_array().map_or(0, Vec::len).to_string());
            table.row(row);
        }
        table
    })?;
    let mut problems = Vec::new();
    for manager in managers() {
        let told = manager["problems"].as_array().into_iter().flatten();
        problems.extend(told.map(|told| format!("{}: {}", text(&manager["name"]), text(told))));
    }
    if report["copiesAgree"] != true {
        problems.push(
            "the managers' copies differ: let those whose HASH most do not have leave and join again"
                .to_owned(),
        );
    }
    verdict(&report, &problems)
}

/// 0 if all is well; otherwise what is wrong is told on standard error.
fn verdict(report: &Value, problems: &[String]) -> anyhow::Result<ExitCode> {
    if report["good"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not all is whole:\n  {}", problems.join("\n  "))
}
