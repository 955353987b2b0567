"""etcd's API: Pontoon's port beside etcd, on one node and on three, driven by the same two clients.

The servers of both sides run behind the same wires: one network namespace a node, on one bridge. Pontoon serves without
TLS on loopback alone, so its nodes pass on what comes to their port. Between nodes Pontoon speaks TLS, etcd does not.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import time

from cluster import Cluster
from load import Others
from memory import cpu_seconds, size
from table import figures, short

CLIENTS = (1, 16, 64, 256, 1000)
CONNECTIONS = 16
WATCHERS = 1000
EVENTS_PER_SECOND = 50
LEASES = 64
KEYS = 10_000
BYTES = 256
LOSSES = 5
PORT = 2379
PATIENCE = 300
FIELD = re.compile(r"(\w+)=([\w.]+)")
OPS = {"put": "durable puts", "lin": "linearizable reads", "ser": "serializable reads", "mixed": "90 % reads, 10 % puts"}


class Nodes:
    """Servers of etcd's API, one a machine."""

    name = "?"

    def __init__(self, options, count):
        self.options, self.count = options, count
        self.cluster = None

    def __exit__(self, *error):
        self.cluster.__exit__(*error)

    @property
    def endpoints(self):
        return [f"{self.cluster.machine(name)['address']}:{PORT}" for name in self.cluster.names]

    def endpoint(self, name):
        return self.endpoints[self.cluster.names.index(name)]

    def inside(self, name, *command, **more):
        """A process in the network of a machine."""
        space = f"--net=/proc/{self.cluster.machine(name)['pid']}/ns/net"
        return subprocess.Popen(["nsenter", space, *map(str, command)], text=True, **more)

    def cpu_seconds(self):
        """What all servers have used of the processors."""
        return sum(cpu_seconds(self.pid(name)) for name in self.cluster.names)

    def wait(self, name):
        """Until a linearizable read is answered there."""
        command = [self.options.bin / "examples/etcd_load", "wait", self.endpoint(name), "1", "1", str(PATIENCE)]
        subprocess.run(command, check=True, capture_output=True)


class Pontoon(Nodes):
    name = "Pontoon"

    def __enter__(self):
        served = {"PONTOON_ETCD_LISTEN": f"127.0.0.1:{PORT}", "PONTOON_ETCD_INSECURE": "true"}
        self.cluster = Cluster(self.options, self.count, environment=served)
        self.cluster.__enter__()
        try:
            for name in self.cluster.names:
                self.pass_on(name)
                self.wait(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def pass_on(self, name):
        """What comes to the machine's port goes to its loopback."""
        rules = f"table ip bench {{ chain in {{ type nat hook prerouting priority -100; tcp dport {PORT} dnat to 127.0.0.1; }}; }}"
        script = f"echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && nft '{rules}'"
        if self.inside(name, "sh", "-c", script).wait():
            raise RuntimeError(f"{name} does not pass on port {PORT}")

    def pid(self, name):
        return self.cluster.daemon(name)

    def leader(self):
        found = []
        self.cluster.until(lambda: found.append(self.cluster.leader()) or found[-1] in self.cluster.names, "there is a leader")
        return found[-1]

    def kill(self, name):
        """SIGKILL; the machine's first process stands still, so that nothing starts it again."""
        os.kill(self.cluster.machine(name)["pid"], signal.SIGSTOP)
        os.kill(self.cluster.daemon(name), signal.SIGKILL)

    def revive(self, name):
        os.kill(self.cluster.machine(name)["pid"], signal.SIGCONT)


class Etcd(Nodes):
    name = "etcd"

    def __enter__(self):
        self.cluster = Cluster(self.options, self.count, formed=False)
        self.cluster.__enter__()
        self.processes = {}
        self.data = self.options.scratch / "etcd"
        shutil.rmtree(self.data, ignore_errors=True)
        try:
            for name in self.cluster.names:
                self.revive(name)
            for name in self.cluster.names:
                self.wait(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for process in self.processes.values():
            process.kill()
            process.wait()
        super().__exit__(*error)

    def revive(self, name):
        address = {machine: self.cluster.machine(machine)["address"] for machine in self.cluster.names}
        peers = ",".join(f"{machine}=http://{address[machine]}:2380" for machine in address)
        client, peer = f"http://{address[name]}:{PORT}", f"http://{address[name]}:2380"
        words = ["--name", name, "--data-dir", self.data / name, "--logger", "zap", "--log-level", "error"]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        words += ["--initial-advertise-peer-urls", peer, "--initial-cluster", peers]
        self.processes[name] = self.inside(name, "etcd", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def pid(self, name):
        return self.processes[name].pid  # nsenter has become etcd.

    def leader(self):
        command = ["etcdctl", "--endpoints", ",".join(self.endpoints), "endpoint", "status", "-w", "json"]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ETCDCTL_API": "3"})
            for name, member in zip(self.cluster.names, json.loads(done.stdout or "[]")):
                if member["Status"]["leader"] == member["Status"]["header"]["member_id"]:
                    return name
        raise TimeoutError("etcd has no leader")

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()


class Bench:
    """The two clients: the peers' `etcd-bench`, and `etcd_load` for what that has not."""

    def __init__(self, options):
        self.options = options
        self.target = os.environ.get("CARGO_TARGET_DIR", "/tmp/etcd-bench-target")
        # In its own directory: in this one cargo would follow this workspace's settings, the target's name in paths too.
        source = options.peers.copy() / "etcd-bench"
        build = ["cargo", "build", "--quiet", "--release"]
        subprocess.run(build, check=True, cwd=source, env={**os.environ, "CARGO_TARGET_DIR": self.target})

    def run(self, op, nodes, clients, *more, seconds=None):
        """The numbers that the client prints in its last line."""
        ours = op in ("mixed", "lease")
        program = self.options.bin / "examples/etcd_load" if ours else f"{self.target}/release/etcd-bench"
        seconds = seconds or self.options.seconds
        words = [op, ",".join(nodes.endpoints), clients, min(clients, CONNECTIONS), seconds, *more]
        before = nodes.cpu_seconds()
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=True)
        used = nodes.cpu_seconds() - before
        found = {name: float(value) for name, value in FIELD.findall(done.stdout.strip().splitlines()[-1]) if name != "op"}
        return {**found, "cpu_us": used / max(found["ops"], 1) * 1e6}

    def repeated(self, *words):
        """(rate, p50 in ms, p99 in ms, errors, servers' CPU an operation in µs) of repeated loads: medians, and the
        sum of errors."""
        runs = [self.run(*words) for _ in range(self.options.repeats)]
        middle = lambda name: statistics.median(run[name] for run in runs)
        errors = sum(run["errs"] for run in runs)
        return middle("ops_s"), middle("p50_us") / 1e3, middle("p99_us") / 1e3, errors, middle("cpu_us")


def loads(bench, nodes):
    """What is measured under load, by what was done and by how many."""
    found = {}
    for op in OPS:
        for clients in CLIENTS:
            found[op, clients] = bench.repeated(op, nodes, clients, KEYS, BYTES)
            print(f"   {nodes.name}, {nodes.count}: {op} {clients}: {found[op, clients]}", flush=True)
    found["watch", WATCHERS] = bench.repeated("watch", nodes, WATCHERS, EVENTS_PER_SECOND)
    found["lease", LEASES] = bench.repeated("lease", nodes, LEASES)
    return found


def losses(options, nodes):
    """Times without an acknowledged put at another member around the SIGKILL of the leader, in ms."""
    gaps = []
    for _ in range(min(options.runs, LOSSES)):
        leader = nodes.leader()
        survivor = next(name for name in nodes.cluster.names if name != leader)
        command = [options.bin / "examples/etcd_load", "gap", nodes.endpoint(survivor), "1", "1", "8"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            if writer.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{nodes.name}: no put at {survivor}")
            time.sleep(1)
            nodes.kill(leader)
            found = dict(FIELD.findall(writer.stdout.read()))
        nodes.revive(leader)
        if found["over"] != "true":
            raise RuntimeError(f"{nodes.name}: no put for seconds after {leader} was killed")
        gaps.append(float(found["gap_us"]) / 1e3)
        print(f"   {nodes.name}: leader killed, no put for {gaps[-1]:.0f} ms", flush=True)
        nodes.wait(leader)
    return statistics.median(gaps), figures(gaps, "ms", worst=True)


def full(options, bench, nodes):
    """Memory with all keys, in MB, and the time until a killed daemon with all of them answers, in ms."""
    name = nodes.cluster.names[0]
    empty, _ = size(nodes.pid(name))
    bench.run("lin", nodes, 32, options.keys, BYTES, seconds=0.1)
    time.sleep(10)  # Whatever it does afterwards, it is to have begun.
    rss, _ = size(nodes.pid(name))
    times = []
    for _ in range(options.repeats):
        nodes.kill(name)
        began = time.monotonic()
        nodes.revive(name)
        nodes.wait(name)
        times.append((time.monotonic() - began) * 1e3)
    return (rss, f"RSS {rss:.0f} MB (empty {empty:.0f})"), (statistics.median(times), figures(times, "ms"))


def side(kind, options, bench, group):
    """All figures of one side, each with the others' share while it was measured."""
    found = {}
    for count in (1, 3):
        with Others(group) as others, kind(options, count) as nodes:
            measured = {(count, *what): figure for what, figure in loads(bench, nodes).items()}
            if count == 3:
                measured["gap"] = losses(options, nodes)
        found.update({what: (figure, others) for what, figure in measured.items()})
    with Others(group) as others, kind(options, 1) as nodes:
        memory, restart = full(options, bench, nodes)
    return {**found, "memory": (memory, others), "restart": (restart, others)}


def rate(figure):
    per_second, p50, p99, errors, cpu = figure
    failed = f", {errors:.0f} failed" if errors else ""
    return per_second, f"{per_second:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, {cpu:.0f} µs of CPU{failed}"


def delivery(figure):
    _, p50, p99, *_ = figure
    return p99, f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def measure(options, rows, group):
    if not (options.peers.source / "etcd-bench").exists():
        raise RuntimeError(f"there is no {options.peers.source}/etcd-bench, the client that drives both (set PEERS)")
    bench = Bench(options)
    ours = side(Pontoon, options, bench, group)
    has_peer = options.peers.wanted and shutil.which("etcd") and shutil.which("etcdctl")
    theirs = side(Etcd, options, bench, group) if has_peer else {}
    add = adder(rows, ours, theirs)
    for count in (1, 3):
        nodes = f"{count} node{'s' * (count > 1)}"
        for op, name in OPS.items():
            for clients in CLIENTS:
                add((count, op, clients), f"etcd's API: {name}, {clients} clients, {nodes}", rate, f"{BYTES} B, {KEYS} keys")
        words = f"ratio: p99; a put every {1000 // EVENTS_PER_SECOND} ms, put sent → event seen"
        add((count, "watch", WATCHERS), f"etcd's API: put → {WATCHERS} watchers, {nodes}", delivery, words)
        add((count, "lease", LEASES), f"etcd's API: lease keepalives, {LEASES} clients, {nodes}", rate, "one stream a client")
    same = lambda figure: figure
    add("gap", "etcd's API: leader SIGKILLed → next put acknowledged, 3 nodes", same, "the longest time without one, a single writer at another node")
    add("memory", f"etcd's API: {options.keys} keys of {BYTES} B, memory", same, "ratio: RSS; etcd maps its database's file")
    add("restart", f"etcd's API: {options.keys} keys, SIGKILL → a read is answered", same, "1 node; started again at once")


def adder(rows, ours, theirs):
    """Adds the row of one figure."""

    def add(what, label, shown, conditions):
        (figure, others), peer = ours[what], theirs.get(what)
        known, text = shown(figure), None
        if peer:
            number, words = shown(peer[0])
            text = (number, f"etcd {words}")
        faster = shown is rate
        if peer and faster and figure[2]:
            conditions += f"; ratios: p99 {short(peer[0][2] / figure[2])}, servers' CPU {short(peer[0][4] / figure[4])}"
        shares = f"{others} / {peer[1]}" if peer else str(others)
        rows.add(label, known, text, more_is_better=faster, others=shares, conditions=conditions)

    return add
