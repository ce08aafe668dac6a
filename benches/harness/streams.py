"""Streamed answers: what a proxy adds to the first token and between tokens."""

import json
import pathlib
import subprocess

from systems import PEERS, ROOT, wait

ORIGIN, NGINX, PROXY, ADMIN = 9340, 9341, 9342, 9343
SYSTEMS = [("direct to the origin", ORIGIN), ("nginx proxy_pass", NGINX), ("Reprise, miss", PROXY)]
LOADS = [("1 stream", 1, 8), ("200 streams", 200, 600)]  # name, concurrent streams, streams in all


def measure(running):
    running.start("simulated", "target/release/examples/simulated", "--listen", f"127.0.0.1:{ORIGIN}",
                  "--first-token", "20ms", "--token-rate", "100", "--tokens", "100")
    wait(f"http://127.0.0.1:{ORIGIN}/v1/models")
    running.start("nginx-streams", "nginx", "-p", running.work, "-c", PEERS / "nginx-streams.conf")
    proxy = running.reprise("reprise-streams", f"http://127.0.0.1:{ORIGIN}", PROXY, ADMIN)
    wait(f"http://127.0.0.1:{NGINX}/v1/models")
    results = {}
    for load, at_once, total in LOADS:
        for name, port in SYSTEMS:
            results.setdefault(load, {})[name] = hear(port, at_once, total)
    before = rss(proxy.pid)
    results["5,000 streams"] = {"Reprise, miss": hear(PROXY, 5000, 5000, during=lambda: rss(proxy.pid))}
    peak = results["5,000 streams"]["Reprise, miss"].pop("during")
    results["5,000 streams"]["Reprise, miss"]["kib_per_stream"] = (peak - before) / 5000
    return results


def hear(port, at_once, total, during=None):
    program = max((ROOT / "target/release/deps").glob("streams-*[!.d]"), key=lambda path: path.stat().st_mtime)
    child = subprocess.Popen([program, f"http://127.0.0.1:{port}", str(at_once), str(total)],
                             stdout=subprocess.PIPE, text=True)
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
