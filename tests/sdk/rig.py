"""The two processes under test, and how to wait for things without guessing at a time."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx2
import pytest

import ledger

ROOT = pathlib.Path(__file__).resolve().parents[2]
T = TypeVar("T")


def program(variable: str, default: str) -> pathlib.Path:
    """The binary that the environment names, or cargo's debug build of it."""
    return ROOT / os.environ.get(variable, f"target/debug/{default}")


REPRISE = program("REPRISE_BIN", "reprise")
SIMULATED = program("REPRISE_SIM_BIN", "examples/simulated")


def eventually(probe: Callable[[], T], within: float = 30.0, what: str = "it") -> T:
    """Asks until the answer is true, and returns that answer."""
    deadline = time.monotonic() + within
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {within} s; last: {found!r}")
        time.sleep(0.01)


#: What one look counts at most of a time that is promised.
LOOK = 0.05


def promised(probe: Callable[[], T], within: float, what: str = "it") -> T:
    """The same for what is promised within that time, which passes by looks: where the machine stands
    still for some seconds, nothing is late by itself."""
    spent, begun = 0.0, time.monotonic()
    since = begun
    while not (found := probe()):
        now = time.monotonic()
        spent, since = spent + min(now - since, LOOK), now
        assert spent <= within and now - begun < 30, f"{what} did not happen within {within} s; last: {found!r}"
        time.sleep(0.01)
    return found


def at_best(attempt: Callable[[int], T], tries: int = 3) -> T:
    """For what only a clock can tell: one of some tries must hold, for a pause of the machine spoils
    whichever it falls into."""
    for number in range(tries - 1):
        try:
            return attempt(number)
        except AssertionError as error:
            print(f"\nonce more, after {error}")
    return attempt(tries - 1)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_store() -> dict[str, str]:
    """Settings of the store on a server that the environment names, with a collection of its own."""
    for kind in ("milvus", "qdrant"):
        if url := os.environ.get(f"REPRISE_TEST_{kind.upper()}"):
            return {
                "store.kind": kind,
                "store.url": url,
                "store.prefix": f"sdk {uuid.uuid4().hex[:8]}",
                "store.timeout": "20s",
                "store.tenant_key": "0f" * 32,
            }
    return {}


#: For tests of a store on a server.
needs_server_store = pytest.mark.skipif(
    not server_store(), reason="scripts/test-milvus starts one; REPRISE_TEST_QDRANT=URL names one"
)


class Simulated:
    """The bundled model server."""

    def __init__(self, *arguments: str) -> None:
        command = [str(SIMULATED), "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline() if ready else ""
        found = re.fullmatch(r"listening on (http://\S+)\n", line)
        assert found, f"the simulated server said {line!r} and not where it listens"
        self.url = found[1]
        self.control = httpx2.Client(base_url=self.url, trust_env=False, timeout=30)

    def stats(self) -> dict[str, Any]:
        return self.control.get("/sim/stats").raise_for_status().json()

    def reset(self) -> None:
        self.control.post("/sim/reset").raise_for_status()

    def calls(self, path: str = "/v1/chat/completions") -> int:
        """How often `path` was asked for since the last reset."""
        return self.stats()["calls"].get(path, 0)

    def last_request(self) -> dict[str, Any]:
        return self.stats()["last_request"]

    def stop(self) -> None:
        self.control.close()
        self.process.terminate()
        self.process.wait(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Halting:
    """A model server whose every answer is a stream of forty words that halts after its first one until
    `go` is set."""

    WORDS = 40

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0
        halting = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                halting.asked += 1
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.say({"delta": {"role": "assistant", "content": "word"}})
                halting.go.wait(60)
                for _ in range(halting.WORDS - 1):
                    self.say({"delta": {"content": " word"}})
                self.say({"delta": {}, "finish_reason": "stop"})
                self.write(b"data: [DONE]\n\n")
                self.write(b"")

            def say(self, choice: dict[str, Any]) -> None:
                choice = {"index": 0, "finish_reason": None} | choice
                event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
                event |= {"model": "sim", "choices": [choice]}
                self.write(b"data: %s\n\n" % json.dumps(event).encode())

            def write(self, chunk: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.go.set()
        self.server.shutdown()
        self.server.server_close()


#: Address of who receives every request's trace of each proxy that says nothing of traces: set by conftest.
COLLECTOR = ""


class Reprise:
    """The proxy. `settings` are configuration keys: {"cache.ttl": "10m"}."""

    def __init__(
        self,
        upstream: str,
        folder: pathlib.Path,
        settings: Mapping[str, str] | None = None,
        config: str | None = None,
        arguments: tuple[str, ...] = (),
        ready: bool = True,
        self_signed: bool = True,
    ) -> None:
        ports = [free_port() for _ in range(3)]
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.admin_url = f"http://127.0.0.1:{ports[1]}"
        self.https_url = f"https://localhost:{ports[2]}"
        self.unix = folder / "reprise.sock"
        self.log = folder / "reprise.log"
        self.folder = folder
        if "log.prompts" not in (settings or {}) and "prompts" not in (config or ""):
            ledger.logs.append(self.log)
        keys = {
            "listen.https": f"127.0.0.1:{ports[2]}",
            "listen.unix": str(self.unix),
            "store.path": str(folder / "store"),
            # A lookup that is late on a busy machine is forwarded; these tests are not about that.
            "cache.semantic.lookup_deadline": "10s",
            # A machine that stands still for some seconds is no server that cannot be reached.
            "timeouts.connect": "30s",
            # Whether a given hit is drawn to be checked is chance.
            "cache.semantic.audit": "0",
            **(settings or {}),
        }
        if COLLECTOR and not any("telemetry" in text for text in [*keys, config or ""]):
            keys["telemetry.otlp_endpoint"] = COLLECTOR
            keys["telemetry.protocol"] = "http"
            keys["telemetry.sample"] = "1"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REPRISE__")}
        for key, value in keys.items():
            environment["REPRISE__" + key.upper().replace(".", "__")] = value
        command = [str(REPRISE), "--listen", f"127.0.0.1:{ports[0]}"]
        command += ["--admin", f"127.0.0.1:{ports[1]}", *arguments]
        if self_signed:
            command.append("--tls-self-signed")
        if config is None:
            command += ["--upstream", upstream]
        else:
            file = folder / "reprise.toml"
            file.write_text(config)
            command += ["--config", str(file)]
        with self.log.open("ab") as log:
            # The repository's root: the default model path is relative to it.
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log
            )
        self.admin = httpx2.Client(base_url=self.admin_url, trust_env=False, timeout=30)
        if ready:
            try:
                eventually(self.is_ready, within=60, what="readiness")
            except BaseException:
                self.kill()
                raise

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"exited with {self.process.returncode}:\n{self.output()}")
        try:
            return self.admin.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def written(self) -> int:
        """Answers that are in the vector tier since the start."""
        return self.admin.get("/api/v1/stats").raise_for_status().json()["writes"]["written_total"]

    def failed(self) -> int:
        """Answers that the vector tier could not take since the start."""
        return self.admin.get("/api/v1/stats").raise_for_status().json()["writes"]["failed_total"]

    def trouble(self) -> str | None:
        """What is wrong with the vector tier."""
        return self.admin.get("/api/v1/stats").raise_for_status().json()["store"]["trouble"]

    def requests(self) -> dict[str, int]:
        """Requests by outcome since the start."""
        return self.admin.get("/api/v1/stats").raise_for_status().json()["requests"]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, within: float = 40) -> int:
        return self.process.wait(timeout=within)

    def stop(self) -> None:
        """Stops it as an init system would, and insists on a clean end."""
        if self.process.poll() is None:
            ledger.look(self.admin, self.folder.name)
            self.terminate()
            code = self.wait()
            assert code == 0, f"exit code {code} after SIGTERM:\n{self.output()}"
        self.admin.close()

    def kill(self) -> None:
        if self.process.poll() is None:
            ledger.look(self.admin, self.folder.name)
            self.process.kill()
            self.process.wait()
        self.admin.close()
