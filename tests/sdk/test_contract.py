"""What a request can say to the cache, and what a response says about it."""

import json
import re
import secrets

import blake3
import httpx2
import pytest

import contract
import rig
from conftest import Cached, Way
from test_parity import PARAPHRASE, QUESTION

PATH = "/v1/chat/completions"


@pytest.fixture
def key() -> str:
    """A credential of the test's own: here would-be hits are forwarded on a request's own terms, and
    the simulated answers to two wordings are now and then judged different. What that teaches, up to
    serving exact repeats only, must not reach other tests."""
    return f"sk-{secrets.token_hex(8)}"


@pytest.fixture
def cached(via: Way, key: str) -> Cached:
    return Cached(via, key)


@pytest.fixture
def send(via: Way, key: str):
    """Posts a chat request with headers."""
    with via.raw() as raw:
        def send(body: dict, **headers: str) -> httpx2.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return raw.post(PATH, json=body, headers={"authorization": f"Bearer {key}", **named})

        yield send


def test_a_miss_says_so_and_names_its_entry(send, cached: Cached, proxy, ask):
    response = send(ask(QUESTION))
    verdict = contract.verdict(response.headers)
    assert (verdict.outcome, verdict.x_cache) == ("miss", "MISS")
    assert verdict.params.get("stored") is True
    assert verdict.age is None
    assert verdict.entry
    cached.wait(ask(QUESTION))
    assert proxy.admin.get(f"/api/v1/entries/{verdict.entry}").status_code == 200


def test_an_exact_hit_says_how_old_it_is_and_how_long_it_lives(send, cached, ask):
    entry = contract.verdict(send(ask(QUESTION)).headers).entry
    cached.wait(ask(QUESTION))
    verdict = contract.verdict(send(ask(QUESTION)).headers)
    assert (verdict.outcome, verdict.x_cache, verdict.detail) == ("hit_exact", "HIT", "exact")
    assert verdict.entry == entry
    assert 0 <= verdict.age <= 60
    assert 3600 - 60 <= verdict.params["ttl"] <= 3600
    assert verdict.similarity is None


def test_a_semantic_hit_says_how_near_it_was(send, cached, ask):
    entry = contract.verdict(send(ask(QUESTION)).headers).entry
    cached.wait(ask(PARAPHRASE))
    verdict = contract.verdict(send(ask(PARAPHRASE)).headers)
    assert (verdict.outcome, verdict.x_cache) == ("hit_semantic", "HIT")
    assert 0.95 <= verdict.similarity <= 1.0
    assert verdict.entry == entry
    assert verdict.age is not None


def test_server_timing_tells_the_stages(send, cached, ask):
    missed = contract.server_timing(send(ask(QUESTION)).headers)
    cached.wait(ask(PARAPHRASE))
    semantic = contract.server_timing(send(ask(PARAPHRASE)).headers)
    exact = contract.server_timing(send(ask(QUESTION)).headers)
    assert {"read", "key", "exact", "embed", "search", "total"} <= semantic.keys()
    assert {"read", "key", "exact", "total"} <= exact.keys()
    assert exact.keys().isdisjoint({"embed", "search", "connect"})
    assert {"embed", "search", "first"} <= missed.keys() | {"first"}
    assert missed["total"] >= missed.get("first", 0)


def test_the_entry_can_be_read_and_deleted(send, cached: Cached, proxy, ask):
    entry = contract.verdict(send(ask(QUESTION)).headers).entry
    cached.wait(ask(PARAPHRASE))
    path = f"/api/v1/entries/{entry}"
    assert proxy.admin.get(path).json()
    assert proxy.admin.delete(path).is_success
    assert proxy.admin.get(path).status_code == 404
    for prompt in (QUESTION, PARAPHRASE):
        assert cached.lookup(ask(prompt)).status_code == 504


def test_no_cache_forwards_and_refreshes(send, cached, sim, ask):
    old = contract.verdict(send(ask(QUESTION)).headers)
    cached.wait(ask(QUESTION))
    sim.reset()
    response = send(ask(QUESTION), cache_control="no-cache")
    assert contract.verdict(response.headers).outcome in {"request", "bypass"}
    assert sim.calls() == 1
    fresh = response.json()["id"]
    assert old.entry
    assert send(ask(QUESTION)).json()["id"] == fresh
    assert sim.calls() == 1


def test_no_store_leaves_nothing_behind(send, cached: Cached, sim, ask):
    sim.reset()
    response = send(ask(QUESTION), cache_control="no-store")
    verdict = contract.verdict(response.headers)
    assert response.status_code == 200
    assert "stored" not in verdict.params
    assert cached.lookup(ask(QUESTION)).status_code == 504
    send(ask(QUESTION), cache_control="no-store")
    assert sim.calls() == 2


def test_max_age_bounds_what_is_served(send, cached, sim, ask):
    send(ask(QUESTION))
    cached.wait(ask(QUESTION))
    sim.reset()
    assert contract.verdict(send(ask(QUESTION), cache_control="max-age=600").headers).age <= 600
    assert sim.calls() == 0
    response = send(ask(QUESTION), cache_control="max-age=0")
    assert contract.verdict(response.headers).x_cache != "HIT"
    assert sim.calls() == 1


def test_only_if_cached_never_reaches_the_upstream(send, sim, ask):
    sim.reset()
    response = send(ask(QUESTION), cache_control="only-if-cached")
    assert response.status_code == 504
    error = response.json()["error"]
    assert error["message"] and error["code"] == "only_if_cached"
    assert sim.calls() == 0


def test_mode_off_passes_by(send, cached, sim, ask):
    send(ask(QUESTION))
    cached.wait(ask(QUESTION))
    sim.reset()
    verdict = contract.verdict(send(ask(QUESTION), x_reprise_mode="off").headers)
    assert (verdict.outcome, verdict.x_cache) == ("bypass", "BYPASS")
    assert verdict.detail == "mode_off"
    assert sim.calls() == 1


def test_mode_exact_does_not_match_by_meaning(send, cached, sim, ask):
    send(ask(QUESTION))
    cached.wait(ask(PARAPHRASE))
    sim.reset()
    assert contract.verdict(
        send(ask(QUESTION), x_reprise_mode="exact").headers
    ).outcome == "hit_exact"
    verdict = contract.verdict(send(ask(PARAPHRASE), x_reprise_mode="exact").headers)
    assert verdict.outcome == "miss"
    assert sim.calls() == 1


def test_ttl_is_the_requests_choice(send, cached, ask):
    send(ask(QUESTION), x_reprise_ttl="90")
    cached.wait(ask(QUESTION))
    assert contract.verdict(send(ask(QUESTION)).headers).params["ttl"] <= 90


def test_an_entry_ends_with_its_ttl(send, cached: Cached, sim, ask):
    def looked_up(number: int, prompt: str) -> int:
        return cached.lookup(ask(prompt, f"life {number}")).status_code

    def found(number: int) -> int:
        send(ask(QUESTION, f"life {number}"), x_reprise_ttl="2s")
        # One that is never found may have come and gone while the machine stood still.
        rig.eventually(lambda: looked_up(number, QUESTION) == 200, within=5, what="storing")
        return number

    number = rig.at_best(found)
    for prompt in (QUESTION, PARAPHRASE):
        rig.eventually(lambda: looked_up(number, prompt) == 504, what="the end")


def test_namespaces_are_apart(send, via: Way, ask):
    blue = {"x_reprise_namespace": "blue"}
    send(ask(QUESTION), **blue)
    # The same question hits in its own namespace as soon as it is stored, and in no other.
    rig.eventually(lambda: contract.verdict(send(ask(PARAPHRASE), **blue).headers).x_cache == "HIT")
    for other in ({}, {"x_reprise_namespace": "red"}):
        for prompt in (PARAPHRASE, QUESTION):
            response = send(ask(prompt), cache_control="only-if-cached", **other)
            assert response.status_code == 504


def test_min_similarity_can_only_be_raised(send, cached, ask):
    send(ask(QUESTION))
    cached.wait(ask(PARAPHRASE))
    strict = contract.verdict(send(ask(PARAPHRASE), x_reprise_min_similarity="0.9999").headers)
    assert strict.outcome == "miss"
    other = "Where can I find the opening hours of my branch?"
    loose = contract.verdict(send(ask(other), x_reprise_min_similarity="0.1").headers)
    assert loose.outcome == "miss"


@pytest.mark.parametrize("header, value", [
    ("x-reprise-mode", "sometimes"), ("x-reprise-ttl", "soon"),
    ("x-reprise-min-similarity", "near"),
])
def test_an_unreadable_control_header_is_named(send, sim, ask, header, value):
    sim.reset()
    response = send(ask(QUESTION), **{header: value})
    assert response.status_code == 400
    assert header in response.json()["error"]["message"]
    assert sim.calls() == 0


def test_control_headers_stay_here_and_the_body_is_not_touched(via: Way, sim, ask):
    # Spacing, key order, escapes and a duplicate of nothing: bytes that any re-encoding would lose.
    body = json.dumps(ask("Caf\u00e9 \u2713"), indent=3).replace("\u2713", "\\u2713").encode()
    headers = {
        "authorization": "Bearer sk-one", "content-type": "application/json",
        "cache-control": "no-cache", "x-reprise-mode": "exact", "x-reprise-ttl": "60",
        "x-reprise-namespace": "n", "x-reprise-min-similarity": "0.99", "x-vendor": "kept",
    }
    with via.raw() as raw:
        assert raw.post(PATH, content=body, headers=headers).status_code == 200
    last = sim.last_request()
    assert last["body_blake3"] == blake3.blake3(body).hexdigest()
    got = {name: value for name, value in last["headers"]}
    assert got["x-vendor"] == "kept" and got["authorization"] == "Bearer sk-one"
    assert "cache-control" not in got
    assert not [name for name in got if name.startswith("x-reprise")]


def test_answers_name_no_hop_by_hop_header(send, cached, ask):
    for _ in "miss", "hit":
        response = send(ask(QUESTION))
        assert "connection" not in response.headers
        assert "keep-alive" not in response.headers
        cached.wait(ask(QUESTION))


def test_every_outcome_is_counted_once(send, cached, proxy, ask):
    before = proxy.requests()
    send(ask(QUESTION))
    send(ask(QUESTION))
    cached.wait(ask(PARAPHRASE))
    send(ask(PARAPHRASE))
    send(ask("Another thing entirely, please"), x_reprise_mode="off")
    after = proxy.requests()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["miss"] == 1 and grown["bypass"] == 1
    # The waiting above looks up too: at least our own.
    assert grown["hit_semantic"] >= 1
    assert grown["hit_exact"] + grown["collapsed"] >= 1


def test_metrics_are_prometheus_text(proxy, send, ask):
    send(ask(QUESTION))
    text = proxy.admin.get("/metrics").text
    assert re.search(r'^reprise_requests_total\{.*outcome="miss".*\} \d+$', text, re.MULTILINE)
    assert 'reprise_stage_seconds_bucket{stage="' in text
