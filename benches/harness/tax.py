"""The tax of a miss: what it costs that a question was looked for in vain. One caller, a model that needs 20 ms."""

import http.client
import json
import statistics
import sys
import time
import urllib.request

import systems

ORIGIN, PROXY, ADMIN, EAGER, EAGER_ADMIN = 9360, 9361, 9362, 9363, 9364
SYSTEMS = [  # name, port, headers
    ("direct to the origin", ORIGIN, {}),
    ("Reprise, pass-through", PROXY, {"x-reprise-mode": "off"}),
    ("Reprise, miss", PROXY, {}),
    ("Reprise, miss, speculate", EAGER, {}),  # the call begins beside the lookup
]
CALLS, FIRST, ROUNDS = 60, 5, 5  # the first ones open connections, and nothing is known of their tenant
PAUSE = 0.05  # s between calls: one caller who reads


def measure(running):
    running.start("simulated-tax", "target/release/examples/simulated", "--listen", f"127.0.0.1:{ORIGIN}",
                  "--first-token", "20ms", "--token-rate", "0", "--tokens", "8")
    url = f"http://127.0.0.1:{ORIGIN}"
    systems.wait(f"{url}/v1/models")
    running.reprise("reprise-tax", url, PROXY, ADMIN)
    eager = running.work / "eager.toml"
    eager.write_text(f'[[upstream]]\nname = "eager"\nurls = ["{url}"]\nspeculate = 1.0\n', encoding="utf-8")
    running.reprise("reprise-eager", eager, EAGER, EAGER_ADMIN)
    heard = {name: {"us": [], "embed": []} for name, *_ in SYSTEMS}
    for turn in range(ROUNDS):
        for name, port, headers in SYSTEMS:
            # A mean: the origin's timer counts whole milliseconds, so that single times tell little.
            for kind, spans in ask(port, headers, f"{turn} of {time.time_ns()}").items():
                if spans:
                    heard[name][kind].append(statistics.fmean(spans))
    begun = speculated(EAGER_ADMIN)
    if begun < 0.9 * ROUNDS * CALLS:
        sys.exit(f"scripts/bench: only {begun:.0f} calls began ahead")
    return heard


def ask(port, headers, run):
    """Microseconds to the head of each answer, and of its embedding as `Server-Timing` tells it."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json", "authorization": "Bearer tax", **headers}
    heard = {"us": [], "embed": []}
    for call in range(CALLS):
        prompt = f"How far is place {call} from home on day {run}?"
        body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": prompt}]})
        begun = time.perf_counter()
        client.request("POST", systems.PATH, body, headers)
        answer = client.getresponse()
        took = (time.perf_counter() - begun) * 1e6
        answer.read()
        if answer.status != 200 or answer.getheader("x-cache") == "HIT":
            sys.exit(f"scripts/bench: {answer.status} {answer.getheader('cache-status')} instead of a miss")
        if call >= FIRST:
            heard["us"].append(took)
            stages = dict(part.split(";dur=") for part in answer.getheader("server-timing", "").split(", ") if part)
            if "embed" in stages:
                heard["embed"].append(float(stages["embed"]) * 1000)
        time.sleep(PAUSE)
    return heard


def speculated(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    name = "reprise_upstream_speculated_total{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
