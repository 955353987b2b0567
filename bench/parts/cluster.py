"""Local machines that make a cluster, driven by the program and by its API on the unix socket."""

import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

IMAGE = "bench/box:1"
# Ends at once when told to: a shell that is process 1 has no default action.
IDLE = ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 3600 & wait; done']
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
PATIENCE = 120


class Socket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Cluster:
    """Machines `bench-a`, `bench-b` …: first the managers, then the workers. Their daemons find `environment` in
    theirs; unless `formed`, they are in no cluster."""

    def __init__(self, options, managers, workers=0, environment=None, formed=True):
        self.environment, self.formed = {**os.environ, **(environment or {})}, formed
        self.program = str(options.bin / "pontoon")
        self.dir = options.scratch / "machines-of-a-cluster"
        self.names = [f"bench-{letter}" for letter in "abcdefgh"[: managers + workers]]
        self.managers = self.names[:managers]
        self.archive = options.scratch / "box.tar"

    def __enter__(self):
        self.dir.mkdir()
        try:
            self.host("machine", "create", *self.names)
            if self.formed:
                self.form()
        except BaseException:
            self.__exit__()
            raise
        return self

    def form(self):
        """Makes a cluster of the machines."""
        self.on(self.names[0], "init")
        for name in self.names[1:]:
            role = "manager" if name in self.managers else "worker"
            token = json.loads(self.on(self.names[0], "join-token", role, "--output", "json"))
            self.on(name, "join", "--token", token["token"], token["address"])
        self.until(lambda: self.ready_nodes() == len(self.names), "all nodes are ready")

    def __exit__(self, *_):
        there = [name for name in self.names if (self.dir / "machines" / name).exists()]
        if there:
            self.host("machine", "rm", *there)
        subprocess.run(["rm", "-rf", self.dir, f"{self.dir}.lock"], check=True)

    def run(self, *words):
        command = [self.program, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)
        if done.returncode:
            raise RuntimeError(f"pontoon {' '.join(words[2:])}: {done.stderr.strip()}")
        return done.stdout

    def host(self, *words):
        return self.run("--data-dir", str(self.dir), *words)

    def run_dir(self, name):
        return self.dir / "machines" / name / "run"

    def on(self, name, *words):
        return self.run("--run-dir", str(self.run_dir(name)), *words)

    @contextlib.contextmanager
    def request(self, name, method, path, timeout=PATIENCE, body=None):
        with contextlib.closing(Socket(self.run_dir(name) / "pontoon.sock", timeout)) as connection:
            text = body and json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json"} if body else {})
            answer = connection.getresponse()
            if answer.status >= 300:
                raise OSError(f"{method} {path}: {answer.status} {answer.read(400)}")
            yield answer

    def api(self, name, method, path, timeout=PATIENCE, body=None):
        with self.request(name, method, path, timeout, body) as answer:
            return json.load(answer)

    def until(self, good, what, pause=0.05):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
                if good():
                    return
            time.sleep(pause)
        raise TimeoutError(f"waited {PATIENCE} s until {what}")

    def ready_nodes(self):
        nodes = self.api(self.names[0], "GET", "/pontoon/v1/nodes", timeout=2)["nodes"]
        return sum(node["status"] == "Ready" for node in nodes)

    def leader(self):
        return json.loads(self.on(self.names[0], "status", "--output", "json"))["leader"]

    def load_image(self):
        """A busybox image on every node, so that no start waits for a transfer."""
        if not self.archive.exists():
            root = self.archive.with_suffix(".root")
            (root / "bin").mkdir(parents=True)
            subprocess.run(["cp", "/bin/busybox", root / "bin/busybox"], check=True)
            for applet in ("sh", "sleep"):
                (root / "bin" / applet).symlink_to("busybox")
            subprocess.run(["tar", "-C", root, "-cf", self.archive, "."], check=True)
        for name in self.names:
            self.on(name, "image", "import", str(self.archive), IMAGE)

    def deploy(self, name, replicas, image=IMAGE, args=IDLE, port=None):
        words = ["run", name, "--image", image, "--replicas", str(replicas)]
        words += ["--port", port] if port else []
        self.on(self.names[0], *words, *(["--", *args] if args else []))

    def pods(self, app, at=None, timeout=PATIENCE):
        selector = f"{PODS}?labelSelector=app%3D{app}"
        return self.api(at or self.names[0], "GET", selector, timeout=timeout)["items"]

    def wait_ready(self, app, count):
        """Follows a watch until so many pods are ready: no looks that cost the CPU which is measured."""
        ready = set()
        with self.request(self.names[0], "GET", f"{PODS}?watch=true&labelSelector=app%3D{app}") as answer:
            while len(ready) < count:
                event = json.loads(answer.readline())
                uid = event["object"]["metadata"]["uid"]
                good = event["type"] != "DELETED" and is_ready(event["object"])
                ready.add(uid) if good else ready.discard(uid)

    def delete(self, app):
        self.api(self.names[0], "DELETE", f"{DEPLOYMENTS}/{app}?propagationPolicy=Foreground")
        self.until(lambda: not self.pods(app), f"the pods of {app} are gone")

    def machine(self, name):
        """What `machine ls` says of a machine: its address and the process id of its first process."""
        machines = json.loads(self.host("machine", "ls", "--output", "json"))["machines"]
        return next(m for m in machines if m["name"] == name)

    def daemon(self, name):
        """Process id of a machine's daemon."""
        init = self.machine(name)["pid"]
        children = pathlib.Path(f"/proc/{init}/task/{init}/children").read_text().split()
        return next(int(pid) for pid in children if comm(pid) != "pontoon-shim")

    def shims(self):
        """Process ids of the pods' shims of this cluster's machines."""
        mark = str(self.dir).encode()
        pids = [pid for pid in os.listdir("/proc") if comm(pid) == "pontoon-shim"]
        return [int(pid) for pid in pids if mark in pathlib.Path(f"/proc/{pid}/mountinfo").read_bytes()]


def comm(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_ready(pod):
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
