"""Replicas created → all running: one machine and three, against Docker Swarm on one and three."""

import statistics
import time

from cluster import Cluster
from load import Others
from table import figures

REPEATS = 5


def timed(cluster, count):
    times = []
    for turn in range(REPEATS):
        app = f"r{count}-{turn}"
        began = time.monotonic()
        cluster.deploy(app, count)
        cluster.wait_ready(app, count)
        times.append((time.monotonic() - began) * 1e3)
        cluster.delete(app)
    return statistics.median(times), figures(times, "ms")


def measure(options, rows, group):
    for machines, counts in ((1, (1, 10, 50)), (3, (30, 50))):
        measured = {}
        with Cluster(options, machines) as cluster:
            cluster.load_image()
            timed(cluster, 1)
            for count in counts:
                with Others(group) as others:
                    measured[count] = timed(cluster, count), others
        if machines == 1:
            peer = options.peers.run("swarm-one", REPS="3")
            label = "service create --replicas {}"
        else:
            peer = options.peers.run("swarm-three", slow=True, REPS="3")
            label = "3 nodes: service create --replicas {}"
        for count, (ours, others) in measured.items():
            same = peer and (machines == 1 or count == 30)
            theirs = peer.get(label.format(count) + " ", "Swarm") if same else None
            what = f"{count} replicas created → all running, {machines} node{'s' * (machines > 1)}"
            shares = f"{others} / {peer.others}" if theirs else str(others)
            rows.add(what, ours, theirs, others=shares, conditions="busybox image on every node; ready by a watch")
