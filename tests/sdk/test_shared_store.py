"""Two real processes on one real Milvus, which scripts/test-milvus starts."""

import os
import time
import uuid

import httpx2
import pytest

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one", "x-reprise-tags": "shared"}

pytestmark = pytest.mark.skipif(
    not os.environ.get("REPRISE_TEST_MILVUS"), reason="scripts/test-milvus starts one"
)


@pytest.fixture
def replicas(start, sim, tmp_path):
    settings = {
        "store.kind": "milvus",
        "store.url": os.environ.get("REPRISE_TEST_MILVUS", ""),
        "store.prefix": f"sdk {uuid.uuid4().hex[:8]}",
        "store.timeout": "5s",
        "store.tenant_key": "0f" * 32,
    }
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    return [start(sim.url, folder, settings=settings) for folder in folders]


def post(proxy, body):
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        return client.post(PATH, json=body, headers=KEY)


def written(proxy):
    return proxy.admin.get("/api/v1/stats").raise_for_status().json()["writes"]["written_total"]


def until(happens, within):
    deadline = time.monotonic() + within
    while not happens():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_hit_of_the_other_process_and_its_purge(replicas, ask):
    one, two = replicas
    body = ask("Who paints the lighthouse?")
    first = post(one, body)
    until(lambda: written(one) == 1, 30)
    hit = post(two, body)
    assert hit.headers["x-cache"] == "HIT" and hit.content == first.content
    gone = one.admin.post("/api/v1/purge", json={"tag": "shared"}).raise_for_status().json()
    assert gone["entries"] == 1
    until(lambda: post(two, body).headers["x-cache"] == "MISS", 2)


def test_a_killed_process_loses_no_written_answer(replicas, ask):
    one, two = replicas
    bodies = [ask(f"Question number {number} of the killed?") for number in range(20)]
    answers = [post(one, body).content for body in bodies]
    until(lambda: written(one) >= 10, 60)
    kept = written(one)
    one.kill()
    hits = [post(two, body) for body in bodies]
    found = [hit.headers["x-cache"] == "HIT" for hit in hits]
    assert sum(found) >= kept
    assert all(hit.content == answer for hit, answer, was in zip(hits, answers, found) if was)
