"""Traces, as a collector receives them: one tree a request, in the client's trace, through to the
model server."""

from __future__ import annotations

import concurrent.futures
import re
import secrets
import time

import httpx2
import pytest

import collector
import rig

PATH = "/v1/chat/completions"
INTERNAL, SERVER, CLIENT = 1, 2, 3
ERROR = 2
JOINED = "\nreprise_flight_joined_total 1\n"


@pytest.fixture(params=["grpc", "http"])
def traced(request, sim, start):
    """A proxy that sends every trace, and who receives them."""
    received = collector.Grpc() if request.param == "grpc" else collector.Http()
    settings = {
        "telemetry.otlp_endpoint": received.url,
        "telemetry.protocol": request.param,
        "telemetry.sample": "1.0",
        "telemetry.headers.x-honeycomb-team": "hcaik_secret",
    }
    yield start(sim.url, settings=settings), received
    received.stop()


def context(sampled: bool = True) -> tuple[str, str, str]:
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-{int(sampled):02x}"


def post(proxy, body, **headers) -> httpx2.Response:
    headers = {"authorization": "Bearer sk-traced", **headers}
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        return client.post(PATH, json=body, headers=headers)


def by_name(spans) -> dict[str, collector.Span]:
    return {span.name: span for span in spans}


def test_a_miss_is_one_tree_from_the_client_to_the_upstream(traced, sim, ask):
    proxy, received = traced
    trace, parent, traceparent = context()
    body = ask("Why is the sky blue?", stream=True)
    answer = post(proxy, body, traceparent=traceparent, tracestate="vendor=7")
    assert answer.status_code == 200
    spans = received.tree(trace)
    names = by_name(spans)
    request, upstream = names["POST /v1/chat/completions"], names["chat sim"]
    assert (request.kind, request.parent) == (SERVER, parent)
    assert (upstream.kind, upstream.parent) == (CLIENT, request.id)
    # The model server was told our span of this very trace.
    seen = dict(sim.last_request()["headers"])
    assert seen["traceparent"] == f"00-{trace}-{upstream.id}-01"
    assert seen["tracestate"] == "vendor=7"
    for stage in ["read", "key", "exact", "embed", "search"]:
        assert names[stage].parent == request.id, stage
        assert names[stage].kind == INTERNAL
    for stage in ["queue", "connect", "first", "body"]:
        assert names[stage].parent == upstream.id, stage
    assert all(request.start <= span.start <= span.end <= request.end for span in spans)


def test_stages_sum_to_the_whole(traced, ask):
    """What none claims (deciding, switching tasks) is under 5 %."""
    proxy, received = traced

    def sum_up(number: int) -> None:
        trace, _, traceparent = context()
        post(proxy, ask(f"Why is the sky blue {number}? [[slow:1s]]", stream=True), traceparent=traceparent)
        spans = received.tree(trace)
        whole = next(span.end - span.start for span in spans if span.kind == SERVER)
        claimed = sum(s.end - s.start for s in spans if s.kind not in (SERVER, CLIENT))
        assert abs(whole - claimed) < 0.05 * whole, (claimed, whole)

    rig.at_best(sum_up)


def test_attributes_follow_the_conventions(traced, ask):
    proxy, received = traced
    trace, _, traceparent = context()
    secret = "my card 4929 is lost"
    post(proxy, ask(secret), traceparent=traceparent, **{"x-request-id": "req-17"})
    spans = received.tree(trace)
    request = by_name(spans)["POST /v1/chat/completions"]
    upstream = by_name(spans)["chat sim"]
    for span in (request, upstream):
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.request.model"] == "sim"
        assert span.attributes["gen_ai.provider.name"] == "openai"
        assert span.attributes["gen_ai.usage.input_tokens"] > 0
        assert span.attributes["gen_ai.usage.output_tokens"] > 0
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["url.path"] == PATH
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["reprise.outcome"] == "miss"
    assert request.attributes["reprise.request_id"] == "req-17"
    assert upstream.attributes["server.address"] == "127.0.0.1"
    assert request.resource["service.name"] == "reprise"
    assert received.headers[0]["x-honeycomb-team"] == "hcaik_secret"
    # Neither prompts nor credentials leave by this way.
    assert secret not in repr(spans) and "sk-traced" not in repr(spans)
    assert "hcaik_secret" not in proxy.log.read_text()


def test_a_hit_spares_the_upstream_and_says_so(traced, ask):
    proxy, received = traced
    body = ask("Where is my card?")
    post(proxy, body)
    trace, _, traceparent = context()
    assert post(proxy, body, traceparent=traceparent).headers["x-cache"] == "HIT"
    spans = received.tree(trace)
    assert [span.name for span in spans if span.kind == CLIENT] == []
    request = by_name(spans)["POST /v1/chat/completions"]
    assert request.attributes["reprise.outcome"] == "hit_exact"
    assert request.attributes["reprise.saved_tokens"] > 0
    # The log names the trace.
    rig.eventually(lambda: trace in proxy.log.read_text(), what="the access record")


def test_who_joins_is_linked_to_who_asks(halting, start, ask):
    received = collector.Grpc()
    settings = {"telemetry.otlp_endpoint": received.url, "telemetry.sample": "1.0"}
    proxy = start(halting.url, settings=settings)
    body = ask("Tell me", stream=True)
    contexts = [context() for _ in range(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(post, proxy, body, traceparent=one[2]) for one in contexts]
        try:
            rig.eventually(lambda: JOINED in proxy.admin.get("/metrics").text, what="joining")
        finally:
            halting.go.set()
        assert [one.result().status_code for one in posts] == [200, 200]
    assert halting.asked == 1
    trees = [by_name(received.tree(one[0])) for one in contexts]
    received.stop()
    leader, joined = sorted(trees, key=lambda tree: "chat sim" not in tree)
    request = joined["POST /v1/chat/completions"]
    assert request.attributes["reprise.outcome"] == "collapsed"
    asked = leader["chat sim"]
    assert request.links == [(asked.trace, asked.id)]


def test_failures_and_slowness_are_kept_whatever_the_share(sim, start, ask):
    received = collector.Grpc()
    settings = {
        "telemetry.otlp_endpoint": received.url, "telemetry.sample": "0.0", "telemetry.slow": "2s",
    }
    proxy = start(sim.url, settings=settings)

    def ask_ordinarily(number: int) -> str:
        trace, _, unsampled = context(sampled=False)
        begun = time.monotonic()
        post(proxy, ask(f"an ordinary one {number}"), traceparent=unsampled)
        assert time.monotonic() - begun < 2, "the machine makes it slow"
        return trace

    ordinary = rig.at_best(ask_ordinarily)
    trace, _, traceparent = context(sampled=False)
    answer = post(proxy, ask("Tell me [[fail:500]]"), traceparent=traceparent)
    assert answer.status_code == 500
    spans = received.tree(trace)
    assert by_name(spans)["POST /v1/chat/completions"].attributes["http.response.status_code"] == 500
    assert dict(sim.last_request()["headers"])["traceparent"].endswith("-00")
    trace, _, traceparent = context(sampled=False)
    post(proxy, ask("Tell me slowly [[slow:3s]]"), traceparent=traceparent)
    first = by_name(received.tree(trace))["first"]
    assert first.end - first.start > 2.9e9, "the stage to blame is there"
    proxy.stop()
    assert received.of(ordinary) == [], "not kept, also not at the end"
    received.stop()


def test_a_hit_that_was_wrong_is_kept_when_that_is_known(sim, start, ask):
    received = collector.Grpc()
    settings = {"telemetry.otlp_endpoint": received.url, "telemetry.sample": "0.0"}
    proxy = start(sim.url, settings=settings)
    body = ask("Where is my card?")
    post(proxy, body)
    trace, _, traceparent = context(sampled=False)
    hit = post(proxy, body, traceparent=traceparent)
    assert hit.headers["x-cache"] == "HIT"
    rig.eventually(lambda: proxy.requests()["hit_exact"] == 1, what="the hit's record")
    said = {"entry": hit.headers["x-reprise-entry"], "correct": False}
    proxy.admin.post("/api/v1/feedback", json=said).raise_for_status()
    request = by_name(received.tree(trace))["POST /v1/chat/completions"]
    assert request.attributes["reprise.wrong"] is True
    assert request.attributes["reprise.entry"] == said["entry"]
    received.stop()


def test_a_dead_collector_breaks_nothing_and_is_said_once(sim, start, ask):
    port = rig.free_port()
    settings = {
        "telemetry.otlp_endpoint": f"http://127.0.0.1:{port}",
        "telemetry.sample": "1.0",
        "telemetry.queue": "4",
    }
    proxy = start(sim.url, settings=settings)
    for number in range(20):
        assert post(proxy, ask(f"question {number}")).status_code == 200

    def lost() -> bool:
        text = proxy.admin.get("/metrics").text
        found = dict(re.findall(r'reprise_traces_total\{result="(\w+)"\} (\d+)', text))
        return int(found["failed"]) + int(found["dropped"]) == 20

    rig.eventually(lost, within=40, what="losses are counted")
    rig.eventually(lambda: "traces cannot be sent" in proxy.log.read_text(), what="it is said")
    assert proxy.log.read_text().count("traces cannot be sent") == 1
    received = collector.Grpc(port)
    trace, _, traceparent = context()
    post(proxy, ask("after its return"), traceparent=traceparent)
    rig.eventually(lambda: received.of(trace), within=40, what="the collector gets the next one")
    # Lines are written together, a few milliseconds later.
    rig.eventually(lambda: "the trace collector is back" in proxy.log.read_text(), what="it is said")
    assert proxy.log.read_text().count("the trace collector is back") == 1
    received.stop()


def test_without_a_collector_the_clients_context_passes_untouched(proxy, sim, ask):
    _, _, traceparent = context()
    post(proxy, ask("untouched"), traceparent=traceparent, tracestate="a=b")
    seen = dict(sim.last_request()["headers"])
    assert (seen["traceparent"], seen["tracestate"]) == (traceparent, "a=b")


def test_metrics_lead_to_traces(traced, ask):
    proxy, received = traced
    trace, _, traceparent = context()
    post(proxy, ask("exemplary"), traceparent=traceparent)
    received.tree(trace)
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = proxy.admin.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert re.search(rf'reprise_stage_seconds_bucket\{{stage="total".* # \{{trace_id="{trace}"', answer.text)
