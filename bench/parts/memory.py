"""Memory and idle CPU of managers and workers, and of each pod's shim, against dockerd and containerd."""

import os
import re
import statistics
import time

from cluster import Cluster
from load import Others

SECONDS = 30
PODS = 48


def size(pid):
    """(RSS, PSS) of a process in MB."""
    lines = dict(line.split(":") for line in open(f"/proc/{pid}/smaps_rollup").readlines()[1:])
    return tuple(int(lines[field].split()[0]) / 1024 for field in ("Rss", "Pss"))


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(cluster):
    """By role: memory at the end, and CPU in % of a core, of a span in which nothing happens."""
    time.sleep(15)
    pids = {name: cluster.daemon(name) for name in cluster.names}
    leader = cluster.leader()
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(SECONDS)
    found = {}
    for name, pid in pids.items():
        role = "leader" if name == leader else "manager" if name in cluster.managers else "worker"
        share = (cpu_seconds(pid) - before[name]) / SECONDS * 100
        found.setdefault(role, []).append((*size(pid), share))
    return {role: [statistics.mean(column) for column in zip(*of)] for role, of in found.items()}


def swarm(options):
    """Swarm's daemons in MB, idle and with 50 tasks, and a shim's RSS and PSS."""
    peer = options.peers.run("swarm-one", REPS="3")
    line = r"{}: dockerd RSS (\d+) kB, containerd RSS (\d+) kB, shims (\d+) RSS sum (\d+) kB, PSS sum (\d+) kB"
    found = [re.search(line.format(when), peer.text) for when in ("one-node swarm idle", "with 50 containers")] if peer else []
    if not found or None in found:
        return {}
    empty, full = ([int(number) for number in match.groups()] for match in found)
    text = lambda of: f"dockerd + containerd RSS {of[0] / 1024:.0f} + {of[1] / 1024:.0f} MB"
    return {
        "empty": (sum(empty[:2]) / 1024, text(empty)),
        "full": (sum(full[:2]) / 1024, text(full)),
        "shim": (full[4] / full[2] / 1024, f"shim PSS {full[4] / full[2] / 1024:.2f}, RSS {full[3] / full[2] / 1024:.1f} MB"),
    }


def measure(options, rows, group):
    with Cluster(options, 3, workers=1) as cluster:
        cluster.load_image()
        with Others(group) as others:
            spans = {"empty": idle(cluster)}
            cluster.deploy("idle", PODS)
            cluster.wait_ready("idle", PODS)
            spans["full"] = idle(cluster)
            shims = [size(pid) for pid in cluster.shims()]
    peer = swarm(options)
    for when, roles in spans.items():
        state = "no pods" if when == "empty" else f"{PODS // 4} pods a node"
        for role, (rss, pss, share) in sorted(roles.items()):
            text = f"RSS {rss:.1f} MB (PSS {pss:.1f}), {share:.2f} % of a core"
            conditions = "3 managers, 1 worker; PSS: the daemons share the program's pages; ratio: RSS"
            rows.add(f"{role}, idle, {state}", (rss, text), peer.get(when), others=str(others), conditions=conditions)
    rss, pss = (statistics.mean(column) for column in zip(*shims))
    text = f"PSS {pss:.2f} MB (RSS {rss:.1f}), n={len(shims)}"
    rows.add("a pod's shim", (pss, text), peer.get("shim"), others=str(others), conditions="ratio: PSS")
