"""Power-off of a node → its pods run elsewhere, and the time without an acknowledged write meanwhile: three managers, six
pods, follower and leader apart."""

import contextlib
import http.client
import statistics
import subprocess
import threading
import time

from cluster import PATIENCE, PODS, Cluster, is_ready
from load import Others
from table import figures

APP = "moved"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
REPLICAS = 6


def ready(cluster, at=None, timeout=PATIENCE):
    return [pod for pod in cluster.pods(APP, at, timeout) if is_ready(pod)]


def spread(cluster):
    """Every node back, and the pods even over them again."""
    cluster.until(lambda: cluster.ready_nodes() == 3, "three nodes are ready")

    def even():
        nodes = [pod["spec"]["nodeName"] for pod in ready(cluster)]
        return sorted(nodes.count(name) for name in cluster.names) == [2, 2, 2]

    for _ in range(5):
        if even():
            return
        cluster.api(cluster.names[0], "DELETE", f"{PODS}?labelSelector=app%3D{APP}")
        cluster.until(lambda: len(ready(cluster)) == REPLICAS, "the pods are ready again")
    raise RuntimeError("the pods do not spread evenly")


class Writer:
    """Writes one after the other at a node; knows the longest time between two acknowledgements."""

    def __init__(self, cluster, at):
        self.cluster, self.at, self.gap, self.stop = cluster, at, 0, threading.Event()
        self.thread = threading.Thread(target=self.write)

    def write(self):
        last = time.monotonic()
        while not self.stop.is_set():
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gap-"}}
            try:
                self.cluster.api(self.at, "POST", CONFIG_MAPS, body=body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
                continue
            self.gap = max(self.gap, time.monotonic() - last)
            last = time.monotonic()
        self.gap = max(self.gap, time.monotonic() - last)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.cluster.api(self.at, "DELETE", CONFIG_MAPS)


def lose(cluster, kind):
    """Milliseconds from the command that cuts the power until all pods are ready on other nodes, and the longest time
    without an acknowledged write."""
    leader = cluster.leader()
    others = [name for name in cluster.names if name != leader]
    victim, observer = (leader, others[0]) if kind == "leader" else (others[-1], leader)
    began = time.monotonic()
    command = [cluster.program, "--data-dir", str(cluster.dir), "machine", "kill", victim]
    with Writer(cluster, observer) as writer, subprocess.Popen(command, stdout=subprocess.DEVNULL) as kill:
        while time.monotonic() - began < 120:
            with contextlib.suppress(OSError, http.client.HTTPException):
                pods = ready(cluster, observer, timeout=1)
                if len(pods) == REPLICAS and all(p["spec"]["nodeName"] != victim for p in pods):
                    break
            time.sleep(0.02)
        took = (time.monotonic() - began) * 1e3
        kill.wait()
    cluster.host("machine", "start", victim)
    return took, writer.gap * 1e3


def measure(options, rows, group):
    measured = {}
    with Cluster(options, 3) as cluster:
        cluster.load_image()
        cluster.deploy(APP, REPLICAS)
        cluster.wait_ready(APP, REPLICAS)
        for kind in ("follower", "leader"):
            times, gaps = [], []
            with Others(group) as others:
                for _ in range(options.runs):
                    spread(cluster)
                    took, gap = lose(cluster, kind)
                    times.append(took)
                    gaps.append(gap)
                    print(f"   {kind}: {took:.0f} ms, no write for {gap:.0f} ms", flush=True)
            both = [(statistics.median(all), figures(all, "ms", worst=True)) for all in (times, gaps)]
            measured[kind] = *both, others
    peer = options.peers.run("swarm-three", slow=True, REPS="3")
    for kind, (ours, gap, others) in measured.items():
        theirs = peer and peer.get(f"{kind} node killed: its tasks run elsewhere", "Swarm")
        shares = f"{others} / {peer.others}" if peer else str(others)
        rows.add(
            f"{kind} powered off → its pods run elsewhere", ours, theirs, others=shares,
            conditions="3 managers, 6 pods, SIGKILL of all in the machine; Swarm: of its daemons",
        )
        rows.add(
            f"{kind} powered off → next write acknowledged", gap, others=str(others),
            conditions="the longest time without one, a single writer at another manager",
        )
