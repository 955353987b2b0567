"""Connecting to a pod by its service's address and directly, in turn, out of another pod's network."""

import json
import pathlib
import subprocess

from cluster import Cluster
from load import Others

TIMES = 3000
# Runs in the asking pod's network namespace, with this computer's python.
ASK = """
import json, socket, sys, time
def once(target):
    began = time.perf_counter_ns()
    stream = socket.create_connection(target)
    took = time.perf_counter_ns() - began
    stream.close()
    return took / 1e3
targets = json.loads(sys.argv[1])
for target in targets * 100:
    once(target)
columns = [[], []]
for _ in range(int(sys.argv[2])):
    for column, target in zip(columns, targets):
        column.append(once(target))
print(json.dumps([sorted(column) for column in columns]))
"""


def shim_of(cluster, address):
    """The shim in whose network this address is."""
    for pid in cluster.shims():
        if f"{address}\n" in pathlib.Path(f"/proc/{pid}/net/fib_trie").read_text():
            return pid
    raise RuntimeError(f"no pod of this cluster has the address {address}")


def measure(options, rows, group):
    with Cluster(options, 2) as cluster:
        cluster.deploy("web", 1, image="pontoon.local/hello", args=None, port="80:8080")
        cluster.deploy("asker", 2, image="pontoon.local/hello", args=None)
        cluster.wait_ready("web", 1)
        cluster.wait_ready("asker", 2)
        web = cluster.pods("web")[0]
        service = cluster.api(cluster.names[0], "GET", "/api/v1/namespaces/default/services/web")
        targets = [[web["status"]["podIP"], 8080], [service["spec"]["clusterIP"], 80]]
        for asker in cluster.pods("asker"):
            pid = shim_of(cluster, asker["status"]["podIP"])
            command = ["nsenter", "-t", str(pid), "-n", "python3", "-c", ASK, json.dumps(targets), str(TIMES)]
            with Others(group) as others:
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            direct, by_service = json.loads(out)
            at = lambda column, share: column[int(len(column) * share)]
            text = lambda column: f"{at(column, 0.5):.0f} µs (p99 {at(column, 0.99):.0f}, n={TIMES})"
            same = asker["spec"]["nodeName"] == web["spec"]["nodeName"]
            rows.add(
                f"connect by service address, {'same node' if same else 'to another node'}",
                (at(by_service, 0.5), text(by_service)),
                (at(direct, 0.5), f"direct {text(direct)}"),
                others=str(others), conditions="TCP connect, in turn with direct ones; Swarm has no VIP on this kernel",
            )
