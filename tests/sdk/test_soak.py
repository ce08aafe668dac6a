"""Certificates exchanged and the configuration reloaded every two seconds, under load, while clients
leave and upstream answers break off. REPRISE_SOAK_S says for how long (in `make test`: shortly),
REPRISE_SOAK_STORE=embedded that questions are embedded and answers stored too, REPRISE_SOAK_RPS how many
exact hits a second h2load (Debian: nghttp2-client) asks for beside it; the figures of long runs are in
docs/transport.md."""

from __future__ import annotations

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import httpx2
import pytest
from rig import Reprise, Simulated, eventually
from test_reload import PATH, certificate, metric

SECONDS = float(os.environ.get("REPRISE_SOAK_S", "10"))
#: Clients beside one another; each has its own pause, because one that never pauses is peak load.
CLIENTS = int(os.environ.get("REPRISE_SOAK_CLIENTS", "6"))
PAUSE = float(os.environ.get("REPRISE_SOAK_PAUSE_S", "0.01"))
STORE = os.environ.get("REPRISE_SOAK_STORE", "off")
RPS = int(os.environ.get("REPRISE_SOAK_RPS", "0"))
CONNECTIONS = 16
#: Where answers are compared, as many more as the embedder's queue holds wait for their turn.
TASKS = 200 if STORE == "off" else 200 + 256
#: The collector of a test run keeps every span, and that of 20,000 requests a second is no test run.
UNTRACED = 'telemetry.otlp_endpoint = ""'
#: So many that a long run fills it early: what grows after that has no reason to.
TENANT_ENTRIES = 5000
STAMP = re.compile(r"\[sim:([0-9a-f]{16})\]")


class Crowd:
    """5 % of the requests are left half-way, the answers of 1 % are cut by the model server."""

    def __init__(self, proxy: Reprise) -> None:
        self.proxy = proxy
        self.asked, self.left, self.cut, self.hits = 0, 0, 0, 0
        self.wrong: list[object] = []
        #: Whose answer carries which stamp: no two questions share one.
        self.stamps: dict[str, str] = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, number: int) -> None:
        dice = random.Random(number)
        while not self.stopping.is_set():
            # A new connection every forty requests: it sees the certificate of the moment.
            secure, http2 = number % 3 > 0, number % 3 > 1
            url = self.proxy.https_url if secure else self.proxy.url
            options = {"verify": False, "trust_env": False, "timeout": 60, "http2": http2}
            try:
                with httpx2.Client(base_url=url, **options) as client:
                    for _ in range(40):
                        if self.stopping.is_set():
                            return
                        self.turn(client, dice, number)
                        time.sleep(PAUSE * 2 * dice.random())
            except httpx2.HTTPError as error:
                self.wrong.append(repr(error))

    def turn(self, client: httpx2.Client, dice: random.Random, number: int) -> None:
        text = f"client {number} asks about {dice.random()}"
        kind = dice.random()
        if kind < 0.01:
            self.broken(client, text)
        elif kind < 0.06:
            with client.stream("POST", PATH, json=body(text, stream=True)) as answer:
                next(answer.iter_raw(), None)
            self.count("left")
        else:
            for stream in (dice.random() < 0.5, dice.random() < 0.5):
                self.whole(client, text, stream)
        self.count("asked")

    def broken(self, client: httpx2.Client, text: str) -> None:
        """Its end is missing, and that is all that is wrong with it."""
        try:
            answer = client.post(PATH, json=body(text + " [[cut:3]]", stream=True))
            assert not answer.text.endswith("[DONE]\n\n"), "a cut answer looks whole"
        except httpx2.RemoteProtocolError:
            pass
        self.count("cut")

    def whole(self, client: httpx2.Client, text: str, stream: bool) -> None:
        answer = client.post(PATH, json=body(text, stream))
        ended = answer.text.endswith("data: [DONE]\n\n") or not stream
        stamp = STAMP.search(answer.text)
        if answer.status_code != 200 or not ended or not stamp:
            self.wrong.append((answer.status_code, answer.text[-300:]))
            return
        with self.lock:
            self.hits += answer.headers["x-cache"] == "HIT"
            known = self.stamps.setdefault(stamp[1], text)
        if known != text:
            self.wrong.append((text, "got the answer of", known))

    def count(self, what: str) -> None:
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def body(text: str, stream: bool) -> dict:
    messages = [{"role": "user", "content": text}]
    return {"model": "sim", "messages": messages, **({"stream": True} if stream else {})}


def pressure(proxy: Reprise, folder: pathlib.Path) -> subprocess.Popen[str] | None:
    """Asks one stored question again and again until the end."""
    if not RPS:
        return None
    if not shutil.which("h2load"):
        pytest.fail("h2load is missing: apt-get install nghttp2-client")
    question = body("What is the capital of France?", stream=False)
    assert httpx2.post(proxy.url + PATH, json=question, trust_env=False).status_code == 200
    file = folder / "question.json"
    file.write_text(json.dumps(question))
    return subprocess.Popen(
        ["h2load", "--h1", f"-c{CONNECTIONS}", "-t1", f"-D{SECONDS:.0f}", f"--rps={max(1, RPS // CONNECTIONS)}", f"-d{file}",
         "-H", "content-type: application/json", proxy.url + PATH], stdout=subprocess.PIPE, text=True)


def totals(proxy: Reprise) -> dict[float, float]:
    """How many requests took at most so many seconds, from connection to end."""
    counts: dict[float, float] = {}
    for line in proxy.admin.get("/metrics").text.splitlines():
        if found := re.match(r'reprise_stage_seconds_bucket{stage="total",le="([^"]+)"} (\d+)', line):
            counts[float(found[1].replace("+Inf", "inf"))] = float(found[2])
    return counts


def p99(before: dict[float, float], after: dict[float, float]) -> float:
    """Milliseconds: the bound of the bucket that it lies in."""
    asked = {bound: after[bound] - before.get(bound, 0) for bound in after}
    return 1000 * min((bound for bound in asked if asked[bound] >= 0.99 * asked[float("inf")]), default=0)


def gauges(proxy: Reprise) -> tuple[float, ...]:
    names = ["process_resident_memory_bytes", "process_open_fds", "process_threads", "reprise_tasks"]
    return tuple(metric(proxy, name) for name in names)


@pytest.mark.timeout(SECONDS * 3 + 120)
def test_certificates_and_settings_change_all_the_time(start, tmp_path: pathlib.Path) -> None:
    for name in ["a", "b"]:
        certificate(tmp_path, name)
    show(tmp_path, "a")
    model = Simulated("--first-token", "5ms", "--token-rate", "0", "--tokens", "24")
    config = f"""
        tls.cert = "{tmp_path}/tls.pem"
        tls.key = "{tmp_path}/tls.key"
        store.kind = "{STORE}"
        store.path = "{tmp_path}/store"
        store.tenant_entries = {TENANT_ENTRIES}
        cache.max_bytes = "16MiB"
        log.access = false
        {UNTRACED if RPS else ""}
        cache.ttl = "TTL"
        [[upstream]]
        name = "sim"
        urls = ["{model.url}"]
        """
    proxy: Reprise = start("", config=config.replace("TTL", "1h"), self_signed=False)
    file = proxy.folder / "reprise.toml"
    seen, slowest, told = [], [], totals(proxy)
    asks = pressure(proxy, tmp_path)
    crowd = Crowd(proxy)
    try:
        begun = time.monotonic()
        turn = 0
        reloads = lambda: metric(proxy, 'reprise_config_reloads_total{result="applied"}')
        while time.monotonic() - begun < SECONDS:
            turn += 1
            show(tmp_path, "ab"[turn % 2])
            file.write_text(config.replace("TTL", f"{1 + turn % 5}h"))
            proxy.process.send_signal(signal.SIGHUP)
            eventually(lambda: reloads() == turn, what="the reload")
            time.sleep(2)
            seen.append(gauges(proxy))
            if time.monotonic() - begun > (len(slowest) + 1) * SECONDS / 12:
                before, told = told, totals(proxy)
                slowest.append(p99(before, told))
    except BaseException:
        if asks:
            asks.kill()
            asks.wait()
        raise
    finally:
        crowd.stop()
    hits = asks.communicate()[0] if asks else ""
    exact = proxy.requests()["hit_exact"]
    applied = reloads()
    exchanged = metric(proxy, 'reprise_tls_reloads_total{result="applied"}')
    running = eventually(lambda: metric(proxy, "reprise_flight_running") == 0, what="no flight")
    middle = seen[len(seen) // 2:] or seen
    print(f"\n{crowd.asked} turns in {SECONDS:.0f} s, {crowd.hits} hits, {crowd.left} left, "
          f"{crowd.cut} cut; {applied:.0f} reloads, {exchanged:.0f} exchanged certificates")
    for name, at in [("MiB", 0), ("fds", 1), ("threads", 2), ("tasks", 3)]:
        unit = 2**20 if at == 0 else 1
        print(name, [round(one[at] / unit) for one in seen[:: max(1, len(seen) // 12)]])
    print("p99 ms, at most (told, not judged)", slowest)
    print("\n".join(line for line in hits.splitlines() if line.startswith(("finished", "requests", "status"))))
    model.stop()
    assert running
    assert not asks or ", 0 failed, 0 errored, 0 timeout" in hits, hits
    assert exact > 0.9 * RPS * SECONDS and min(slowest, default=0) > 0
    assert not crowd.wrong, (len(crowd.wrong), crowd.wrong[:5])
    assert crowd.asked > 10 * SECONDS and crowd.left > 0
    assert applied == turn and exchanged >= 1
    assert max(one[1] for one in middle) < 200, "file descriptors"
    assert max(one[3] for one in middle) < TASKS, "tasks"
    # Two pieces of work that block at once have a thread more than one has.
    assert max(one[2] for one in middle) <= min(one[2] for one in middle) + 1, "threads"


def show(folder: pathlib.Path, name: str) -> None:
    """Puts this certificate and key where the proxy looks."""
    for kind in ["pem", "key"]:
        (folder / f"tls.{kind}").write_bytes((folder / f"{name}.{kind}").read_bytes())
