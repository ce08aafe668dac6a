"""A real Prometheus scrapes a real Reprise.

usage: prometheus.py REPRISE SIMULATED

Holds: promtool finds nothing to say against the metrics, the rules and the configuration; each
expression of the Grafana dashboard and of the alerts returns data under traffic of all kinds; each
alert fires where it should (alerts.yml) and none without need.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from servers import ROOT, Servers, free_port, wait

CONFIG = ROOT / "config"
ALERTS = pathlib.Path(__file__).with_name("alerts.yml")
# Seconds of traffic: rates over Grafana's shortest interval (four scrapes) need some.
TRAFFIC = 20


class Prometheus:
    """Scrapes each second, with the repository's own rules."""

    def __init__(self, target):
        self.folder = tempfile.TemporaryDirectory()
        self.address = f"127.0.0.1:{free_port()}"
        text = (CONFIG / "prometheus.yml").read_text()
        text = text.replace("127.0.0.1:9090", target).replace("10s", "1s")
        (pathlib.Path(self.folder.name) / "prometheus.yml").write_text(text)
        rules = (CONFIG / "alerts.yml").read_text()
        (pathlib.Path(self.folder.name) / "alerts.yml").write_text(rules)
        self.process = subprocess.Popen(
            [
                "prometheus",
                "--enable-feature=exemplar-storage",
                f"--config.file={self.folder.name}/prometheus.yml",
                f"--storage.tsdb.path={self.folder.name}/data",
                f"--web.listen-address={self.address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def query(self, expression):
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/query?{query}") as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is still starting
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except OSError:
            return []

    def exemplars(self, expression):
        now = time.time()
        query = urllib.parse.urlencode({"query": expression, "start": now - 600, "end": now})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query_exemplars?{query}") as answer:
            return json.load(answer)["data"]

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.folder.cleanup()


def promtool(*arguments, text=None):
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def traffic(servers):
    """Hits, misses, a bypass, a semantic hit, a request that joins another, an error."""
    deadline = time.monotonic() + TRAFFIC
    turn = 0
    while time.monotonic() < deadline:
        turn += 1
        joined = threading.Thread(target=servers.ask, args=(f"Joined question {turn}",))
        joined.start()
        servers.ask(f"Joined question {turn}")
        joined.join()
        servers.ask("How do I reset my password?")
        servers.ask("How can I reset my password?", **{"x-reprise-namespace": str(turn // 4)})
        servers.ask("Not to be kept", **{"cache-control": "no-store"})
        servers.ask(f"Streamed {turn}", stream=True)
        try:
            servers.ask("Not there", **{"cache-control": "only-if-cached"})
        except urllib.error.HTTPError:
            pass


def grafana():
    dashboard = json.loads((CONFIG / "grafana/reprise.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "10s")
            expression = expression.replace("$__range", "1m")
            yield panel["title"], re.sub(r"\$(instance|route)", ".*", expression)


def alerts():
    """Each rule's expression without its thresholds, over a short time."""
    rules = json.loads(promtool_rules())
    for rule in (rule for group in rules["data"]["groups"] for rule in group["rules"]):
        expression = re.sub(r"\[\d+[mh]\]", "[20s]", rule["query"])
        yield rule["name"], re.sub(r"\s*(==|>)\s*[\d.]+(?= and |$)", "", expression), rule


def state(name):
    groups = json.loads(promtool_rules())["data"]["groups"]
    found = [rule for group in groups for rule in group["rules"] if rule["name"] == name]
    return found[0].get("state", "inactive")


def promtool_rules():
    with urllib.request.urlopen(f"http://{prometheus.address}/api/v1/rules") as answer:
        return answer.read().decode()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("reprise")
    arguments.add_argument("simulated")
    given = arguments.parse_args()
    promtool("check", "rules", str(CONFIG / "alerts.yml"))
    promtool("check", "config", str(CONFIG / "prometheus.yml"))
    promtool("test", "rules", str(ALERTS))
    named = re.findall(r"alert: (\w+)", (CONFIG / "alerts.yml").read_text())
    assert sorted(named) == sorted(re.findall(r'alertname="(\w+)"', ALERTS.read_text())), named
    servers = Servers(given.reprise, given.simulated)
    global prometheus
    prometheus = Prometheus(servers.admin)
    try:
        up = lambda: any(one["value"][1] == "1" for one in prometheus.query("up"))
        wait("Prometheus scrapes", up, 30)
        traffic(servers)
        said = promtool("check", "metrics", text=servers.get("/metrics"))
        assert not said, said
        for title, expression in grafana():
            found = prometheus.query(expression)
            assert found, f"{title}: no data for {expression}"
            numbers = [float(one["value"][1]) for one in found]
            assert any(number == number for number in numbers), f"{title}: only NaN"
        for name, expression, rule in alerts():
            assert prometheus.query(expression), f"{name}: no data for {expression}"
            assert rule["health"] == "ok", rule
            # A scrape that failed while the machine stood still makes one pending for a moment.
            wait(f"{name} is not inactive", lambda: state(name) == "inactive", 60)
        found = prometheus.exemplars('reprise_stage_seconds_bucket{stage="total"}')
        traces = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
        assert traces and all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces), found
    finally:
        prometheus.close()
        servers.close()
    print("Prometheus, Grafana and alerts hold")


main()
