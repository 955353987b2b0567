"""Consul's DNS: Pontoon's answers beside Consul 1.8.7's, both asked by dnsperf on loopback, in turn.

Both have the same services in their catalogs. Pontoon's side is the example `consul_serve`, a store of one member with
Consul's API and DNS; Consul is one server, from the peers' `debian11.sh`.
"""

import json
import re
import shutil
import statistics
import subprocess
import time
import urllib.request

from load import Others
from memory import cpu_seconds
from table import figures

SERVICES = 50
INSTANCES = 3
REPEATS = 5
SECONDS = "3"
PATIENCE = 60
OURS = {"http": 28500, "dns": 28600}
THEIRS = {"http": 29500, "dns": 29600, "serf_lan": 29301, "serf_wan": 29302, "server": 29300}
FIGURES = {name: re.compile(rf"{words}:\s+([\d.]+)") for name, words in
           {"rate": "Queries per second", "latency": "Average Latency \\(s\\)", "lost": "Queries lost"}.items()}
# What is asked: the questions' type, and dnsperf's words.
LOADS = {
    "A, 3 instances": ("A", "-c", "8", "-q", "100"),
    "SRV with addresses, EDNS": ("SRV", "-c", "8", "-q", "100", "-e"),
    "A, one question at a time": ("A", "-c", "1", "-q", "1"),
}


def put(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), method="PUT")
    return urllib.request.urlopen(request, timeout=5).read()


def ready(port):
    """Waits until it registers things."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return put(port, "/v1/catalog/register", {"Node": "ready", "Address": "10.0.0.1"})
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def register(port):
    ready(port)
    for service in range(SERVICES):
        for instance in range(INSTANCES):
            put(port, "/v1/catalog/register", {
                "Node": f"node{instance}", "Address": f"10.0.1.{instance + 1}",
                "Service": {"ID": f"svc{service}", "Service": f"svc{service}", "Port": 8000 + service},
                "Check": {"CheckID": f"svc{service}", "Name": "up", "Status": "passing", "ServiceID": f"svc{service}"},
            })


def ask(options, port, kind, words):
    """One load: rate, latency, lost."""
    questions = options.scratch / f"questions-{kind}"
    questions.write_text("".join(f"svc{service}.service.consul {kind}\n" for service in range(SERVICES)))
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", questions, "-T", "1", "-l", SECONDS, *words]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    codes = re.search(r"Response codes:\s+(.*)", out)
    if not codes or not codes[1].startswith("NOERROR") or "," in codes[1]:
        raise RuntimeError(f"not all questions were answered: {codes and codes[1]}")
    return {name: float(pattern.search(out)[1]) for name, pattern in FIGURES.items()}


def start_consul(options):
    """The real one, or None with a word why it is not there."""
    if not options.peers.wanted:
        return None
    unpacked = options.scratch / "debian11"
    done = subprocess.run([options.peers.copy() / "debian11.sh", unpacked, "consul"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"   peer consul: not to be had: {(done.stdout + done.stderr).strip()[-300:]}")
        return None
    config = options.scratch / "consul.json"
    config.write_text(json.dumps({
        "server": True, "bootstrap_expect": 1, "bind_addr": "127.0.0.1", "data_dir": str(options.scratch / "consul"),
        "ports": THEIRS, "disable_update_check": True, "log_level": "err",
    }))
    return subprocess.Popen([unpacked / "root/usr/bin/consul", "agent", f"-config-file={config}"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(options, rows, group):
    if not shutil.which("dnsperf"):
        print("   left out: dnsperf is not installed (Debian's package dnsperf)")
        return
    addresses = [f"127.0.0.1:{OURS[name]}" for name in ("http", "dns")]
    command = [options.bin / "examples/consul_serve", addresses[0], options.scratch / "dns-store", addresses[1]]
    ours = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes = {"Pontoon": ours, "consul": start_consul(options)}
    ports = {"Pontoon": OURS, "consul": THEIRS}
    sides = [name for name, process in processes.items() if process]
    try:
        for name in sides:
            register(ports[name]["http"])
        time.sleep(1)  # Consul answers what it has heard of a moment later.
        for what, (kind, *words) in LOADS.items():
            compare(what, options, rows, group, [(name, ports[name]["dns"], kind, words, processes[name].pid) for name in sides])
    finally:
        for process in filter(None, processes.values()):
            process.kill()
            process.wait()


def compare(what, options, rows, group, sides):
    """A row of one load, on each side in turn."""
    found = {name: [] for name, *_ in sides}
    with Others(group) as others:
        for _ in range(REPEATS):
            for name, port, kind, words, pid in sides:
                before = cpu_seconds(pid)
                run = ask(options, port, kind, words)
                used = cpu_seconds(pid) - before
                found[name].append({**run, "cpu_us": used / max(run["rate"] * float(SECONDS), 1) * 1e6})
    told = {}
    for name, runs in found.items():
        rates = [run["rate"] for run in runs]
        middle = lambda key: statistics.median(run[key] for run in runs)
        text = f"{name + ' ' if name != 'Pontoon' else ''}{figures(rates, '/s')}, average {middle('latency') * 1e6:.0f} µs, " \
               f"{middle('cpu_us'):.1f} µs CPU, {sum(run['lost'] for run in runs):.0f} lost"
        told[name] = statistics.median(rates), text
    rows.add(
        f"Consul's DNS answers a second: {what}", told["Pontoon"], told.get("consul"), more_is_better=True,
        others=str(others), conditions=f"{SERVICES} services, UDP on loopback, dnsperf with one thread, in turn",
    )
