//! One file a group of commands; this one only chooses.

mod application;
mod cluster;
mod consul;
mod daemon;
mod demo;
mod etcd;
mod exec;
mod image;
mod kube;
mod kv;
mod lock;
mod machine;
mod node;
mod store;

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Service};
use crate::client::Client;
use crate::output::Out;

/// Runs the command that the user gave.
///
/// # Errors
/// What failed, for the user to read.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    let client = Client::new(&global.run_dir);
    let output = global.output;
    match cli.command {
        Command::Daemon(options) => daemon::run(&global, options, None).await?,
        Command::Up(options) => daemon::up(&global, options).await?,
        Command::Init(options) => cluster::init(&client, output, &options).await?,
        Command::Join(options) => cluster::join(&client, output, &options).await?,
        Command::Leave(options) => cluster::leave(&client, output, &options).await?,
        Command::JoinToken(options) => cluster::join_token(&client, output, &options).await?,
        Command::Members(options) => cluster::members(&client, output, &options).await?,
        Command::Status => cluster::status(&client, output).await?,
        Command::Kubeconfig(options) => cluster::kubeconfig(&client, output, &options).await?,
        Command::EtcdEnv(options) => etcd::env(&client, &global, &options).await?,
        Command::Node(command) => node::run(&client, output, command).await?,
        Command::Store(command) => return store::run(&global, &client, command).await,
        Command::Kv(options) => kv::run(options).await?,
        Command::Lock(options) => return lock::run(options).await,
        Command::Image(command) => image::run(&client, output, command).await?,
        Command::Run(options) => application::run(&client, output, options).await?,
        Command::Service(Service::Ls(scope)) => {
            kube::print_list(&client, output, &scope, "services").await?;
        }
        Command::Service(Service::Rm { names, namespace }) => {
            application::remove(&client, output, &namespace, &names).await?;
        }
        Command::Ps(scope) => kube::print_list(&client, output, &scope, "pods").await?,
        Command::Logs(options) => kube::logs(&client, &options).await?,
        Command::Exec(options) => return exec::run(&client, options).await,
        Command::Machine(command) => return machine::run(&global, command).await,
        Command::Demo(options) => return demo::run(&global, &options).await,
        Command::Completion { shell } => {
            let mut command = Cli::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "pontoon", &mut script);
            Out.write_all(&script)?;
        }
        Command::Hello(options) => return crate::hello::run(options).await,
    }
    Ok(ExitCode::SUCCESS)
}
