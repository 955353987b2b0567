//! `pontoon demo`: three machines, an application on them, one power-off, and what became of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pontoon_machine::{Machine, Machines};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{application, machine};
use crate::cli::{self, Global, Output};
use crate::client::Client;
use machine::progress;

const NAMES: [&str; 3] = ["demo-a", "demo-b", "demo-c"];
const REPLICAS: usize = 6;
/// The longest that a step of the demo may take on a slow machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the demo; with `once` it ends by itself.
///
/// # Errors
/// When a step does not do what it should. The machines are removed all the same.
pub(super) async fn run(global: &Global, options: &cli::Demo) -> anyhow::Result<ExitCode> {
    if matches!(global.output, Output::Json | Output::Yaml) {
        bail!("the demo is a story for people; its exit code with --once says how it ended");
    }
    if global.data_dir != Path::new(cli::DATA_DIR) {
        bail!(
            "the demo has a directory of its own, removed at its end: leave out --data-dir ($PONTOON_DATA_DIR)"
        );
    }
    let scratch = Scratch::new()?;
    let mut here = global.clone();
    here.data_dir = scratch.0.clone();
    let machines = machine::open(&here)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut told_to_end = async || {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    };
    // Nothing when somebody ends it before it is through.
    let done = tokio::select! {
        done = show(&machines, &here.data_dir, options.once) => Some(done),
        () = told_to_end() => None,
    };
    if matches!(done, Some(Ok(()))) && !options.once {
        told_to_end().await;
        progress("");
    }
    progress("removing the machines …");
    for name in NAMES {
        if machines.get(name).is_ok() {
            machines.remove(name).await?;
        }
    }
    progress("nothing is left of them");
    match done {
        Some(done) => done.map(|()| ExitCode::SUCCESS),
        None if options.once => bail!("the demo was ended before it was through"),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn show(machines: &Machines, data_dir: &Path, once: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    progress("making three machines …");
    for name in NAMES {
        machines.create(name, &[]).await?;
    }
    let mut made = Vec::new();
    for name in NAMES {
        made.push(machine::start(machines, name).await?);
    }
    found(&made).await?;
    let first = Client::new(&made[0].run_dir());
    wait_for("three nodes are ready", || ready_nodes(&first), |n| *n == NAMES.len()).await?;
    progress(&format!(
        "a cluster of three managers, {:.1} s after the start",
        began.elapsed().as_secs_f64()
    ));
    deploy(&first).await?;
    turns(&first).await?;
    lose_one(machines, &made).await?;
    if !once {
        farewell(data_dir, &made[0]);
    }
    Ok(())
}

/// The first machine makes the cluster, the others join it as managers.
async fn found(made: &[Machine]) -> anyhow::Result<()> {
    let first = Client::new(&made[0].run_dir());
    let init = json!({ "clusterCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16" });
    first.post("/pontoon/v1/init", &init).await.context("make the cluster")?;
    let answer = first
        .post("/pontoon/v1/join-token", &json!({ "role": "manager", "rotate": false }))
        .await?;
    for other in &made[1..] {
        let body = json!({ "token": answer["token"], "manager": answer["address"] });
        let joined = Client::new(&other.run_dir()).post("/pontoon/v1/join", &body).await;
        joined.with_context(|| format!("{} joins", other.name))?;
    }
    Ok(())
}

async fn deploy(client: &Client) -> anyhow::Result<()> {
    let began = Instant::now();
    let options = cli::Run {
        name: "hello".to_owned(),
        image: "pontoon.local/hello".to_owned(),
        replicas: u32::try_from(REPLICAS)?,
        port: Some((80, 8080)),
        node_port: false,
        env: Vec::new(),
        namespace: "default".to_owned(),
        args: Vec::new(),
    };
    application::run(client, Output::Table, options).await?;
    let placed =
        wait_for("six pods run", || running(client), |pods| pods.len() == REPLICAS).await?;
    progress(&format!("{REPLICAS} replicas run, {:.1} s later:", began.elapsed().as_secs_f64()));
    show_placement(&placed);
    Ok(())
}

/// Asks the service by name from one of the pods, and expects every replica to answer in its turn.
async fn turns(client: &Client) -> anyhow::Result<()> {
    let pods = running(client).await?;
    let (asker, _) = pods.first().context("no pod runs")?;
    let times = REPLICAS * 2;
    let ask = || async {
        let words = ["/pontoon", "hello", "get", "http://hello/", "--times", &times.to_string()]
            .map(str::to_owned);
        let text = super::exec::capture(client, "default", asker, &words).await?;
        let names = text.lines().filter_map(|line| {
            Some(serde_json::from_str::<Value>(line).ok()?["pod"].as_str()?.to_owned())
        });
        anyhow::Ok(names.collect::<Vec<String>>())
    };
    let in_turn = |answers: &Vec<String>| {
        answers.len() == times
            && answers[..REPLICAS].iter().collect::<BTreeSet<_>>().len() == REPLICAS
            && answers[..REPLICAS] == answers[REPLICAS..]
    };
    let answers = wait_for("every replica answers in its turn", ask, in_turn).await?;
    progress(&format!("{asker} asks http://hello/ {times} times, and they answer in turn:"));
    for answer in &answers {
        progress(&format!("    {answer}"));
    }
    Ok(())
}

/// Cuts the power of one machine that is not the one asked, and measures until all replicas run again.
async fn lose_one(machines: &Machines, made: &[Machine]) -> anyhow::Result<()> {
    let client = Client::new(&made[0].run_dir());
    let lost = &made[2].name;
    progress(&format!("power off: {lost} (everything in it is killed at once)"));
    machines.kill(lost).await?;
    let began = Instant::now();
    let elsewhere = |pods: &Vec<(String, String)>| {
        pods.len() == REPLICAS && pods.iter().all(|(_, node)| node != lost)
    };
    let placed = wait_for("six pods run elsewhere", || running(&client), elsewhere).await?;
    progress(&format!(
        "{REPLICAS} replicas run again, {:.1} s after the power-off:",
        began.elapsed().as_secs_f64()
    ));
    show_placement(&placed);
    turns(&client).await
}

fn farewell(data_dir: &Path, first: &Machine) {
    let kubeconfig = first.data_dir().join("admin.kubeconfig");
    progress(&format!(
        "\nThe cluster stays up until Ctrl-C. In another terminal:\n\n    \
         export KUBECONFIG={}\n    kubectl get pods -o wide\n    kubectl scale deployment hello --replicas=9\n    \
         pontoon --run-dir {run} members\n    pontoon --run-dir {run} ps -o wide\n    \
         pontoon --data-dir {data} machine ls\n    pontoon --data-dir {data} machine ssh {name} -- pontoon status\n    \
         pontoon --data-dir {data} machine start demo-c\n",
        kubeconfig.display(),
        run = first.run_dir().display(),
        data = data_dir.display(),
        name = first.name,
    ));
}

/// Pods of the application that are ready, with their nodes.
async fn running(client: &Client) -> anyhow::Result<Vec<(String, String)>> {
    let pods = client.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dhello").await?;
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let mut found: Vec<(String, String)> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_ready)
        .map(|pod| {
            (
                crate::output::text(&pod["metadata"]["name"]),
                crate::output::text(&pod["spec"]["nodeName"]),
            )
        })
        .collect();
    found.sort();
    Ok(found)
}

async fn ready_nodes(client: &Client) -> anyhow::Result<usize> {
    let nodes = client.get("/pontoon/v1/nodes").await?;
    let ready = nodes["nodes"].as_array().into_iter().flatten().filter(|n| n["status"] == "Ready");
    Ok(ready.count())
}

fn show_placement(pods: &[(String, String)]) {
    for node in pods.iter().map(|(_, node)| node).collect::<BTreeSet<_>>() {
        let on = pods.iter().filter(|(_, n)| n == node).map(|(pod, _)| pod.as_str());
        progress(&format!("    {node}: {}", on.collect::<Vec<_>>().join(" ")));
    }
}

/// Asks again until the answer is what it should be.
async fn wait_for<T, F: Future<Output = anyhow::Result<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    good: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut problem = "the state was another".to_owned();
    while Instant::now() < deadline {
        tick.tick().await;
        match ask().await {
            Ok(answer) if good(&answer) => return Ok(answer),
            Ok(_) => "the state was another".clone_into(&mut problem),
            Err(error) => problem = format!("{error:#}"),
        }
    }
    bail!("waited {} s until {what}: {problem}", STEP_TIMEOUT.as_secs())
}

/// A directory for the demo's machines that goes when the demo does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("pontoon-demo-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in [self.0.clone(), self.0.join("machines.lock")] {
            // What is still there then is said by the removal of the machines.
            drop(std::fs::remove_dir_all(path));
        }
    }
}
