"""A real Reprise in front of the simulated model server, for tests that watch it from outside."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Servers:
    """Both processes; the store lives in a folder that goes with them."""

    def __init__(self, reprise, simulated):
        self.folder = tempfile.TemporaryDirectory()
        self.model, self.proxy, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes = [subprocess.Popen([os.path.abspath(simulated), "--listen", self.model], **quiet)]
        environment = dict(
            os.environ,
            REPRISE__STORE__PATH=f"{self.folder.name}/store",
            REPRISE__CACHE__SEMANTIC__MIN_SIMILARITY="0.9",
        )
        command = [os.path.abspath(reprise), "--upstream", f"http://{self.model}"]
        command += ["--listen", self.proxy, "--admin", self.admin]
        self.processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **quiet))
        wait("the proxy is not ready", lambda: self.get("/readyz") == b"ok\n", 60)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.read()
        except OSError:
            return None

    def stats(self):
        return json.loads(self.get("/api/v1/stats"))

    def ask(self, text, model="sim", **headers):
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        request = urllib.request.Request(
            f"http://{self.proxy}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": "Bearer sk-browser", **headers},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=30)
        self.folder.cleanup()


def wait(what, condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
