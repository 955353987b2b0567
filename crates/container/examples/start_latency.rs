//! How long a container takes: `cargo run --example start_latency -- [RUNS] [PROGRAM]`, as root, milliseconds.
//!
//! Each run is a new sandbox and one container of a static program (`/bin/busybox true` if none is named).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pontoon_container::{ContainerSpec, Event, Rootfs, Runtime, RuntimeConfig, SandboxSpec, shim};

type Failure = Box<dyn std::error::Error>;

/// How many are counted at once.
const SHIMS: usize = 20;
const STEPS: [&str; 6] = ["sandbox", "create", "start", "exit seen", "remove", "all"];

fn main() -> Result<(), Failure> {
    shim::run_if_shim();
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;
    let program = PathBuf::from(arguments.next().unwrap_or_else(|| "/bin/busybox".into()));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(runs, program))
}

async fn measure(runs: usize, program: PathBuf) -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("start-latency-{}", std::process::id()));
    // A tmpfs, as for a daemon; ext4 is slow to make what was removed a moment ago.
    let run_dir = Path::new("/run").join(dir.file_name().ok_or("no name")?);
    let layer = dir.join("layer");
    std::fs::create_dir_all(layer.join("bin"))?;
    std::fs::copy(&program, layer.join("bin/busybox"))?;
    let runtime = Runtime::new(RuntimeConfig {
        state_dir: dir.join("state"),
        run_dir,
        cgroup_parent: format!("start-latency-{}", std::process::id()),
        exe: "/proc/self/exe".into(),
    })?;
    let mut columns: [Vec<Duration>; 6] = Default::default();
    for number in 0..runs {
        let id = format!("s{number}");
        for (column, took) in columns.iter_mut().zip(once(&runtime, &id, &layer).await?) {
            column.push(took);
        }
    }
    for (name, column) in STEPS.iter().zip(&mut columns) {
        column.sort();
        let at = |part: usize| column[(column.len() - 1) * part / 100].as_secs_f64() * 1e3;
        println!("{name:10} median {:7.2}  min {:7.2}  p90 {:7.2}", at(50), at(0), at(90));
    }
    memory(&runtime, &layer).await?;
    // Takes the run directory with it.
    runtime.release().await?;
    Ok(std::fs::remove_dir_all(dir)?)
}

/// What shims with a running container each take, when there are many.
async fn memory(runtime: &Runtime, layer: &Path) -> Result<(), Failure> {
    let mut sandboxes = Vec::new();
    for number in 0..SHIMS {
        let id = format!("m{number}");
        let spec = SandboxSpec { id, ..SandboxSpec::default() };
        let sandbox = runtime.create_sandbox(spec).await?;
        sandbox.create(container(layer, &["sleep", "1000"])).await?;
        sandbox.start("c").await?;
        sandboxes.push(sandbox);
    }
    let mut sums = [0_u64; 3];
    for sandbox in &sandboxes {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.pid()))?;
        for (sum, field) in sums.iter_mut().zip(["Pss:", "Private_Dirty:", "Rss:"]) {
            let line = rollup.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next());
            *sum += number.ok_or("no such field")?.parse::<u64>()?;
        }
    }
    let [pss, private, rss] = sums.map(|sum| sum / sandboxes.len() as u64);
    println!("{SHIMS} shims: each PSS {pss} kB, private dirty {private} kB, RSS {rss} kB");
    for sandbox in sandboxes {
        sandbox.remove().await?;
    }
    Ok(())
}

fn container(layer: &Path, words: &[&str]) -> ContainerSpec {
    let argv = std::iter::once(&"/bin/busybox").chain(words).map(|word| (*word).to_owned());
    ContainerSpec {
        id: "c".into(),
        rootfs: Rootfs { layers: vec![layer.into()] },
        argv: argv.collect(),
        ..ContainerSpec::default()
    }
}

async fn once(runtime: &Runtime, id: &str, layer: &Path) -> Result<[Duration; 6], Failure> {
    let mut events = runtime.events();
    let begin = Instant::now();
    let mut marks = vec![begin];
    let spec = SandboxSpec { id: id.into(), hostname: "bench".into(), ..SandboxSpec::default() };
    let sandbox = runtime.create_sandbox(spec).await?;
    marks.push(Instant::now());
    sandbox.create(container(layer, &["true"])).await?;
    marks.push(Instant::now());
    sandbox.start("c").await?;
    marks.push(Instant::now());
    while !matches!(events.recv().await?, Event::Exited { .. }) {}
    marks.push(Instant::now());
    sandbox.remove().await?;
    marks.push(Instant::now());
    let step = |n: usize| marks[n + 1] - marks[n];
    Ok([step(0), step(1), step(2), step(3), step(4), begin.elapsed()])
}
