//! `pontoon machine`: local machines, each running `pontoon daemon`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use pontoon_machine::{Machine, MachineError, MachineState, Machines, Program};
use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::client::Client;
use crate::output::{self, Table, text};

/// Runs a command on local machines.
///
/// # Errors
/// When a machine cannot do what is asked.
pub(super) async fn run(global: &Global, command: cli::Machine) -> anyhow::Result<ExitCode> {
    let machines = open(global)?;
    let output = global.output;
    match command {
        cli::Machine::Create { names, registries } => {
            let args = registry_args(&registries)?;
            are_new(&machines, &names)?;
            for name in names {
                machines.create(&name, &args).await?;
                let machine = match start(&machines, &name).await {
                    Ok(machine) => machine,
                    Err(error) => {
                        machines.remove(&name).await.context("remove what was made")?;
                        return Err(error.context(format!("machine {name} is not made")));
                    }
                };
                let words = format!(
                    "{name} runs at {}; `pontoon machine ssh {name} -- pontoon init` makes a cluster there",
                    machine.address.addr()
                );
                output::say(output, &describe(&machine), &words)?;
            }
        }
        cli::Machine::Ls => {
            let list: Vec<Value> = machines.list()?.iter().map(describe).collect();
            output::print(output, &json!({ "machines": list }), table)?;
        }
        cli::Machine::Ssh { name, command } => return ssh(&machines, &name, command),
        cli::Machine::Stop(cli::Names { names }) => {
            for name in names {
                output::say(
                    output,
                    &describe(&machines.stop(&name).await?),
                    &format!("{name} is stopped"),
                )?;
            }
        }
        cli::Machine::Start(cli::Names { names }) => {
            for name in names {
                let machine = start(&machines, &name).await?;
                output::say(output, &describe(&machine), &format!("{name} runs"))?;
            }
        }
        cli::Machine::Kill(cli::Names { names }) => {
            for name in names {
                output::say(
                    output,
                    &describe(&machines.kill(&name).await?),
                    &format!("{name} is off"),
                )?;
            }
        }
        cli::Machine::Disconnect(of) => set_cables(&machines, output, of.names, false).await?,
        cli::Machine::Connect(of) => set_cables(&machines, output, of.names, true).await?,
        cli::Machine::Rm { names, all } => {
            let all = if all { machines.list()? } else { Vec::new() };
            let names = names.into_iter().chain(all.into_iter().map(|machine| machine.name));
            for name in names {
                machines.remove(&name).await?;
                output::say(
                    output,
                    &json!({ "name": name, "removed": true }),
                    &format!("{name} is removed"),
                )?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at all names before anything is made.
fn are_new(machines: &Machines, names: &[String]) -> anyhow::Result<()> {
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            anyhow::bail!("{name} is named twice");
        }
        if machines.get(name).is_ok() {
            return Err(MachineError::Exists(name.clone()).into());
        }
    }
    Ok(())
}

async fn set_cables(
    machines: &Machines,
    output: cli::Output,
    names: Vec<String>,
    plugged: bool,
) -> anyhow::Result<()> {
    let state = if plugged { "connected" } else { "disconnected" };
    for name in names {
        machines.set_cable(&name, plugged).await?;
        let said = json!({ "name": name, "connected": plugged });
        output::say(output, &said, &format!("{name} is {state}"))?;
    }
    Ok(())
}

/// The machines of this data directory.
///
/// # Errors
/// When this process is not root.
pub(super) fn open(global: &Global) -> anyhow::Result<Machines> {
    Ok(Machines::open(&global.data_dir.join("machines"))?)
}

/// Starts a machine and waits until its daemon listens.
///
/// # Errors
/// When it does not come up.
pub(super) async fn start(machines: &Machines, name: &str) -> anyhow::Result<Machine> {
    let machine = machines.start(name, &program()?).await?;
    let client = Client::new(&machine.run_dir());
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..1500 {
        tick.tick().await;
        if client.is_up().await {
            return Ok(machine);
        }
        if machines.get(name).is_ok_and(|now| now.state() == MachineState::Running) {
            continue;
        }
        anyhow::bail!("machine {name} was switched off or removed before its daemon listened");
    }
    let log = std::fs::read_to_string(machine.log_file()).unwrap_or_default();
    let last = log.lines().rev().take(1).collect::<String>();
    anyhow::bail!(
        "the daemon of machine {name} does not listen after 30 s; the end of {}: {last}",
        machine.log_file().display()
    )
}

/// How a machine's daemon is told of registries. Files are named by their whole path: it is started elsewhere, and later.
fn registry_args(registries: &cli::Registries) -> anyhow::Result<Vec<String>> {
    pontoon_node::registries::check(
        registries.default_registry.as_deref(),
        &registries.registry_ca,
    )?;
    let mut args = Vec::new();
    let mut push = |option: &str, value: String| args.push(format!("--{option}={value}"));
    for registry in &registries.insecure_registry {
        push("insecure-registry", registry.clone());
    }
    if let Some(registry) = &registries.default_registry {
        push("default-registry", registry.clone());
    }
    for file in &registries.registry_ca {
        let path = std::fs::canonicalize(file);
        let path = path.with_context(|| format!("--registry-ca {}", file.display()))?;
        push("registry-ca", path.to_string_lossy().into_owned());
    }
    Ok(args)
}

/// What a machine runs: this file, as a daemon.
fn program() -> anyhow::Result<Program> {
    let path = std::env::current_exe().context("find this program's own file")?;
    let args = ["daemon", "--node-name", "{name}", "--cgroup-parent", "{cgroup}"];
    Ok(Program { path, args: args.map(str::to_owned).to_vec() })
}

fn ssh(machines: &Machines, name: &str, words: Vec<String>) -> anyhow::Result<ExitCode> {
    let shell = || vec![std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let mut words = if words.is_empty() { shell() } else { words };
    // Inside, `pontoon` is this file, wherever it lies.
    if words[0] == "pontoon" {
        words[0] = exe()?.to_string_lossy().into_owned();
    }
    let status = machines.command(name, &words)?.status().context("enter the machine")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn exe() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program's own file")
}

fn describe(machine: &Machine) -> Value {
    json!({
        "name": machine.name,
        "state": machine.state(),
        "connected": machine.state() == MachineState::Running && !machine.is_disconnected(),
        "address": machine.address.addr(),
        "pid": machine.init_pid(),
        "dataDir": machine.data_dir(),
        "runDir": machine.run_dir(),
        "log": machine.log_file(),
    })
}

fn table(list: &Value) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "ADDRESS", "PID", "DATA-DIR", "LOG"], 2);
    for machine in list["machines"].as_array().into_iter().flatten() {
        let cells = ["name", "state", "address", "pid", "dataDir", "log"];
        let mut row: Vec<String> = cells.iter().map(|cell| text(&machine[*cell])).collect();
        if machine["state"] == "running" && machine["connected"] == false {
            row[1].push_str(", disconnected");
        }
        table.row(row);
    }
    table
}

/// A line of progress on standard error.
pub(super) fn progress(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}
