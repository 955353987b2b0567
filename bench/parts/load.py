"""Whose CPU it was: this run's processes are in cgroups of their own, so that others' share can be told."""

import contextlib
import glob
import os
import pathlib
import threading
import time

CPUACCT = pathlib.Path("/sys/fs/cgroup/cpuacct")
V2 = pathlib.Path("/sys/fs/cgroup")
# Machines of this run and the container example make cgroups with these names.
PATTERNS = ("*-bench-*", "start-latency-*")


def busy():
    """CPU seconds of the whole computer that were not idle."""
    fields = [int(word) for word in open("/proc/stat").readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def await_quiet(patience):
    """Waits until others take less than a tenth of the cores over some seconds; gives up in the end."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = busy()
        time.sleep(4)
        if (busy() - before) / 4 / os.cpu_count() < 0.1:
            return


class Group:
    """A cgroup that this process and all it starts are in."""

    def __init__(self):
        self.parent = CPUACCT if CPUACCT.is_dir() else V2
        self.path = self.parent / f"bench-{os.getpid()}"

    def __enter__(self):
        self.path.mkdir()
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_):
        (self.parent / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:  # A process that was told to end is still at it.
                time.sleep(0.1)
        print(f"left behind: {self.path}")

    def used(self):
        """CPU seconds by cgroup."""
        found = {}
        for path in [str(self.path), *(p for name in PATTERNS for p in glob.glob(f"{self.parent}/{name}"))]:
            with contextlib.suppress(OSError):  # Gone between the listing and the look.
                if self.parent == CPUACCT:
                    found[path] = int(open(f"{path}/cpuacct.usage").read()) / 1e9
                else:
                    found[path] = int(open(f"{path}/cpu.stat").read().split()[1]) / 1e6
        return found


class Others:
    """The share of all cores that others took between `with` and its end, as text."""

    def __init__(self, group):
        self.group, self.last, self.share = group, {}, None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self):
        self.first = self.group.used()
        self.began, self.busy = time.monotonic(), busy()
        self.thread.start()
        return self

    def follow(self):
        """Cgroups go while one looks on, with what they know."""
        while not self.ended.wait(0.5):
            self.last.update(self.group.used())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.last.update(self.group.used())
        own = sum(self.last.values()) - sum(self.first.values())
        took = (time.monotonic() - self.began) * os.cpu_count()
        self.share = max(0.0, busy() - self.busy - own) / took * 100

    def __str__(self):
        return f"{self.share:.0f} %"
