//! Local machines for a test, driven by the program's own command line, and gone when the test ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// Clusters take the whole of a small computer: one test at a time has them.
static TURN: Mutex<()> = Mutex::new(());

/// The longest that anything may take on a loaded computer before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Machines below one directory.
pub(crate) struct World {
    dir: PathBuf,
    names: Vec<String>,
    /// What the programs in the machines find in their environment.
    variable: Option<(String, String)>,
    _turn: MutexGuard<'static, ()>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub ok: bool,
    pub out: String,
    pub err: String,
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pontoon"))
}

/// A world with these machines, or `None`, with a word why, where the tests may not make any.
pub(crate) fn machines(names: &[&str]) -> Option<World> {
    make(names, None)
}

/// Machines whose programs are started with this variable in their environment.
pub(crate) fn machines_with(names: &[&str], variable: &str, value: &str) -> Option<World> {
    make(names, Some((variable.to_owned(), value.to_owned())))
}

/// The turn of a test that makes machines by other means than a world; `None`, with a word why, where it may not.
pub(crate) fn turn() -> Option<MutexGuard<'static, ()>> {
    if !rustix::process::geteuid().is_root() {
        skip("local machines need root");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn make(names: &[&str], variable: Option<(String, String)>) -> Option<World> {
    let turn = turn()?;
    let dir = tempfile::Builder::new().prefix("pontoon-it-").tempdir_in("/tmp").unwrap().keep();
    let own = names.iter().map(|name| (*name).to_owned()).collect();
    let world = World { dir, names: own, variable, _turn: turn };
    let mut words = vec!["machine", "create"];
    words.extend(names);
    run(world.beginning(&words)).expect_ok();
    Some(world)
}

/// A cluster of managers with these names, all of them ready.
pub(crate) fn cluster(names: &[&str]) -> Option<World> {
    let world = machines(names)?;
    world.on(names[0], &["init"]).expect_ok();
    for name in &names[1..] {
        world.join(name, names[0], "manager").expect_ok();
    }
    world.wait_for_nodes(names[0], names.len());
    Some(world)
}

impl World {
    /// Runs the program on the host that holds the machines.
    pub(crate) fn host(&self, words: &[&str]) -> Done {
        run(self.host_command(words))
    }

    /// The same, to be run by the caller.
    pub(crate) fn host_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(&self.dir).args(words);
        command
    }

    /// Runs the program against a machine's daemon.
    pub(crate) fn on(&self, machine: &str, words: &[&str]) -> Done {
        let mut command = Command::new(program());
        command.arg("--run-dir").arg(self.run_dir(machine)).args(words);
        run(command)
    }

    /// The first process of a machine.
    pub(crate) fn pid(&self, machine: &str) -> u64 {
        machine_pid(&["--data-dir", self.dir.to_str().unwrap()], machine)
    }

    /// Runs a command inside a machine.
    pub(crate) fn inside(&self, machine: &str, words: &[&str]) -> Done {
        let mut all = vec!["machine", "ssh", machine, "--"];
        all.extend(words);
        self.host(&all)
    }

    /// The same for a command that goes on; it ends with its machine.
    pub(crate) fn begin_inside(&self, machine: &str, words: &[&str]) -> Child {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(&self.dir).args(["machine", "ssh", machine, "--"]);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs the program against a machine's daemon with this on its standard input.
    pub(crate) fn fed(&self, machine: &str, words: &[&str], input: &str) -> Done {
        let mut command = Command::new(program());
        command.arg("--run-dir").arg(self.run_dir(machine)).args(words);
        feed(command, input)
    }

    /// The program's answer as JSON.
    pub(crate) fn json(&self, machine: &str, words: &[&str]) -> Value {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        let done = self.on(machine, &all).expect_ok();
        serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", done.out))
    }

    /// kubectl with the rights of an administrator, at one manager.
    pub(crate) fn kubectl(&self, machine: &str, words: &[&str]) -> Done {
        run(self.kubectl_command(machine, words))
    }

    /// The same, to be run by the caller.
    pub(crate) fn kubectl_command(&self, machine: &str, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.data_dir(machine).join("admin.kubeconfig"))
            // kubectl keeps what it discovers; here that belongs to this world.
            .arg("--cache-dir")
            .arg(self.dir.join("kubectl"))
            .args(words);
        command
    }

    /// What kubectl prints with `-o json`.
    pub(crate) fn objects(&self, machine: &str, words: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(words);
        let done = self.kubectl(machine, &all).expect_ok();
        serde_json::from_str(&done.out).unwrap()
    }

    pub(crate) fn join(&self, machine: &str, manager: &str, role: &str) -> Done {
        let token = self.json(manager, &["join-token", role]);
        let (token, address) = (text(&token["token"]), text(&token["address"]));
        self.on(machine, &["join", "--token", &token, &address])
    }

    pub(crate) fn machine_dir(&self, machine: &str) -> PathBuf {
        self.dir.join("machines").join(machine)
    }

    pub(crate) fn data_dir(&self, machine: &str) -> PathBuf {
        self.machine_dir(machine).join("data")
    }

    /// The parent of the cgroups that are made in a machine.
    pub(crate) fn cgroup_parent(&self, machine: &str) -> String {
        let machine = fs::read(self.machine_dir(machine).join("machine.json")).unwrap();
        let machine: Value = serde_json::from_slice(&machine).unwrap();
        text(&machine["cgroup_parent"])
    }

    pub(crate) fn run_dir(&self, machine: &str) -> PathBuf {
        self.machine_dir(machine).join("run")
    }

    /// Power-off: everything in the machine is killed at once.
    pub(crate) fn kill(&self, machine: &str) {
        self.host(&["machine", "kill", machine]).expect_ok();
    }

    pub(crate) fn start(&self, machine: &str) {
        run(self.beginning(&["machine", "start", machine])).expect_ok();
    }

    /// A command that starts a machine's program.
    fn beginning(&self, words: &[&str]) -> Command {
        let mut command = self.host_command(words);
        command.envs(self.variable.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Kills a machine's daemon; it stays down until it is released, and all else in the machine runs on.
    pub(crate) fn hold_daemon(&self, machine: &str) {
        self.signal_init(machine, rustix::process::Signal::STOP);
        self.kill_daemon(machine);
    }

    /// Lets a daemon that was held down be started again.
    pub(crate) fn release_daemon(&self, machine: &str) {
        self.signal_init(machine, rustix::process::Signal::CONT);
    }

    /// Kills a machine's daemon, which is started again at once.
    pub(crate) fn kill_daemon(&self, machine: &str) {
        self.inside(machine, &["pkill", "-KILL", "-f", "pontoon daemon"]).expect_ok();
    }

    fn signal_init(&self, machine: &str, signal: rustix::process::Signal) {
        let list = self.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut machines = list["machines"].as_array().unwrap().iter();
        let pid = machines.find(|m| m["name"] == machine).unwrap()["pid"].as_i64().unwrap();
        let init = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(init, signal).unwrap();
    }

    pub(crate) fn wait_for_nodes(&self, at: &str, count: usize) {
        wait(&format!("{count} nodes are ready"), || {
            let nodes = self.json_or_null(at, &["node", "ls"]);
            let ready =
                nodes["nodes"].as_array()?.iter().filter(|n| n["status"] == "Ready").count();
            (ready == count).then_some(())
        });
    }

    /// Names and nodes of the pods of an application that are ready and not on their way out.
    pub(crate) fn ready_pods(&self, at: &str, app: &str) -> Vec<(String, String)> {
        let pods = self.json_or_null(at, &["ps", "-A"]);
        let mut found: Vec<(String, String)> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pod| pod["metadata"]["labels"]["app"] == app && is_ready(pod))
            .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"])))
            .collect();
        found.sort();
        found
    }

    /// Restarts of the container of each pod of an application, and when it was started.
    pub(crate) fn containers(&self, at: &str, app: &str) -> BTreeMap<String, (u64, String)> {
        let pods = self.json(at, &["ps"]);
        let pods = pods["items"].as_array().unwrap().iter();
        pods.filter(|pod| pod["metadata"]["labels"]["app"] == app)
            .map(|pod| {
                let status = &pod["status"]["containerStatuses"][0];
                let restarts = status["restartCount"].as_u64().unwrap();
                // Empty while it does not run.
                let at = status["state"]["running"]["startedAt"].as_str().unwrap_or_default();
                (text(&pod["metadata"]["name"]), (restarts, at.to_owned()))
            })
            .collect()
    }

    /// The processes of the built-in image that run in a machine, by their ids there.
    pub(crate) fn processes(&self, machine: &str) -> Vec<String> {
        let found = self.inside(machine, &["pgrep", "-x", "-f", "/pontoon hello"]).out;
        found.lines().map(str::to_owned).collect()
    }

    /// Waits until the present daemons have these pods: a command runs only in a pod that its node's agent
    /// knows, whatever the stored status says.
    pub(crate) fn wait_for_adoption<'p>(
        &self,
        at: &str,
        pods: impl IntoIterator<Item = &'p String>,
    ) {
        for pod in pods {
            wait(&format!("{pod} is known to its node's daemon"), || {
                let own = self.answers(at, pod, "http://127.0.0.1:8080/", 1);
                (own == [pod.as_str()]).then_some(())
            });
        }
    }

    pub(crate) fn json_or_null(&self, machine: &str, words: &[&str]) -> Value {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        serde_json::from_str(&self.on(machine, &all).out).unwrap_or(Value::Null)
    }

    pub(crate) fn wait_for_pods(&self, at: &str, app: &str, count: usize) -> Vec<(String, String)> {
        wait(&format!("{count} pods of {app} are ready"), || {
            let pods = self.ready_pods(at, app);
            (pods.len() == count).then_some(pods)
        })
    }

    /// The names of the pods that answer, in order, when one pod asks a URL a number of times.
    pub(crate) fn answers(&self, at: &str, asker: &str, url: &str, times: usize) -> Vec<String> {
        let times = times.to_string();
        let words = ["exec", asker, "--", "/pontoon", "hello", "get", url, "--times", &times];
        let done = self.on(at, &words);
        done.out.lines().filter_map(answering_pod).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in &self.names {
                let log = fs::read_to_string(self.machine_dir(name).join("machine.log"))
                    .unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- the end of {name}'s log");
                for line in lines.iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
        for name in &self.names {
            if self.machine_dir(name).exists() {
                let done = self.host(&["machine", "rm", name]);
                if !done.ok {
                    eprintln!("remove machine {name}: {}", done.err);
                }
            }
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn expect_ok(self) -> Self {
        assert!(self.ok, "failed: {}\n{}", self.err, self.out);
        self
    }

    /// The message of a command that must fail.
    #[track_caller]
    pub(crate) fn expect_error(self) -> String {
        assert!(!self.ok, "should have failed, but said: {}", self.out);
        self.err
    }
}

impl From<Output> for Done {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        Done {
            ok: status.success(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code(),
        }
    }
}

/// The machines as `machine ls` with these words before it tells them.
pub(crate) fn machine_pid(before: &[&str], machine: &str) -> u64 {
    let mut command = Command::new(program());
    let done = run_words(command.args(before), &["machine", "ls", "--output", "json"]).expect_ok();
    let list: Value = serde_json::from_str(&done.out).unwrap();
    let all = list["machines"].as_array().unwrap();
    all.iter().find(|m| m["name"] == machine).unwrap()["pid"].as_u64().unwrap()
}

fn run_words(command: &mut Command, words: &[&str]) -> Done {
    Done::from(command.args(words).output().unwrap())
}

/// Does something in the network of a process, as another program there would.
pub(crate) fn in_network<T: Send + 'static>(
    pid: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let working = std::thread::spawn(move || {
        let space = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    working.join().unwrap()
}

fn run(mut command: Command) -> Done {
    Done::from(command.output().unwrap())
}

/// Runs a command with this on its standard input.
pub(crate) fn feed(mut command: Command, input: &str) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails early does not read it; its message says more than a broken pipe.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    Done::from(child.wait_with_output().unwrap())
}

/// The pod's name in a line that `pontoon hello get` printed.
pub(crate) fn answering_pod(line: &str) -> Option<String> {
    Some(text(&serde_json::from_str::<Value>(line).ok()?["pod"]))
}

/// Asks again until there is an answer.
#[track_caller]
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {} s until {what}", PATIENCE.as_secs());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Says that something is not tested here. The harness keeps what tests print with its macros to itself: this goes to
/// standard error all the same.
pub(crate) fn skip(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

/// The same for a program that is not installed; where `CI` is set everything must be.
pub(crate) fn lack(what: &str) {
    let is_set = |value: std::ffi::OsString| !value.is_empty() && value != "false";
    assert!(!std::env::var_os("CI").is_some_and(is_set), "{what}, and CI is to test everything");
    skip(what);
}

/// Whether kubectl is installed; says so where it is not.
pub(crate) fn has_kubectl() -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output().is_ok();
    if !found {
        lack("kubectl is not installed");
    }
    found
}
