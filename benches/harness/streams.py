"""Streamed answers: what a proxy adds to the first token and between tokens."""

import json
import pathlib
import subprocess

from systems import PEERS, ROOT, wait

ORIGIN, NGINX, PROXY, ADMIN = 9340, 9341, 9342, 9343
MISS = "Reprise, miss"
SYSTEMS = [  # name, port, headers
    ("direct to the origin", ORIGIN, []),
    ("nginx proxy_pass", NGINX, []),
    ("Reprise, pass-through", PROXY, ["x-reprise-mode:off"]),
    (MISS, PROXY, []),
]
RAMP = 1200  # ms in which the first streams begin: about as long as one takes
LOADS = [("1 stream", 1, 16, 0), ("200 streams", 200, 1200, RAMP)]  # name, streams at once, in all, ramp


def measure(running):
    running.start("simulated", "target/release/examples/simulated", "--listen", f"127.0.0.1:{ORIGIN}",
                  "--first-token", "20ms", "--token-rate", "100", "--tokens", "100")
    wait(f"http://127.0.0.1:{ORIGIN}/v1/models")
    running.start("nginx-streams", "nginx", "-p", running.work, "-c", PEERS / "nginx-streams.conf")
    proxy = running.reprise("reprise-streams", f"http://127.0.0.1:{ORIGIN}", PROXY, ADMIN, REPRISE__LIMITS__REQUESTS="8192")
    wait(f"http://127.0.0.1:{NGINX}/v1/models")
    results = {}
    for load, at_once, total, ramp in LOADS:
        for name, port, headers in SYSTEMS:
            results.setdefault(load, {})[name] = hear(port, at_once, total, ramp, headers)
    before = rss(proxy.pid)
    many = hear(PROXY, 5000, 5000, 0, during=lambda: rss(proxy.pid))
    many["kib_per_stream"] = (many.pop("during") - before) / 5000
    results["5,000 streams"] = {MISS: many}
    return results


def hear(port, at_once, total, ramp, headers=(), during=None):
    child = subprocess.Popen(
        ["cargo", "bench", "--locked", "--quiet", "--bench", "streams", "--",
         f"http://127.0.0.1:{port}", str(at_once), str(total), str(ramp), *headers],
        cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak = 0
    while during:
        peak = max(peak, during())
        try:
            child.wait(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            pass
    result = json.loads(child.communicate()[0])
    return result | ({"during": peak} if during else {})


def rss(pid):
    """Resident memory in KiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
