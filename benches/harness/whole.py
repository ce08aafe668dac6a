"""Whole answers, 32 connections for throughput and 1 for latency."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from systems import (
    ADMIN, FLOOR, FORGETFUL, FORGETFUL_ADMIN, LOAD, ORIGIN, PATH, PORTKEY, PROXY, ROOT, TLS, ask, need)

QUESTION, REWORDED = "What is the capital of France?", "What is the capital city of France?"
SEMANTIC = "Reprise, semantic hit"
CASES = [  # name, URL, CASE of request.lua
    ("direct to the origin", f"http://127.0.0.1:{ORIGIN}", "exact"),
    ("nginx return 200", "http://127.0.0.1:9303", "exact"),
    ("nginx proxy_pass", "http://127.0.0.1:9302", "exact"),
    ("hyper alone", f"http://127.0.0.1:{FLOOR}", "exact"),
    ("Reprise, pass-through", f"http://127.0.0.1:{PROXY}", "off"),
    ("Reprise, miss", f"http://127.0.0.1:{PROXY}", "miss"),
    ("Reprise, exact hit", f"http://127.0.0.1:{PROXY}", "exact"),
    (SEMANTIC, f"http://127.0.0.1:{FORGETFUL}", "semantic"),
    ("Reprise, semantic hit, vector remembered", f"http://127.0.0.1:{PROXY}", "semantic"),
]
ADMINS = {f":{PROXY}": ADMIN, f":{FORGETFUL}": FORGETFUL_ADMIN}
HALF_CASES = ["nginx return 200", "nginx proxy_pass", "Reprise, exact hit"]
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
    need("h2load", "nghttp2-client")
    running.nginx()
    running.floor()
    # An audited hit is stored under its own words too: the next would be exact.
    same = {"REPRISE__CACHE__MAX_BYTES": "64MiB", "REPRISE__CACHE__SEMANTIC__AUDIT": "0"}
    running.reprise("reprise", f"http://127.0.0.1:{ORIGIN}", PROXY, ADMIN, **same,
                    REPRISE__LISTEN__HTTPS=f"127.0.0.1:{TLS}", REPRISE__TLS__SELF_SIGNED="true")
    running.reprise("forgetful", f"http://127.0.0.1:{ORIGIN}", FORGETFUL, FORGETFUL_ADMIN, **same,
                    REPRISE__CACHE__SEMANTIC__VECTORS_BYTES="0B")
    if options.peers:
        running.peers()
        ask(9304, QUESTION), ask(9320, QUESTION), ask(9330, QUESTION, PORTKEY)
    for port in (PROXY, FORGETFUL):
        warm(port)
    cases = CASES + (PEER_CASES if options.peers else [])
    results = {name: {"rate": [], "p50": [], "p99": []} for name, *_ in cases}
    budget, alone = {}, {}
    for _ in range(options.rounds):
        running.settle()
        embedding_alone(alone)
        for name, url, case in cases:
            result = results[name]
            headers = PORTKEY if "Portkey" in name else {}
            running.settle()
            admin = next((admin for port, admin in ADMINS.items() if url.endswith(port)), None)
            before = stages(admin) if admin else None
            _, p50, p99 = wrk(url, case, 1, options.seconds, headers)
            result["p50"].append(p50)
            result["p99"].append(p99)
            if admin:
                budget[name] = mean_stages(before, stages(admin))
            result["rate"].append(wrk(url, case, 32, options.seconds, headers)[0])
        if options.peers:
            for name, url in H2_CASES:
                rate = h2load(url, options.seconds, running.work, "-c4", "-m8")
                results.setdefault(name, {"rate": []})["rate"].append(rate)
    return {"cases": results, "budget_us": budget, "embedding_us": alone}


def half_load(running, results, options):
    """Latency under half of what the exact hit reached. h2load asks for what is due each 10 ms at once, and times from
    the sending: these are bursts, the same for all."""
    most = {name: statistics.median(one["rate"]) for name, one in results["cases"].items()}
    rate = round(most["Reprise, exact hit"] / 2)
    half = {"rate": rate, "cases": {}}
    running.settle()
    for _ in range(options.rounds):
        for name in HALF_CASES:
            url = next(url for case, url, _ in CASES if case == name)
            log = running.work / "half.log"
            log.unlink(missing_ok=True)
            reached = h2load(url, options.seconds, running.work, "--h1", "-c32", f"--rps={rate / 32:.0f}", f"--log-file={log}")
            answers = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
            if any(status != "200" for _, status, _ in answers):
                sys.exit(f"scripts/bench: failed requests at {name}")
            spans = sorted(int(span) for _, _, span in answers)
            one = half["cases"].setdefault(name, {"p50": [], "p99": [], "reached": [], "share": rate / most[name]})
            one["reached"].append(reached)
            one["p50"].append(spans[len(spans) // 2])
            one["p99"].append(spans[len(spans) * 99 // 100])
    return half


def warm(port):
    """Stores the answer and waits until another wording of its question is a hit. That one is asked of the cache alone: a
    miss would be stored too, and be an exact hit from then on."""
    ask(port, QUESTION)
    for _ in range(100):
        try:
            if ask(port, REWORDED, {"cache-control": "only-if-cached"}).get("x-reprise-similarity"):
                return
        except urllib.error.HTTPError as missed:
            if missed.code != 504:
                raise
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


def h2load(url, seconds, work, *load):
    """Requests a second under this load."""
    body = work / "body.json"
    body.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": QUESTION}]},
                               separators=(",", ":")))
    told = subprocess.run(
        ["h2load", *load, "-t1", f"-D{seconds}", f"-d{body}", "-H", "content-type: application/json",
         "-H", "authorization: Bearer bench", url + PATH],
        capture_output=True, text=True, check=True).stdout
    return float(re.search(r"([\d.]+) req/s", told).group(1))


def stages(admin):
    """Sum and count of each stage from the proxy's own histograms."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
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


def embedding_alone(into):
    """Adds microseconds of the bare embedding: {tokens: {"p50": [...], "p99": [...]}}."""
    told = subprocess.run(
        ["cargo", "bench", "--locked", "--quiet", "--bench", "embedding"],
        cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        tokens, p50, p99 = line.split()
        one = into.setdefault(tokens, {"p50": [], "p99": []})
        one["p50"].append(int(p50))
        one["p99"].append(int(p99))
