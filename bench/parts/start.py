"""One container: made, run, gone. The container crate's own example against `crun run` and `runc run`."""

import re
import subprocess

from load import Others


def measure(options, rows, group):
    with Others(group) as others:
        program = options.bin / "examples/start_latency"
        out = subprocess.run([program, "100"], capture_output=True, text=True, check=True).stdout
    print("   " + out.strip().replace("\n", "\n   "))
    found = re.search(r"^all\s+median\s+([\d.]+)\s+min\s+([\d.]+)\s+p90\s+([\d.]+)", out, re.M)
    middle, low, high = map(float, found.groups())
    ours = (middle, f"{middle:.1f} ms (min {low:.1f}, p90 {high:.1f}, n=100)")
    peer = options.peers.run("oci-runtimes", RUNS="50")
    what = "container, create → running → gone"
    conditions = "busybox true, own network namespace, cgroups; no daemon in the way"
    for name in ("crun", "runc") if peer else ():
        figures = peer.get(f"{name} run, default spec", f"{name} run")
        rows.add(what, ours, figures, others=f"{others} / {peer.others}", conditions=conditions)
    if not peer:
        rows.add(what, ours, others=str(others), conditions=conditions)
