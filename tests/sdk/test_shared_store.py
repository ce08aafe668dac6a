"""Two real processes on one real Milvus, which scripts/test-milvus starts, or Qdrant."""

import httpx2
import pytest
from rig import eventually, needs_server_store, promised, server_store
from test_parity import PARAPHRASE, QUESTION

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one", "x-reprise-tags": "shared"}

pytestmark = needs_server_store


@pytest.fixture
def settings():
    # A busy machine's lookups are not what these tests are about.
    return server_store() | {"cache.semantic.lookup_deadline": "20s"}


@pytest.fixture
def replicas(start, sim, tmp_path, settings):
    return [start(sim.url, tmp_path / name, settings=settings) for name in ("one", "two")]


def post(proxy, body, **headers):
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        return client.post(PATH, json=body, headers=KEY | headers)


def labels(proxy):
    stats = proxy.admin.get("/api/v1/stats").raise_for_status().json()
    return stats["semantic"]["wrong_hits"][0]["labels"]


def test_a_hit_of_the_other_process_and_its_purge(replicas, ask):
    one, two = replicas
    body = ask("Who paints the lighthouse?")
    first = post(one, body)
    eventually(lambda: one.written() == 1, 30)
    hit = post(two, body)
    assert hit.headers["x-cache"] == "HIT" and hit.content == first.content
    gone = one.admin.post("/api/v1/purge", json={"tag": "shared"}).raise_for_status().json()
    assert gone["entries"] == 1
    promised(lambda: post(two, body).headers["x-cache"] == "MISS", 2)


def test_a_killed_process_loses_no_written_answer(replicas, ask):
    one, two = replicas
    bodies = [ask(f"Question number {number} of the killed?") for number in range(20)]
    answers = [post(one, body).content for body in bodies]
    eventually(lambda: one.written() >= 10, 60)
    kept = one.written()
    one.kill()
    hits = [post(two, body) for body in bodies]
    found = [hit.headers["x-cache"] == "HIT" for hit in hits]
    assert sum(found) >= kept
    assert all(hit.content == answer for hit, answer, was in zip(hits, answers, found) if was)


def test_a_bad_mark_at_one_process_is_honoured_by_the_other_and_by_one_that_begins(
    replicas, start, sim, tmp_path, settings, ask
):
    one, two = replicas
    body, near = ask(QUESTION), ask(PARAPHRASE)
    entry = post(one, body).headers["x-reprise-entry"]
    eventually(lambda: one.written() == 1, 30)
    hit = post(two, near)
    assert hit.headers["x-cache"] == "HIT" and hit.headers["x-reprise-entry"] == entry
    assert post(two, body).headers["x-cache"] == "HIT", "the other remembers it by itself, too"

    said = {"entry": hit.headers["x-reprise-entry"], "correct": False}
    marked = two.admin.post("/api/v1/feedback", json=said).raise_for_status().json()
    # The hit's own words go with it, if they became a key of the answer by now.
    assert marked["removed"] in (1, 2)
    only = {"cache-control": "only-if-cached"}
    for proxy in (two, one):
        promised(lambda: post(proxy, body, **only).status_code == 504, 2)

    # Asked again, its answer is kept for that very question, and shared with no other.
    assert post(one, body).headers["x-cache"] == "MISS"
    eventually(lambda: one.written() == 2, 30)
    three = start(sim.url, tmp_path / "three", settings=settings)
    for proxy in (one, two, three):
        # What one client of the store wrote, others read a moment later.
        eventually(lambda: post(proxy, body, **only).status_code == 200, 30)
        assert post(proxy, body).headers["x-cache"] == "HIT"
        refused = post(proxy, near, **only)
        assert refused.status_code == 504, refused.headers


def test_a_label_of_one_process_counts_once_at_the_other_and_at_one_that_begins(
    replicas, start, sim, tmp_path, settings, ask
):
    one, two = replicas
    post(one, ask(QUESTION))
    eventually(lambda: one.written() == 1, 30)
    hit = post(one, ask(PARAPHRASE))
    assert hit.headers["x-cache"] == "HIT", list(hit.headers.items())
    # Asking anew right after a hit is a label.
    post(one, ask(PARAPHRASE), **{"cache-control": "no-cache"})
    eventually(lambda: labels(one) == 1, 30)
    eventually(lambda: labels(two) == 1, 30)
    one.stop()
    three = start(sim.url, tmp_path / "three", settings=settings)
    eventually(lambda: labels(three) == 1, 30)
    assert labels(two) == 1
