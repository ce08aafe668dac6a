"""Taking over a changed configuration, changed certificates, and a successor's process, under load."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from rig import REPRISE, ROOT, Reprise, Simulated, eventually, free_port

PATH = "/v1/chat/completions"


class Load:
    """Clients that ask all the time, each question its own; what goes wrong is kept."""

    def __init__(self, url: str, clients: int = 4, **options) -> None:
        self.url, self.options = url, options
        self.done, self.wrong = 0, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, number: int) -> None:
        with httpx2.Client(trust_env=False, timeout=30, **self.options) as client:
            turn = 0
            while not self.stopping.is_set():
                turn += 1
                text = f"client {number} asks {turn} of {time.monotonic_ns()}"
                body = {"model": "sim", "messages": [{"role": "user", "content": text}]}
                if turn % 2:
                    body["stream"] = True
                try:
                    answer = client.post(self.url + PATH, json=body)
                    whole = answer.text.endswith("data: [DONE]\n\n") or not turn % 2
                    if answer.status_code != 200 or not whole:
                        self.wrong.append((answer.status_code, answer.text[-200:]))
                except httpx2.HTTPError as error:
                    self.wrong.append(repr(error))
                self.done += 1

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def write(file: pathlib.Path, upstream: str, more: str = "") -> None:
    section = f'[[upstream]]\nname = "sim"\nurls = ["{upstream}"]\n'
    file.write_text(f"{more}\n{section}")


def metric(proxy: Reprise, series: str) -> float:
    for line in proxy.admin.get("/metrics").text.splitlines():
        if line.startswith(series + " "):
            return float(line.split()[-1])
    return 0.0


@pytest.fixture
def two() -> Iterator[tuple[Simulated, Simulated]]:
    servers = [Simulated("--first-token", "2ms", "--token-rate", "0", "--tokens", "8") for _ in "ab"]
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


def test_a_reload_moves_new_requests_and_loses_none(start, two, tmp_path) -> None:
    one, other = two
    proxy: Reprise = start("", config=f'[[upstream]]\nname = "sim"\nurls = ["{one.url}"]\n')
    file = proxy.folder / "reprise.toml"
    load = Load(proxy.url)
    eventually(lambda: one.calls() > 20, what="the first server is asked")
    for turn in range(10):
        to = (other, one)[turn % 2]
        write(file, to.url)
        before = to.calls()
        if turn % 3:
            proxy.process.send_signal(signal.SIGHUP)
        else:
            told = proxy.admin.post("/api/v1/reload")
            assert told.json() == {"changed": ["upstreams"]}, told.text
        eventually(lambda: to.calls() > before + 5, what="the new server is asked")
    load.stop()
    assert not load.wrong, load.wrong[:5]
    assert load.done > 100
    assert metric(proxy, 'reprise_config_reloads_total{result="applied"}') == 10


def test_what_is_wrong_or_fixed_changes_nothing_and_is_named(start, two) -> None:
    one, other = two
    proxy: Reprise = start("", config=f'[[upstream]]\nname = "sim"\nurls = ["{one.url}"]\n')
    file = proxy.folder / "reprise.toml"
    ask = {"model": "sim", "messages": [{"role": "user", "content": "whom?"}]}
    for more, named in [
        ('cache.ttl = "never"\n', "cache.ttl"),
        ('cache.max_bytes = "1MiB"\n', "cache.max_bytes"),
        ('limits.connections = 7\nembed.threads = 1\n', "limits.connections, embed"),
    ]:
        write(file, other.url, more)
        told = proxy.admin.post("/api/v1/reload")
        assert told.status_code == 422, told.text
        assert named in told.json()["error"]["message"]
        headers = {"cache-control": "no-store"}
        answer = httpx2.post(proxy.url + PATH, json=ask, headers=headers, timeout=30)
        assert answer.status_code == 200
        assert other.calls() == 0, "all or nothing"
    assert metric(proxy, 'reprise_config_reloads_total{result="refused"}') == 3
    write(file, one.url)
    assert proxy.admin.post("/api/v1/reload").json() == {"changed": []}


def certificate(folder: pathlib.Path, name: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext"]
    command += ["subjectAltName=DNS:localhost", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def shown(port: int) -> bytes:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            return secure.getpeercert(binary_form=True)


def test_certificates_are_exchanged_under_load(two, tmp_path) -> None:
    """Old connections go on, new ones see the new certificate, garbage changes nothing."""
    for name in ["a", "b"]:
        certificate(tmp_path, name)
    for kind in ["pem", "key"]:
        (tmp_path / f"tls.{kind}").write_bytes((tmp_path / f"a.{kind}").read_bytes())
    http, https, admin = (free_port() for _ in range(3))
    file = tmp_path / "reprise.toml"
    write(file, two[0].url, f"""
        listen.http = "127.0.0.1:{http}"
        listen.https = "127.0.0.1:{https}"
        listen.admin = "127.0.0.1:{admin}"
        tls.cert = "{tmp_path}/tls.pem"
        tls.key = "{tmp_path}/tls.key"
        store.kind = "off"
        log.access = false
        """)
    process = subprocess.Popen([str(REPRISE), "--config", str(file)], cwd=ROOT)
    try:
        client = httpx2.Client(base_url=f"http://127.0.0.1:{admin}", trust_env=False, timeout=30)

        def ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx2.TransportError:
                return False

        eventually(ready, within=30, what="readiness")
        load = Load(f"https://localhost:{https}", verify=False)
        seen = shown(https)
        for turn in range(3):
            name = "ba"[turn % 2]
            for kind in ["pem", "key"]:
                (tmp_path / f"tls.{kind}").write_bytes((tmp_path / f"{name}.{kind}").read_bytes())
            eventually(lambda: shown(https) != seen, within=30, what="the new certificate")
            seen = shown(https)
        (tmp_path / "tls.key").write_text("garbage")
        metrics = lambda: client.get("/metrics").text
        eventually(lambda: 'reprise_tls_reloads_total{result="refused"} 1' in metrics(),
                   within=30, what="the refusal")
        assert shown(https) == seen
        load.stop()
        assert not load.wrong, load.wrong[:5]
        assert load.done > 50
    finally:
        process.terminate()
        assert process.wait(40) == 0


def successor(sockets: list[socket.socket], file: pathlib.Path) -> subprocess.Popen:
    """A process that inherits the sockets as systemd would hand them over: from 3 on."""

    def hand_over() -> None:
        # Out of one another's way first.
        high = [os.dup2(one.fileno(), 100 + place) for place, one in enumerate(sockets)]
        for place, number in enumerate(high):
            os.dup2(number, 3 + place)

    # The shell knows its own number and keeps it through exec.
    script = f'export LISTEN_PID=$$ LISTEN_FDS={len(sockets)}; exec "$0" --config "$1"'
    return subprocess.Popen(
        ["bash", "-c", script, str(REPRISE), str(file)], cwd=ROOT,
        pass_fds=range(3, 3 + len(sockets)), preexec_fn=hand_over,
    )


def test_a_rolling_restart_refuses_nobody(two, tmp_path) -> None:
    """Five processes follow one another behind one socket, while clients that open a connection for
    each request ask all the time. The operators' socket is handed over too."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    operators = socket.create_server(("127.0.0.1", 0))
    sockets = [operators, listening]
    port = listening.getsockname()[1]
    ready = f"http://127.0.0.1:{operators.getsockname()[1]}/readyz"
    file = tmp_path / "reprise.toml"
    write(file, two[0].url, f"""
        listen.http = "127.0.0.1:{port}"
        listen.admin = "127.0.0.1:{operators.getsockname()[1]}"
        store.kind = "off"
        log.access = false
        """)
    running = successor(sockets, file)
    limits = httpx2.Limits(max_keepalive_connections=0)
    load = Load(f"http://127.0.0.1:{port}", limits=limits)
    try:
        eventually(lambda: load.done > 20, within=30, what="service")
        for _ in range(4):
            following = successor(sockets, file)
            before = load.done
            eventually(lambda: load.done > before + 20, within=30, what="service")
            running.send_signal(signal.SIGTERM)
            assert running.wait(40) == 0
            running = following
            before = load.done
            eventually(lambda: load.done > before + 20, within=30, what="service")
            assert httpx2.get(ready, trust_env=False, timeout=30).status_code == 200
    finally:
        load.stop()
        running.terminate()
        running.wait(40)
        for one in sockets:
            one.close()
    assert not load.wrong, (len(load.wrong), load.done, load.wrong[:5])
    print(f"{load.done} requests over five processes, none refused, none cut")
