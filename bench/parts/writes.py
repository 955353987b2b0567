"""Durable writes a second on one and three members: the store's own example, against etcd.

The example's clients call the store in its own process, etcd's come over gRPC. A put waits for the disk on
both sides, so the two stand beside each other; a read of ours is a function call, so it gets no ratio.
"""

import re
import subprocess

from load import Others

OURS = re.compile(r"^\s*(\d+)\s+(\d+)\s+(put|read)\s+(\d+)/s\s+p50\s+(\S+)\s+p99\s+(\S+)", re.M)
PEERS = re.compile(r"^(\d)-nodes?\s+(put|lin)\s+(\d+) clients\s+(\d+) ops/s .*?p50 (\d+) us .*?p99 (\d+) us", re.M)
SECONDS = "3"


def measure(options, rows, group):
    measured = []
    for members in ("1", "3"):
        with Others(group) as others:
            command = [options.bin / "examples/write_bench", members, "0", SECONDS, options.scratch]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        measured += [(*found, others) for found in OURS.findall(out)]
    peer = options.peers.run("etcd", slow=True, SECS=SECONDS, REPS="1")
    theirs = {}
    for nodes, kind, clients, rate, p50, p99 in PEERS.findall(peer.text) if peer else ():
        if not int(rate):
            print(f"   peer etcd: nothing done for {clients} clients, {nodes} nodes; its script ended with: {peer.text[-300:]}")
            continue
        text = f"etcd {rate}/s, p50 {int(p50) / 1e3:.2f} ms, p99 {int(p99) / 1e3:.1f} ms"
        kind, number = ("put", int(rate)) if kind == "put" else ("read", 0)
        theirs[nodes, kind, clients] = number, text
    for members, clients, kind, rate, p50, p99, others in measured:
        rows.add(
            f"{'durable puts' if kind == 'put' else 'linearizable reads'}, {clients} clients, "
            f"{members} member{'s' * (members != '1')}",
            (int(rate), f"{rate}/s, p50 {p50}, p99 {p99}"),
            theirs.get((members, kind, clients)),
            more_is_better=True,
            others=f"{others} / {peer.others}" if peer else str(others),
            conditions="256 B; clients inside the store's process, etcd's over gRPC",
        )
