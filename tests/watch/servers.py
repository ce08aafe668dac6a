"""A real Reprise in front of the simulated model server, for tests that watch it from outside."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# What a Triton says of its GPUs: the simulated server says the rest.
TRITON = b"""nv_gpu_memory_used_bytes{gpu_uuid="GPU-0"} 3.2e10
nv_gpu_memory_total_bytes{gpu_uuid="GPU-0"} 8.5e10
nv_gpu_utilization{gpu_uuid="GPU-0"} 0.6
"""

CONFIG = """
[[upstream]]
name = "sim"
urls = ["http://{model}"]
metrics = "/metrics"
budget = "2s"

[[upstream]]
name = "triton"
urls = ["http://{triton}"]
routes = ["/v2"]
metrics = "/metrics"

[cache.semantic]
min_similarity = 0.9
# What is late on a busy machine is not what is watched here.
lookup_deadline = "10s"

[prices]
date = "2026-11-01"
models = {{ "sim*" = {{ input = 1000.0, output = 3000.0 }} }}

[telemetry]
otlp_endpoint = "http://{triton}"
protocol = "http"
sample = 1.0
"""


class Triton(http.server.BaseHTTPRequestHandler):
    """A Triton's metrics, and a collector that takes every trace."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(TRITON)))
        self.end_headers()
        self.wfile.write(TRITON)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Servers:
    """All processes; the store lives in a folder that goes with them."""

    def __init__(self, reprise, simulated):
        self.folder = tempfile.TemporaryDirectory()
        self.model, self.proxy, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes = [subprocess.Popen([os.path.abspath(simulated), "--listen", self.model], **quiet)]
        self.triton = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Triton)
        threading.Thread(target=self.triton.serve_forever, daemon=True).start()
        config = pathlib.Path(self.folder.name) / "reprise.toml"
        triton = f"127.0.0.1:{self.triton.server_port}"
        config.write_text(CONFIG.format(model=self.model, triton=triton))
        environment = dict(os.environ, REPRISE__STORE__PATH=f"{self.folder.name}/store")
        command = [os.path.abspath(reprise), "--config", str(config)]
        command += ["--listen", self.proxy, "--admin", self.admin]
        self.processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **quiet))
        wait("the proxy is not ready", lambda: self.get("/readyz") == b"ok\n", 60)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=30) as answer:
                return answer.read()
        except OSError:
            return None

    def stats(self):
        return json.loads(self.get("/api/v1/stats"))

    def ask(self, text, model="sim", stream=False, **headers):
        body = {"stream": stream, "model": model, "messages": [{"role": "user", "content": text}]}
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
        self.triton.shutdown()
        self.folder.cleanup()


def wait(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
