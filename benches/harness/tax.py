"""The tax of a miss: what it costs that a question was looked for in vain. One caller, a model that needs 20 ms."""

import http.client
import json
import statistics
import time

import systems

ORIGIN, PROXY, ADMIN, EAGER, EAGER_ADMIN = 9350, 9351, 9352, 9353, 9354
SYSTEMS = [  # name, port, headers
    ("direct to the origin", ORIGIN, {}),
    ("Reprise, pass-through", PROXY, {"x-reprise-mode": "off"}),
    ("Reprise, miss", PROXY, {}),
    ("Reprise, miss, speculate", EAGER, {}),  # the call begins beside the lookup
]
CALLS, ROUNDS = 60, 5
PAUSE = 0.02  # s between calls: what a miss leaves to be done afterwards is done by then


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
            ask(port, headers, f"{turn} of {time.time_ns()}", heard[name])
    # A mean: the origin's timer counts whole milliseconds, so that single times tell little.
    return {name: {kind: statistics.fmean(spans) for kind, spans in one.items() if spans}
            for name, one in heard.items()}


def ask(port, headers, run, into):
    """Adds microseconds to the head of each answer, and of its embedding as `Server-Timing` tells it."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json", "authorization": "Bearer tax", **headers}
    for call in range(CALLS):
        prompt = f"How far is place {call} from home on day {run}?"
        body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": prompt}]})
        begun = time.perf_counter()
        client.request("POST", systems.PATH, body, headers)
        answer = client.getresponse()
        took = (time.perf_counter() - begun) * 1e6
        answer.read()
        if call >= 5:  # the first ones open connections, and nothing is known of their tenant
            into["us"].append(took)
            stages = dict(part.split(";dur=") for part in answer.getheader("server-timing", "").split(", ") if part)
            if "embed" in stages:
                into["embed"].append(float(stages["embed"]) * 1000)
        time.sleep(PAUSE)
