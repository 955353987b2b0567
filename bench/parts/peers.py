"""The peers' own scripts: run once each, their figures read from what they print."""

import os
import pathlib
import re
import shutil
import subprocess

from table import short

FIGURES = re.compile(r"^(.*?)\s+median ([\d.]+) (\S+)\s+\(min ([\d.]+), max ([\d.]+), n=(\d+)\)", re.M)


class Peers:
    """Scripts of `$PEERS`, `../shared/peers` unless it says otherwise."""

    def __init__(self, root, options):
        self.source = pathlib.Path(os.environ.get("PEERS", root.parent / "shared/peers"))
        self.scripts = options.scratch / "peers"
        self.wanted = not options.no_peers
        self.slow = options.slow
        self.done = {}

    def run(self, name, slow=False, **environment):
        """A script's results, or None with a word why there are none."""
        if not self.wanted or (slow and not self.slow):
            if slow and self.wanted:
                print(f"   peer {name}: left out, it takes minutes; --slow runs it")
            return None
        if name not in self.done:
            self.done[name] = self.start(name, environment)
        return self.done[name]

    def copy(self):
        """Where the scripts may be changed: they build beside themselves."""
        if not self.scripts.exists():
            shutil.copytree(self.source, self.scripts)
        return self.scripts

    def start(self, name, environment):
        if not (self.source / f"{name}.sh").exists():
            print(f"   peer {name}: missing, there is no {self.source}/{name}.sh (set PEERS)")
            return None
        self.copy()
        print(f"   peer {name} runs …", flush=True)
        ran = subprocess.run(
            # Not here: a cargo that they call would take this workspace's settings.
            [self.scripts / f"{name}.sh"], capture_output=True, text=True, cwd=self.scripts,
            env={**os.environ, **environment}, check=False,
        )
        text = ran.stdout + ran.stderr
        if ran.returncode:
            print(f"   peer {name}: failed with {ran.returncode}: {text.strip()[-300:]}")
        return Results(text)


class Results:
    """What a script printed."""

    def __init__(self, text):
        self.text = text
        self.by_label = {m[1]: m.groups()[1:] for m in FIGURES.finditer(text)}
        share = re.search(r"others (\d+)%", text)
        self.others = f"{share[1]} %" if share else "?"

    def get(self, label, name):
        """(number, text) of the figures under a label, or None."""
        for key, (middle, unit, low, high, count) in self.by_label.items():
            if key.startswith(label):
                return float(middle), f"{name} {short(float(middle))} {unit} ({short(float(low))}..{short(float(high))}, n={count})"
        print(f"   peer {name}: it printed nothing under {label!r}")
        return None
