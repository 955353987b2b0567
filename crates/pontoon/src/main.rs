//! `pontoon`: the server, the node and the command line in one file.

mod cli;
mod client;
mod command;
mod hello;
mod output;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A container's shim and a local machine's init are this same file: they take over before any thread is started.
    pontoon_node::shim::run_if_shim();
    pontoon_machine::run_if_machine();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&anyhow::Error::new(error).context("start")),
    };
    let done = runtime.block_on(command::run(cli));
    // What still runs in the background (a blocked read of the terminal) must not hold up the exit.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}
