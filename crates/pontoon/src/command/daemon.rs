//! `pontoon daemon` and `pontoon up`.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail};
use pontoon_node::config::{Config, ETCD_PORT, EtcdListen, parse_address};
use pontoon_node::daemon::Daemon;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::cluster;
use crate::cli::{self, Global, LogFormat};
use crate::client::Client;

/// Runs the daemon until it is told to end; `then` runs beside it once it listens.
///
/// # Errors
/// When the daemon cannot start, or `then` fails.
pub(super) async fn run(
    global: &Global,
    options: cli::Daemon,
    then: Option<futures::future::BoxFuture<'static, anyhow::Result<()>>>,
) -> anyhow::Result<()> {
    let is_text = std::io::stderr().is_terminal() || then.is_some();
    let usual = if is_text { LogFormat::Text } else { LogFormat::Json };
    log_to_stderr(options.log_format.unwrap_or(usual));
    let etcd =
        options.etcd_listen.map(|text| etcd_listen(&text, options.etcd_insecure)).transpose()?;
    let config = Config {
        data_dir: global.data_dir.clone(),
        run_dir: global.run_dir.clone(),
        node_name: options.node_name.map_or_else(host_name, Ok)?,
        cgroup_parent: options.cgroup_parent,
        insecure_registries: options.registries.insecure_registry,
        default_registry: options.registries.default_registry,
        registry_ca: options.registries.registry_ca,
        labels: options.label,
        etcd,
        consul: (options.consul_port != 0)
            .then(|| SocketAddr::new(options.client_addr, options.consul_port)),
        consul_dns: (options.consul_dns_port != 0)
            .then(|| SocketAddr::new(options.client_addr, options.consul_dns_port)),
    };
    let stop = CancellationToken::new();
    let mut signals = tokio::task::JoinSet::new();
    signals.spawn(stop_on_signal(stop.clone())?);
    let daemon = Daemon::start(config, stop.clone()).await.context("start the daemon")?;
    if let Some(then) = then
        && let Err(error) = then.await
    {
        stop.cancel();
        daemon.ended().await.ok();
        return Err(error);
    }
    daemon.ended().await.context("run the daemon")?;
    Ok(())
}

/// Daemon with `init` or `join` in one. A node that is a member of that cluster already just goes on.
///
/// # Errors
/// When the daemon cannot start, or the cluster will not have it.
pub(super) async fn up(global: &Global, options: cli::Up) -> anyhow::Result<()> {
    let client = Client::new(&global.run_dir);
    let membership = options.join.map(|(token, manager)| cli::Join {
        token,
        manager,
        advertise_addr: options.advertise_addr,
    });
    let (advertise_addr, output) = (options.advertise_addr, global.output);
    let then = async move {
        match membership {
            // The daemon tells a member of that cluster from one of another.
            Some(join) => cluster::join(&client, output, &join).await,
            None if client.get("/pontoon/v1/status").await?["cluster"].is_string() => Ok(()),
            None => {
                let init = cli::Init {
                    advertise_addr,
                    cluster_cidr: "10.244.0.0/16".to_owned(),
                    service_cidr: "10.96.0.0/16".to_owned(),
                    force_new_cluster: false,
                    yes: false,
                };
                cluster::init(&client, output, &init).await
            }
        }
    };
    run(global, options.daemon, Some(Box::pin(then))).await
}

fn etcd_listen(text: &str, insecure: bool) -> anyhow::Result<EtcdListen> {
    let Some(address) = parse_address(text, ETCD_PORT) else {
        bail!(
            "--etcd-listen {text:?} is no address to listen on, such as 192.0.2.1:2379 or 127.0.0.1"
        );
    };
    EtcdListen::new(address, insecure).map_err(anyhow::Error::msg)
}

pub(super) fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let label = name.split('.').next().unwrap_or_default().to_owned();
    if label.is_empty() {
        bail!("this machine has no host name; give the node one with --node-name");
    }
    Ok(label)
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    })
}

/// Logs in the form that is asked for. `PONTOON_LOG` chooses what, as in
/// `PONTOON_LOG=debug` or `PONTOON_LOG=info,pontoon_store=trace`.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("PONTOON_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = set {
        // Only a second daemon in one process comes here; its lines go where the first one's go.
        drop(writeln!(std::io::stderr(), "log: {error}"));
    }
}
