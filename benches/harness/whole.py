"""Whole answers, 32 connections for throughput and 1 for latency."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

from systems import ADMIN, LOAD, ORIGIN, PATH, PORTKEY, PROXY, ROOT, TLS, ask, need

QUESTION, REWORDED = "What is the capital of France?", "What is the capital city of France?"
CASES = [  # name, URL, CASE of request.lua
    ("direct to the origin", f"http://127.0.0.1:{ORIGIN}", "exact"),
    ("nginx return 200", "http://127.0.0.1:9303", "exact"),
    ("nginx proxy_pass", "http://127.0.0.1:9302", "exact"),
    ("Reprise, pass-through", f"http://127.0.0.1:{PROXY}", "off"),
    ("Reprise, miss", f"http://127.0.0.1:{PROXY}", "miss"),
    ("Reprise, exact hit", f"http://127.0.0.1:{PROXY}", "exact"),
    ("Reprise, semantic hit", f"http://127.0.0.1:{PROXY}", "semantic"),
]
PEER_CASES = [
    ("nginx proxy_cache hit", "http://127.0.0.1:9304", "exact"),
    ("haproxy", "http://127.0.0.1:9305", "exact"),
    ("varnish, pass", "http://127.0.0.1:9306", "exact"),
    ("LiteLLM, cached hit", "http://127.0.0.1:9320", "exact"),
    ("Portkey gateway", "http://127.0.0.1:9330", "exact"),
    ("Reprise, exact hit, TLS", f"https://127.0.0.1:{TLS}", "exact"),
]
H2_CASES = [
    ("Reprise, exact hit, h2 in clear", f"http://127.0.0.1:{PROXY}"),
    ("Reprise, exact hit, h2 over TLS", f"https://127.0.0.1:{TLS}"),
]


def measure(running, options):
    need("nginx", "nginx-light")
    need("wrk", "wrk")
    running.nginx()
    running.reprise("reprise", f"http://127.0.0.1:{ORIGIN}", PROXY, ADMIN,
                    REPRISE__CACHE__MAX_BYTES="64MiB", REPRISE__LISTEN__HTTPS=f"127.0.0.1:{TLS}",
                    REPRISE__TLS__SELF_SIGNED="true",
                    # An audited hit is stored under its own words too: the next would be exact.
                    REPRISE__CACHE__SEMANTIC__AUDIT="0")
    if options.peers:
        running.peers()
        ask(9304, QUESTION), ask(9320, QUESTION), ask(9330, QUESTION, PORTKEY)
    warm()
    cases = CASES + (PEER_CASES if options.peers else [])
    results = {name: {"rate": [], "p50": [], "p99": []} for name, *_ in cases}
    budget = {}
    for _ in range(options.rounds):
        for name, url, case in cases:
            result = results[name]
            headers = PORTKEY if "Portkey" in name else {}
            result["rate"].append(wrk(url, case, 32, options.seconds, headers)[0])
            before = stages() if url.endswith(str(PROXY)) else None
            _, p50, p99 = wrk(url, case, 1, options.seconds, headers)
            result["p50"].append(p50)
            result["p99"].append(p99)
            if before:
                budget[name] = mean_stages(before, stages())
        if options.peers:
            for name, url in H2_CASES:
                results.setdefault(name, {"rate": []})["rate"].append(h2load(url, options.seconds, running.work))
    return {"cases": results, "budget_us": budget}


def warm():
    """Stores the answer and waits until another wording of its question is a hit."""
    ask(PROXY, QUESTION)
    for _ in range(100):
        if ask(PROXY, REWORDED).get("x-reprise-similarity"):
            return
        time.sleep(0.05)
    sys.exit("scripts/bench: the paraphrase is no semantic hit: is assets/ complete?")


def wrk(url, case, connections, seconds, headers):
    told = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", LOAD / "request.lua", url],
        env={**os.environ, "CASE": case, "HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items())},
        capture_output=True, text=True, check=True).stdout
    fields = next(line for line in told.splitlines() if line.startswith("RESULT")).split()
    rate, p50, p99, bad = (int(field) for field in fields[1:])
    if bad:
        sys.exit(f"scripts/bench: {bad} failed requests at {url} ({case})")
    return rate, p50, p99


def h2load(url, seconds, work):
    """Requests a second of 4 connections with 8 streams each."""
    body = work / "body.json"
    body.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": QUESTION}]},
                               separators=(",", ":")))
    told = subprocess.run(
        ["h2load", "-c4", "-m8", "-t1", f"-D{seconds}", f"-d{body}", "-H", "content-type: application/json",
         "-H", "authorization: Bearer bench", url + PATH],
        capture_output=True, text=True, check=True).stdout
    return float(re.search(r"([\d.]+) req/s", told).group(1))


def stages():
    """Sum and count of each stage from the proxy's own histograms."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    sums, counts = {}, {}
    for line in text.splitlines():
        for name, into in (("reprise_stage_seconds_sum", sums), ("reprise_stage_seconds_count", counts)):
            if line.startswith(name):
                stage = line.split('stage="')[1].split('"')[0]
                into[stage] = into.get(stage, 0) + float(line.rsplit(" ", 1)[1])
    return sums, counts


def mean_stages(before, after):
    return {
        stage: (after[0][stage] - before[0].get(stage, 0)) / (count - before[1].get(stage, 0)) * 1e6
        for stage, count in after[1].items() if count > before[1].get(stage, 0)}


def embedding_alone():
    """Microseconds of the bare embedding by tokens: {tokens: (p50, p99)}."""
    told = subprocess.run(
        ["cargo", "bench", "--locked", "--quiet", "--bench", "embedding"],
        cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = (line.split() for line in told.splitlines())
    return {tokens: (int(p50), int(p99)) for tokens, p50, p99 in lines}
